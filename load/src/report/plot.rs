//! Latency against workers: a line a backend, and its baseline in a lighter one.

use plotters::prelude::*;

use super::Row;
use crate::measurement::latency;
use crate::workload::Workload;

const SIZE: (u32, u32) = (760, 480);
/// The parts of the colour circle that neighbouring lines are apart.
const HUE_STEP: f64 = 0.19;

type Drawn = Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// The plot as the text of an SVG image.
pub(super) fn svg(rows: &[Row]) -> Result<String, Box<dyn std::error::Error + Send + Sync>> {
    let mut image = String::new();
    draw(rows, &mut image)?;
    Ok(image)
}

fn draw(rows: &[Row], image: &mut String) -> Drawn {
    let area = SVGBackend::with_string(image, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let mut targets: Vec<&str> = rows.iter().map(|row| &*row.target).collect();
    targets.dedup();
    let most = rows.iter().map(|row| row.workers).max().unwrap_or(1);
    let latencies = || rows.iter().map(|row| row.p50_us).filter(|us| *us > 0.0);
    let least_us = latencies().fold(f64::INFINITY, f64::min).min(1e6);
    let most_us = latencies().fold(0.0, f64::max).max(10.0 * least_us);
    let mut chart = ChartBuilder::on(&area)
        .caption("Acquire and release: median latency", ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(72)
        .build_cartesian_2d(
            (1.0..(most as f64).max(2.0)).log_scale(),
            (least_us / 2.0..most_us * 2.0).log_scale(),
        )?;
    chart
        .configure_mesh()
        .x_desc("workers, a lock each (light: the bare requests)")
        .x_label_formatter(&|workers| format!("{workers:.0}"))
        .y_label_formatter(&|us| latency(*us))
        .light_line_style(TRANSPARENT)
        .draw()?;
    for (number, target) in targets.into_iter().enumerate() {
        let colour = HSLColor((number as f64 * HUE_STEP).fract(), 0.75, 0.4);
        let points = |workload| {
            rows.iter()
                .filter(move |row| row.target == target && row.workload == workload)
                .map(|row| (row.workers as f64, row.p50_us))
        };
        let baseline = LineSeries::new(points(Workload::Raw), colour.mix(0.35).stroke_width(1));
        chart.draw_series(baseline)?;
        let locks = points(Workload::Uncontended);
        chart
            .draw_series(LineSeries::new(locks, colour.stroke_width(2)).point_size(3))?
            .label(target)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.2))
        .draw()?;
    area.present()?;
    Ok(())
}
