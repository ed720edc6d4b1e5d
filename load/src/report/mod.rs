//! The report of a survey: medians over its rounds, their ratios to the baseline of the same round,
//! and warnings if the figures cannot be trusted.

mod machine;
mod markdown;
mod plot;

use std::io;
use std::path::Path;

use serde::Serialize;

use crate::measurement::{Measurement, latency, rate};
use crate::workload::Workload;

pub use machine::Machine;

/// The largest spread of the baseline between rounds, as a part of its median. If the spread is
/// larger, the machine did other things meanwhile.
const BELIEVABLE_SPREAD: f64 = 0.3;

/// All measurements of a survey, in the order in which they were taken.
#[derive(Debug, Clone, Default)]
pub struct Report {
    lines: Vec<Measurement>,
}

/// The medians of one target, workload and number of workers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// The name of the coordinator; in JSON, the field `peer`.
    #[serde(rename = "peer")]
    pub target: String,
    /// The workload.
    pub workload: Workload,
    /// The number of workers.
    pub workers: usize,
    /// The median of the rounds' rates.
    pub ops_per_s: f64,
    /// The median of the rounds' median latencies, in microseconds.
    pub p50_us: f64,
    /// The median of the rounds' 99th percentiles, in microseconds.
    pub p99_us: f64,
    /// The median of the ratios to the [baseline](Workload::baseline) of the same round, or `None`
    /// if the baseline was not measured.
    pub of_raw: Option<f64>,
}

#[derive(Serialize)]
struct Document<'a> {
    machine: Machine,
    version: &'static str,
    noise: Vec<String>,
    medians: Vec<Row>,
    lines: &'a [Measurement],
}

impl Report {
    /// Adds a measurement.
    pub fn add(&mut self, line: Measurement) {
        self.lines.push(line);
    }

    /// Returns the medians, target by target, in the order of the first measurements.
    pub fn rows(&self) -> Vec<Row> {
        let mut rows: Vec<Row> = vec![];
        for target in self.targets() {
            for line in self.lines.iter().filter(|line| line.target == target) {
                let is_new = |row: &Row| {
                    row.target != target
                        || (row.workload, row.workers) != (line.workload, line.workers)
                };
                if rows.iter().all(is_new) {
                    rows.push(self.row(&target, line.workload, line.workers));
                }
            }
        }
        rows
    }

    fn row(&self, target: &str, workload: Workload, workers: usize) -> Row {
        let of = |figure: fn(&Measurement) -> f64| {
            median(self.rounds(target, workload, workers).map(figure))
        };
        let baselines = self.rounds(target, Workload::Raw, workload.baseline(workers));
        let ratios = self.rounds(target, workload, workers).zip(baselines);
        Row {
            target: target.to_owned(),
            workload,
            workers,
            ops_per_s: of(|line| line.ops_per_s).unwrap_or_default(),
            p50_us: of(|line| line.p50_us).unwrap_or_default(),
            p99_us: of(|line| line.p99_us).unwrap_or_default(),
            of_raw: median(ratios.map(|(line, raw)| line.ops_per_s / raw.ops_per_s)),
        }
    }

    fn rounds(
        &self,
        target: &str,
        workload: Workload,
        workers: usize,
    ) -> impl Iterator<Item = &Measurement> {
        self.lines.iter().filter(move |line| {
            line.target == target && line.workload == workload && line.workers == workers
        })
    }

    fn targets(&self) -> Vec<String> {
        let mut targets: Vec<String> = vec![];
        for line in &self.lines {
            if !targets.contains(&line.target) {
                targets.push(line.target.clone());
            }
        }
        targets
    }

    /// Returns warnings about the figures: a text for each target whose baseline differs too much
    /// between rounds.
    pub fn noise(&self) -> Vec<String> {
        let noisy = |target: &String| {
            let rates: Vec<f64> = self
                .rounds(target, Workload::Raw, 1)
                .map(|line| line.ops_per_s)
                .collect();
            let spread = spread(&rates)?;
            (spread > BELIEVABLE_SPREAD).then(|| {
                format!(
                    "the bare requests to {target} differ by {:.0} % between rounds: the machine \
                     was too noisy for these figures to be believed",
                    spread * 100.0
                )
            })
        };
        self.targets().iter().filter_map(noisy).collect()
    }

