//! What a coordinator on this machine says in its metrics: how full it is, and how fast it commits.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::report::{Size, bytes, millis};

/// What the metrics say. A coordinator of another version may lack some of it.
#[derive(Debug, Default, PartialEq)]
pub struct Usage {
    pub leases: Option<Size>,
    pub connections: Option<Size>,
    pub watches: Option<Size>,
    pub pending_requests: Option<Size>,
    pub journal: Option<Size>,
    pub disk_free: Option<u64>,
    pub commits: Option<Commits>,
    /// How many requests and connections were refused since its start, by the limit.
    pub refused: BTreeMap<String, u64>,
}

/// How long commits took since its start. The buckets of a histogram bound two of the times.
#[derive(Debug, PartialEq)]
pub struct Commits {
    pub count: u64,
    pub failed: u64,
    pub half_within: Option<Duration>,
    pub most_within: Option<Duration>,
    /// The slowest one of the last ten minutes.
    pub slowest: Option<Duration>,
}

/// The part of the commits that [`Commits::most_within`] bounds.
const MOST: f64 = 0.99;

/// The series of a scrape.
struct Series<'a>(BTreeMap<&'a str, f64>);

impl<'a> Series<'a> {
    fn parse(text: &'a str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let series = lines.filter_map(|line| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name, value.parse().ok()?))
        });
        Series(series.collect())
    }

    fn get(&self, name: &str) -> Option<f64> {
        self.0.get(name).copied().filter(|value| *value >= 0.0)
    }

    fn count(&self, name: &str) -> Option<u64> {
        // Beyond the range, and for a fraction, the nearest number will do.
        self.get(name).map(|value| value as u64)
    }

    fn seconds(&self, name: &str) -> Option<Duration> {
        Duration::try_from_secs_f64(self.get(name)?).ok()
    }

    fn resource(&self, resource: &str) -> Option<Size> {
        Some(Size {
            used: self.count(&format!("turnlock_server_{resource}"))?,
            limit: self.count(&format!("turnlock_server_limit{{resource=\"{resource}\"}}")),
        })
    }

    /// Returns the values of a family with one label, by the value of that label.
    fn family(&self, start: &str) -> impl Iterator<Item = (&'a str, f64)> {
        self.0.iter().filter_map(move |(name, value)| {
            let label = name.strip_prefix(start)?.strip_suffix("\"}")?;
            Some((label, *value))
        })
    }

    fn commits(&self) -> Option<Commits> {
        const NAME: &str = "turnlock_server_commit_duration_seconds";
        let count = self.count(&format!("{NAME}_count"))?;
        let within = |part: f64| {
            let buckets = self.family("turnlock_server_commit_duration_seconds_bucket{le=\"");
            let wanted = part * count as f64;
            let enough = buckets.filter(|(_, commits)| *commits >= wanted);
            let bounds = enough.filter_map(|(bound, _)| bound.parse::<f64>().ok());
            let least = bounds.min_by(f64::total_cmp)?;
            // The last bucket has no bound.
            Duration::try_from_secs_f64(least).ok()
        };
        Some(Commits {
            count,
            failed: self
                .count("turnlock_server_commits_failed_total")
                .unwrap_or(0),
            half_within: within(0.5).filter(|_| count > 0),
            most_within: within(MOST).filter(|_| count > 0),
            slowest: self.seconds("turnlock_server_slowest_commit_seconds"),
        })
    }
}

impl Usage {
    /// Reads the text of a scrape. What it does not understand is left out.
    pub fn parse(text: &str) -> Self {
        let series = Series::parse(text);
        let refused = series.family("turnlock_server_refused_total{reason=\"");
        let refused = refused.filter(|(_, count)| *count > 0.0);
        Usage {
            leases: series.resource("leases"),
            connections: series.resource("connections"),
            watches: series.resource("watches"),
            pending_requests: series.resource("pending_requests"),
            journal: series.resource("journal_bytes"),
            disk_free: series.count("turnlock_server_disk_free_bytes"),
            commits: series.commits(),
            refused: refused
                .map(|(reason, count)| (reason.to_owned(), count as u64))
                .collect(),
        }
    }

    /// Returns the lines about it.
    pub fn rows(&self) -> Vec<[String; 2]> {
        let mut rows = Vec::new();
        let mut add = |what: &str, text: Option<String>| {
            rows.extend(text.map(|text| [what.to_owned(), text]));
        };
        let number = |size: Size| size.to_text(|count| count.to_string());
        add("connections", self.connections.map(number));
        add("watches", self.watches.map(number));
        add("requests pending", self.pending_requests.map(number));
        add("journal", self.journal.map(|size| size.to_text(bytes)));
        let free = self.disk_free.map(|free| format!("{} free", bytes(free)));
        add("disk", free);
        add("commits", self.commits.as_ref().map(Commits::to_text));
        let refused = self.refused.iter();
        let refused: Vec<_> = refused
            .map(|(reason, count)| format!("{count} for {reason}"))
            .collect();
        add("refused", (!refused.is_empty()).then(|| refused.join(", ")));
        rows
    }

