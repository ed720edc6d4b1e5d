//! The metrics of a server, as a scrape shows them.

mod calls;
mod methods;
mod queues;

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeMetric, MetricEncoder, prometheus_text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use tokio::sync::watch;

pub(super) use self::calls::{CallMetrics, CountCalls};
use self::queues::Queues;
use super::connection::MAX_CONNECTIONS;
use crate::coordinator::Coordinator;

/// The media type of a scrape.
pub(super) const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The metrics of one server.
#[derive(Debug)]
pub(super) struct Metrics {
    registry: Registry,
    calls: Arc<CallMetrics>,
}

impl Metrics {
    pub(super) fn new(coordinator: Coordinator, connections: watch::Receiver<usize>) -> Self {
        let calls = Arc::new(CallMetrics::new());
        let mut registry = Registry::default();
        calls.register(&mut registry);
        registry.register_collector(Box::new(Scrape {
            coordinator,
            connections,
            calls: Arc::clone(&calls),
        }));
        Metrics { registry, calls }
    }

    pub(super) fn calls(&self) -> &Arc<CallMetrics> {
        &self.calls
    }

    /// Returns the text of a scrape. This may take a while: the locks are counted.
    pub(super) fn gather(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        prometheus_text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// What is read at each scrape.
#[derive(Debug)]
struct Scrape {
    coordinator: Coordinator,
    connections: watch::Receiver<usize>,
    calls: Arc<CallMetrics>,
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let encoder = &mut encoder;
        self.encode_locks(encoder)?;
        self.encode_resources(encoder)?;
        self.encode_leases(encoder)?;
        self.encode_disk(encoder)?;
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        let help = "The version of Turnlock; the value is 1.";
        gauges(encoder, "turnlock_build_info", help, [(version, 1.0)])
    }
}

impl Scrape {
    fn encode_locks(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let queues = Queues::count(&self.coordinator);
        gauges(
            encoder,
            "turnlock_server_locks",
            "Locks that are held, by whether somebody waits for them.",
            [
                ([("state", "held")], queues.held as f64),
                ([("state", "contended")], queues.contended as f64),
            ],
        )?;
        let help = "Contenders that wait for a lock.";
        gauge(
            encoder,
            "turnlock_server_waiters",
            help,
            queues.waiters as f64,
        )?;
        let help = "The most contenders that wait for one lock.";
        gauge(
            encoder,
            "turnlock_server_longest_queue",
            help,
            queues.longest as f64,
        )
    }

    fn encode_resources(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let now = self.coordinator.gauges();
        let limits = self.coordinator.limits();
        let connections = *self.connections.borrow();
        let resources = [
            (
                "leases",
                "Live leases.",
                now.leases as f64,
                limits.leases as f64,
            ),
            (
                "watches",
                "Live watches.",
                now.watches as f64,
                limits.watches as f64,
            ),
            (
                "connections",
                "Connections of clients.",
                connections as f64,
                MAX_CONNECTIONS as f64,
            ),
            (
                "pending_requests",
                "Requests that wait for the next commit.",
                now.pending_requests as f64,
                limits.pending_requests as f64,
            ),
            (
                "content_bytes",
                "Bytes of keys and values.",
                now.content_bytes as f64,
                limits.store_bytes as f64,
            ),
        ];
        for (resource, help, value, _) in resources {
            gauge(encoder, &format!("turnlock_server_{resource}"), help, value)?;
        }
        gauges(
            encoder,
            "turnlock_server_limit",
            "The most of a resource that there may be.",
            resources.map(|(resource, _, _, limit)| ([("resource", resource)], limit)),
        )?;
        let help = "Calls that are under way, streams among them.";
        gauge(
            encoder,
            "turnlock_server_streams",
            help,
            self.calls.under_way() as f64,
        )?;
        gauge(
            encoder,
            "turnlock_server_keys",
            "Keys in the store.",
            now.keys as f64,
        )?;
        let help = "The length of the store's file in bytes, 0 in memory.";
        gauge(
            encoder,
            "turnlock_server_store_bytes",
            help,
            now.store_bytes as f64,
        )?;
        let help = "1 if writes are refused, because there is no room or the server ends.";
        let refuses = f64::from(u8::from(now.refuses_writes));
        gauge(encoder, "turnlock_server_writes_refused", help, refuses)?;
        let name = "turnlock_server_lease_remaining_ratio";
        let help = "The part of its time to live that is left to the lease that expires first; \
                    absent without leases.";
        let least = now.least_remaining.map(|least| (NO_LABELS, least));
        gauges(encoder, name, help, least)
    }

    fn encode_leases(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let figures = self.coordinator.figures();
        let help = "Requests that were refused because a limit was reached.";
        let mut family = encoder.encode_descriptor(
            "turnlock_server_refused",
            help,
            None,
            MetricType::Counter,
        )?;
        for (reason, count) in figures.refused() {
            let labels = [("reason", reason)];
            ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
        }
        let help = "Leases that expired because nobody renewed them.";
        let name = "turnlock_server_leases_expired";
        ConstCounter::new(figures.expired()).encode(counter(encoder, name, help)?)?;
        let help = "Delays of the server that it gave back to all leases.";
        let name = "turnlock_server_late_seconds";
        ConstCounter::new(figures.late().as_secs_f64()).encode(counter(encoder, name, help)?)?;
        let help = "How long commits took, with the sync of the journal.";
        let name = "turnlock_server_commit_duration_seconds";
        let commits = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
        figures.commits().encode(commits)
    }

    fn encode_disk(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let file = self.coordinator.file();
        let free = file.and_then(|file| rustix::fs::statvfs(&file).ok());
        let free = free.map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize) as f64);
        let help = "Bytes that are free on the disk of the store; absent in memory.";
        let name = "turnlock_server_disk_free_bytes";
        gauges(encoder, name, help, free.map(|free| (NO_LABELS, free)))
    }
}

const NO_LABELS: [(&str, &str); 0] = [];

fn counter<'a>(
    encoder: &'a mut DescriptorEncoder<'_>,
    name: &'a str,
    help: &str,
) -> Result<MetricEncoder<'a>, fmt::Error> {
    encoder.encode_descriptor(name, help, None, MetricType::Counter)
}

fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: f64) -> fmt::Result {
    gauges(encoder, name, help, [(NO_LABELS, value)])
}

/// Encodes the gauges of one family.
fn gauges<const N: usize>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    series: impl IntoIterator<Item = ([(&'static str, &'static str); N], f64)>,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (labels, value) in series {
        ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}