    /// Returns the medians as rows of text, with a heading first.
    pub fn table(&self) -> Vec<[String; 7]> {
        let heading = [
            "target", "workload", "workers", "ops/s", "p50", "p99", "of raw",
        ];
        let mut table = vec![heading.map(str::to_owned)];
        table.extend(self.rows().into_iter().map(|row| {
            [
                row.target,
                row.workload.to_string(),
                row.workers.to_string(),
                rate(row.ops_per_s),
                latency(row.p50_us),
                latency(row.p99_us),
                row.of_raw.map_or("-".to_owned(), |of| format!("{of:.2}")),
            ]
        }));
        table
    }

    /// Writes `report.md`, `report.json` and `report.svg` into this folder. Creates the folder if
    /// it does not exist.
    ///
    /// # Errors
    /// If the folder or a file cannot be written. The message names the path.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        let machine = Machine::this();
        let named = |path: &Path, error: io::Error| {
            io::Error::new(error.kind(), format!("{}: {error}", path.display()))
        };
        std::fs::create_dir_all(folder).map_err(|error| named(folder, error))?;
        let document = Document {
            version: env!("CARGO_PKG_VERSION"),
            noise: self.noise(),
            medians: self.rows(),
            lines: &self.lines,
            machine: machine.clone(),
        };
        let mut json = serde_json::to_string_pretty(&document)?;
        json.push('\n');
        let files = [
            ("report.md", markdown::page(self, &machine)),
            ("report.json", json),
            ("report.svg", plot::svg(&self.rows())),
        ];
        for (name, text) in files {
            let path = folder.join(name);
            std::fs::write(&path, text).map_err(|error| named(&path, error))?;
        }
        Ok(())
    }
}

/// Returns the median: the middle value, or the upper of the two.
fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// Returns the distance between the extremes as a part of the median, or `None` for less than two
/// values.
fn spread(values: &[f64]) -> Option<f64> {
    let median = median(values.iter().copied())?;
    let max = values.iter().copied().max_by(f64::total_cmp)?;
    let min = values.iter().copied().min_by(f64::total_cmp)?;
    (values.len() > 1).then_some((max - min) / median)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(workload: Workload, workers: usize, ops_per_s: f64) -> Measurement {
        Measurement {
            target: "etcd".into(),
            workload,
            workers,
            ops: 10,
            seconds: 1.0,
            ops_per_s,
            p50_us: 1e6 / ops_per_s,
            p99_us: 2e6 / ops_per_s,
        }
    }

    fn report(raw: [f64; 3]) -> Report {
        let mut report = Report::default();
        for (raw, contended) in raw.into_iter().zip([500.0, 300.0, 800.0]) {
            report.add(line(Workload::Raw, 1, raw));
            report.add(line(Workload::Contended, 16, contended));
        }
        report
    }

    #[test]
    fn ratios_are_those_of_the_same_round() {
        let rows = report([1000.0, 400.0, 1000.0]).rows();
        assert_eq!(rows.len(), 2);
        assert_eq!((rows[0].ops_per_s, rows[0].of_raw), (1000.0, Some(1.0)));
        assert_eq!((rows[1].ops_per_s, rows[1].of_raw), (500.0, Some(0.75)));
        let mut alone = Report::default();
        alone.add(line(Workload::Contended, 16, 1.0));
        assert_eq!(alone.rows()[0].of_raw, None);
    }

    #[test]
    fn a_baseline_that_moves_is_reported() {
        assert_eq!(report([1000.0, 900.0, 1100.0]).noise(), [""; 0]);
        let noise = report([1000.0, 400.0, 1100.0]).noise();
        assert!(noise[0].contains("to etcd differ by 70 %"), "{noise:?}");
    }

    #[test]
    fn a_report_is_three_files() {
        let folder = std::env::temp_dir().join(format!("turnlock-report-{}", fastrand::u64(..)));
        report([1000.0, 400.0, 1000.0])
            .write(&folder.join("new"))
            .expect("the folder can be written");
        let read = |name| std::fs::read_to_string(folder.join("new").join(name)).expect("written");
        let (page, json, plot) = (read("report.md"), read("report.json"), read("report.svg"));
        assert!(page.contains("| etcd | contended | 16 | 500 |"), "{page}");
        assert!(page.contains("too noisy"), "{page}");
        let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        assert_eq!(json["medians"][1]["of_raw"], 0.75);
        assert_eq!(json["lines"].as_array().map(Vec::len), Some(6));
        assert!(plot.starts_with("<svg") && plot.contains("etcd"), "{plot}");
        std::fs::remove_dir_all(folder).expect("it was there");
        let error = report([1.0; 3]).write(Path::new("/proc/none"));
        assert!(
            error
                .expect_err("no such folder")
                .to_string()
                .contains("/proc/none")
        );
    }
}
