//! A plot of latency against workers as an SVG image: a line a target, and its baseline in a
//! lighter one. Both axes are logarithmic.

use std::fmt::Write;

use super::Row;
use crate::measurement::latency;
use crate::workload::Workload;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 480.0;
/// The edges of the field that the lines are drawn in.
const LEFT: f64 = 84.0;
const RIGHT: f64 = WIDTH - 12.0;
const TOP: f64 = 44.0;
const BOTTOM: f64 = HEIGHT - 56.0;
/// What part of the colour circle lies between neighbouring lines.
const HUE_STEP: f64 = 0.19;

/// Returns the plot of these rows as the text of an SVG image.
pub(super) fn svg(rows: &[Row]) -> String {
    let axes = Axes::around(rows);
    let mut image = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">
<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>
<text x="{}" y="26" font-size="20" text-anchor="middle">Acquire and release: median latency</text>
"##,
        WIDTH / 2.0
    );
    axes.draw(&mut image);
    let mut targets: Vec<&str> = rows.iter().map(|row| &*row.target).collect();
    targets.dedup();
    for (number, target) in targets.into_iter().enumerate() {
        let hue = (number as f64 * HUE_STEP).fract() * 360.0;
        let colour = format!("hsl({hue:.0}, 75%, 40%)");
        let points = |workload| axes.points(rows, target, workload);
        let baseline = points(Workload::Raw);
        line(&mut image, &baseline, &colour, r#" stroke-opacity="0.35""#);
        let locks = points(Workload::Uncontended);
        line(&mut image, &locks, &colour, r#" stroke-width="2""#);
        for (x, y) in locks {
            let dot = format!(r#"<circle cx="{x:.1}" cy="{y:.1}" r="3" fill="{colour}"/>"#);
            image.push_str(&dot);
            image.push('\n');
        }
        let y = TOP + 18.0 + 16.0 * number as f64;
        let key = [(LEFT + 10.0, y), (LEFT + 28.0, y)];
        line(&mut image, &key, &colour, r#" stroke-width="2""#);
        text(&mut image, LEFT + 34.0, y + 4.0, "start", &escape(target));
    }
    image.push_str("</svg>\n");
    image
}

/// The bounds of what is shown: workers from 1, and microseconds.
struct Axes {
    most_workers: f64,
    least_us: f64,
    most_us: f64,
}

impl Axes {
    fn around(rows: &[Row]) -> Self {
        let workers = rows.iter().map(|row| row.workers).max().unwrap_or(1);
        let latencies = || rows.iter().map(|row| row.p50_us).filter(|us| *us > 0.0);
        let least_us = latencies().fold(f64::INFINITY, f64::min).min(1e6);
        Axes {
            most_workers: (workers as f64).max(2.0),
            least_us: least_us / 2.0,
            most_us: 2.0 * latencies().fold(0.0, f64::max).max(10.0 * least_us),
        }
    }

    fn x(&self, workers: f64) -> f64 {
        LEFT + (RIGHT - LEFT) * workers.ln() / self.most_workers.ln()
    }

    fn y(&self, us: f64) -> f64 {
        let part = (us / self.least_us).ln() / (self.most_us / self.least_us).ln();
        BOTTOM - (BOTTOM - TOP) * part
    }

    fn points(&self, rows: &[Row], target: &str, workload: Workload) -> Vec<(f64, f64)> {
        rows.iter()
            .filter(|row| row.target == target && row.workload == workload && row.p50_us > 0.0)
            .map(|row| (self.x(row.workers as f64), self.y(row.p50_us)))
            .collect()
    }

    /// Draws the grid and its labels: powers of two of workers, powers of ten of latency.
    fn draw(&self, image: &mut String) {
        const GRID: &str = r#" stroke-opacity="0.25""#;
        let mut workers = 1.0;
        while workers <= self.most_workers {
            let x = self.x(workers);
            line(image, &[(x, TOP), (x, BOTTOM)], "#000", GRID);
            text(image, x, BOTTOM + 18.0, "middle", &workers.to_string());
            workers *= 2.0;
        }
        let mut us = 10_f64.powf(self.least_us.log10().ceil());
        while us <= self.most_us {
            let y = self.y(us);
            line(image, &[(LEFT, y), (RIGHT, y)], "#000", GRID);
            text(image, LEFT - 8.0, y + 4.0, "end", &latency(us));
            us *= 10.0;
        }
        let frame = [(LEFT, TOP), (LEFT, BOTTOM), (RIGHT, BOTTOM)];
        line(image, &frame, "#000", "");
        let below = "workers, a lock each (light: the bare requests)";
        text(image, (LEFT + RIGHT) / 2.0, HEIGHT - 14.0, "middle", below);
    }
}

fn line(image: &mut String, points: &[(f64, f64)], colour: &str, style: &str) {
    let points: Vec<String> = points
        .iter()
        .map(|(x, y)| format!("{x:.1},{y:.1}"))
        .collect();
    let points = points.join(" ");
    // Writing to a text cannot fail.
    let _ = writeln!(
        image,
        r#"<polyline points="{points}" fill="none" stroke="{colour}"{style}/>"#
    );
}

fn text(image: &mut String, x: f64, y: f64, anchor: &str, words: &str) {
    let _ = writeln!(
        image,
        r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}">{words}</text>"#
    );
}

/// Returns the text with what XML has a meaning for escaped.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(workload: Workload, workers: usize, p50_us: f64) -> Row {
        Row {
            target: "a<b".into(),
            workload,
            workers,
            ops_per_s: 1.0,
            p50_us,
            p99_us: p50_us,
            of_raw: None,
        }
    }

    #[test]
    fn all_that_is_drawn_lies_in_the_field() {
        let rows = [
            row(Workload::Uncontended, 1, 4.0),
            row(Workload::Uncontended, 64, 90_000.0),
            row(Workload::Raw, 1, 3.0),
            // What never ended has no latency.
            row(Workload::Raw, 64, 0.0),
        ];
        let image = svg(&rows);
        assert!(
            image.contains("a&lt;b") && !image.contains("a<b"),
            "{image}"
        );
        assert!(!image.contains("NaN") && !image.contains("inf"), "{image}");
        assert_eq!(image.matches("<circle").count(), 2);
        let axes = Axes::around(&rows);
        for (workload, count) in [(Workload::Uncontended, 2), (Workload::Raw, 1)] {
            let points = axes.points(&rows, "a<b", workload);
            assert_eq!(points.len(), count);
            for (x, y) in points {
                assert!((LEFT..=RIGHT).contains(&x), "{x}");
                assert!((TOP..=BOTTOM).contains(&y), "{y}");
            }
        }
    }

    #[test]
    fn nothing_measured_is_an_empty_plot() {
        let image = svg(&[]);
        assert!(!image.contains("NaN") && !image.contains("inf"), "{image}");
    }
}
