//! The result of one measurement, and how figures are printed.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::generator::Plan;
use crate::workload::Workload;

/// The result of one measurement: in reports, a line of JSON. Latencies are those of whole
/// operations, in microseconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measurement {
    /// The name of the coordinator; in JSON, the field `peer`.
    #[serde(rename = "peer")]
    pub target: String,
    /// The workload.
    pub workload: Workload,
    /// The number of workers.
    pub workers: usize,
    /// The number of operations that ended in the time that was measured.
    pub ops: u64,
    /// The length of the measurement in seconds.
    pub seconds: f64,
    /// The number of operations a second.
    pub ops_per_s: f64,
    /// The median latency in microseconds, or 0 if no operation ended.
    pub p50_us: f64,
    /// The latency in microseconds that one operation in a hundred exceeded. Those above a minute
    /// count as a minute.
    pub p99_us: f64,
}

impl Measurement {
    pub(crate) fn new(target: &str, plan: Plan, elapsed: Duration, nanos: &Histogram<u32>) -> Self {
        let seconds = elapsed.as_secs_f64();
        // More operations than fit into 52 bits are not made.
        let ops_per_s = nanos.len() as f64 / seconds;
        let quantile = |q| nanos.value_at_quantile(q) as f64 / 1000.0;
        Measurement {
            target: target.to_owned(),
            workload: plan.workload,
            workers: plan.workers,
            ops: nanos.len(),
            seconds: round_to(seconds, 3),
            ops_per_s: round_to(ops_per_s, 1),
            p50_us: round_to(quantile(0.5), 1),
            p99_us: round_to(quantile(0.99), 1),
        }
    }
}

fn round_to(value: f64, places: i32) -> f64 {
    let unit = 10_f64.powi(places);
    (value * unit).round() / unit
}

/// Formats a latency for people: three digits and a unit.
pub(crate) fn latency(us: f64) -> String {
    match us {
        0.0..1_000.0 => format!("{} µs", digits(us)),
        1_000.0..1_000_000.0 => format!("{} ms", digits(us / 1e3)),
        _ => format!("{} s", digits(us / 1e6)),
    }
}

/// Formats three digits, or all digits before the point if there are more.
fn digits(value: f64) -> String {
    match value {
        0.0..10.0 => format!("{value:.2}"),
        10.0..100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// Formats a rate for people.
pub(crate) fn rate(ops_per_s: f64) -> String {
    match ops_per_s {
        0.0..1_000.0 => digits(ops_per_s),
        _ => {
            let whole = format!("{ops_per_s:.0}");
            let (head, tail) = whole.split_at(whole.len() - 3);
            match head.len() {
                0..4 => format!("{head},{tail}"),
                long => format!("{},{},{tail}", &head[..long - 3], &head[long - 3..]),
            }
        }
    }
}

impl std::fmt::Display for Measurement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}: {} with {}: {} operations/s, p50 {}, p99 {}",
            self.target,
            self.workload,
            workers(self.workers),
            rate(self.ops_per_s),
            latency(self.p50_us),
            latency(self.p99_us)
        )
    }
}

/// Formats a number of workers for people.
pub(crate) fn workers(count: usize) -> String {
    match count {
        1 => "1 worker".to_owned(),
        _ => format!("{count} workers"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::latencies::Latencies;

    #[test]
    fn figures_have_three_digits_and_a_unit() {
        let shown = [1.234, 42.0, 999.0, 1_500.0, 65_432.0, 2_000_000.0].map(latency);
        assert_eq!(
            shown,
            [
                "1.23 µs", "42.0 µs", "999 µs", "1.50 ms", "65.4 ms", "2.00 s"
            ]
        );
        let shown = [7.0, 640.2, 5_069.0, 123_456.0, 1_234_567.0].map(rate);
        assert_eq!(shown, ["7.00", "640", "5,069", "123,456", "1,234,567"]);
    }

    #[test]
    fn a_line_of_json_has_the_agreed_fields() {
        let plan = Plan {
            workload: Workload::Drain,
            workers: 2,
            length: Duration::from_secs(1),
        };
        let latencies = Latencies::new();
        for micros in 1..=3 {
            latencies.record(0, Duration::from_micros(micros));
        }
        let length = Duration::from_millis(1500);
        let line = Measurement::new("etcd", plan, length, &latencies.sum());
        assert_eq!(
            serde_json::to_string(&line).expect("plain data"),
            concat!(
                r#"{"peer":"etcd","workload":"drain","workers":2,"ops":3,"#,
                r#""seconds":1.5,"ops_per_s":2.0,"p50_us":2.0,"p99_us":3.0}"#
            )
        );
    }
}
