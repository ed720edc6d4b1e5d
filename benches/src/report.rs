//! One line of JSON a measurement, and the medians at the end.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::load::Figures;
use crate::peer::Other;
use crate::workload::Workload;

/// The floor's key in a report.
const FLOOR: &str = "raw 1";

/// What was measured of one peer.
pub struct Report {
    peer: &'static str,
    /// By workload and workers: operations a second, a figure a round.
    rates: BTreeMap<String, Vec<f64>>,
}

#[derive(Serialize)]
struct Line<'a> {
    peer: &'a str,
    workload: Workload,
    workers: usize,
    ops: u64,
    seconds: f64,
    ops_per_s: f64,
    p50_us: u64,
    p99_us: u64,
}

impl Report {
    pub fn new(peer: &'static str) -> Self {
        Report {
            peer,
            rates: BTreeMap::new(),
        }
    }

    pub fn add(&mut self, workload: Workload, workers: usize, figures: &Figures) {
        let seconds = figures.elapsed.as_secs_f64();
        // More operations than fit into 52 bits are not made.
        let ops_per_s = figures.ops as f64 / seconds;
        let line = Line {
            peer: self.peer,
            workload,
            workers,
            ops: figures.ops,
            seconds,
            ops_per_s,
            p50_us: figures.latency.value_at_quantile(0.5),
            p99_us: figures.latency.value_at_quantile(0.99),
        };
        println!(
            "{}",
            serde_json::to_string(&line).expect("numbers serialise")
        );
        let name = serde_json::to_value(workload).expect("a name");
        let name = name.as_str().unwrap_or_default();
        self.rate(format!("{name} {workers}"), ops_per_s);
    }

    pub fn add_other(&mut self, other: &Other) {
        self.rate(format!("{} {}", other.name, other.workers), other.ops_per_s);
    }

    fn rate(&mut self, key: String, rate: f64) {
        self.rates.entry(key).or_default().push(rate);
    }

    /// The median rate of each, and the median of its ratios to the floor of the same round.
    pub fn conclude(&self) {
        let floor = &self.rates[FLOOR];
        eprintln!("{:<24} {:>10} {:>8}", self.peer, "ops/s", "of raw");
        for (key, rates) in &self.rates {
            let ratios = rates.iter().zip(floor).map(|(rate, raw)| rate / raw);
            eprintln!(
                "  {key:<22} {:>10.0} {:>8.2}",
                median(rates.iter().copied()),
                median(ratios)
            );
        }
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