    /// Returns the fields about it.
    pub fn to_json(&self) -> Map<String, Value> {
        let mut fields = Map::new();
        for (name, limit, size) in [
            ("connections", "connections_limit", self.connections),
            ("watches", "watches_limit", self.watches),
            (
                "pending_requests",
                "pending_requests_limit",
                self.pending_requests,
            ),
            ("journal_bytes", "journal_limit_bytes", self.journal),
        ] {
            fields.insert(name.to_owned(), json!(size.map(|size| size.used)));
            let most = size.and_then(|size| size.limit);
            fields.insert(limit.to_owned(), json!(most));
        }
        fields.insert("disk_free_bytes".to_owned(), json!(self.disk_free));
        let commits = self.commits.as_ref().map(Commits::to_json);
        fields.insert("commits".to_owned(), json!(commits));
        fields.insert("refused".to_owned(), json!(self.refused));
        fields
    }
}

impl Commits {
    fn to_text(&self) -> String {
        let mut text = self.count.to_string();
        let shown = |duration: Duration| format!("{:.1} ms", millis(duration));
        if let (Some(half), Some(most)) = (self.half_within, self.most_within) {
            text += &format!(
                ", half within {} and 99 % within {}",
                shown(half),
                shown(most)
            );
        }
        if let Some(slowest) = self.slowest.filter(|slowest| !slowest.is_zero()) {
            text += &format!("; the slowest of the last ten minutes {}", shown(slowest));
        }
        if self.failed > 0 {
            text += &format!("; {} failed", self.failed);
        }
        text
    }

    fn to_json(&self) -> Value {
        json!({
            "count": self.count,
            "failed": self.failed,
            "p50_within_ms": self.half_within.map(millis),
            "p99_within_ms": self.most_within.map(millis),
            "slowest_ms": self.slowest.map(millis),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRAPE: &str = "\
# TYPE turnlock_server_watches gauge
turnlock_server_watches 12.0
turnlock_server_limit{resource=\"watches\"} 200000.0
turnlock_server_limit{resource=\"journal_bytes\"} 262144.0
turnlock_server_journal_bytes 65536.0
turnlock_server_disk_free_bytes 1073741824.0
turnlock_server_refused_total{reason=\"leases\"} 0
turnlock_server_refused_total{reason=\"connections\"} 3
turnlock_server_commit_duration_seconds_sum 0.5
turnlock_server_commit_duration_seconds_count 200
turnlock_server_commit_duration_seconds_bucket{le=\"0.001\"} 150
turnlock_server_commit_duration_seconds_bucket{le=\"0.002\"} 197
turnlock_server_commit_duration_seconds_bucket{le=\"0.016\"} 199
turnlock_server_commit_duration_seconds_bucket{le=\"+Inf\"} 200
turnlock_server_slowest_commit_seconds 0.0125
turnlock_server_commits_failed_total 1
";

    #[test]
    fn what_the_metrics_say_is_shown() {
        let rows = Usage::parse(SCRAPE).rows();
        let rows: Vec<_> = rows
            .iter()
            .map(|[what, text]| format!("{what}: {text}"))
            .collect();
        assert_eq!(
            rows,
            [
                "watches: 12 of 200000, 0.0 % full",
                "journal: 64 KiB of 256 KiB, 25.0 % full",
                "disk: 1.0 GiB free",
                "commits: 200, half within 1.0 ms and 99 % within 16.0 ms; the slowest of the last ten minutes 12.5 ms; 1 failed",
                "refused: 3 for connections",
            ]
        );
        let fields = Value::from(Usage::parse(SCRAPE).to_json());
        assert_eq!(fields["watches_limit"], 200_000);
        assert_eq!(fields["connections"], Value::Null);
        assert_eq!(fields["commits"]["p99_within_ms"], 16.0);
        assert_eq!(fields["refused"], json!({"connections": 3}));
    }

    #[test]
    fn what_is_strange_is_left_out() {
        let strange = "turnlock_server_watches -1\nturnlock_server_connections NaN\n\nx\n \u{0} 7\n\
                       turnlock_server_slowest_commit_seconds 1e300\n\
                       turnlock_server_commit_duration_seconds_count 0\n\
                       turnlock_server_commit_duration_seconds_bucket{le=\"0.001\"} 0\n";
        let usage = Usage::parse(strange);
        let commits = usage.commits.as_ref().expect("a count");
        assert_eq!((commits.half_within, commits.slowest), (None, None));
        assert_eq!(usage.rows(), [["commits".to_owned(), "0".to_owned()]]);
        assert_eq!(Usage::parse("").rows(), Vec::<[String; 2]>::new());
    }
}
