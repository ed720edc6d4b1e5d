//! What is read at each scrape.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;

use super::calls::CallMetrics;
use super::census::Census;
use super::encode::{NO_LABELS, counter, gauge, gauges, histogram};
use super::queues::Queues;
use crate::coordinator::{Coordinator, Gauges};
use crate::store::JOURNAL_BYTES;

/// The sources of the values.
#[derive(Debug)]
pub(super) struct Scrape {
    coordinator: Coordinator,
    calls: Arc<CallMetrics>,
    /// What the last scrape has seen.
    census: Mutex<Census>,
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let encoder = &mut encoder;
        self.encode_locks(encoder)?;
        let now = self.coordinator.gauges();
        self.encode_resources(encoder, &now)?;
        self.encode_counters(encoder)?;
        self.encode_commits(encoder, &now)?;
        self.encode_disk(encoder, &now)?;
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        let help = "The version of Turnlock; the value is 1.";
        gauges(encoder, "turnlock_build_info", help, [(version, 1.0)])
    }
}

impl Scrape {
    pub(super) fn new(coordinator: Coordinator, calls: Arc<CallMetrics>) -> Self {
        Scrape {
            coordinator,
            calls,
            census: Mutex::default(),
        }
    }

    fn encode_locks(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut census = self.census.lock().unwrap_or_else(PoisonError::into_inner);
        let queues = Queues::count(&self.coordinator, &mut census);
        drop(census);
        let (held, contended) = ([("state", "held")], [("state", "contended")]);
        gauges(
            encoder,
            "turnlock_server_locks",
            "Locks that are held, by whether somebody waits for them.",
            [
                (held, queues.held.count as f64),
                (contended, queues.contended.count as f64),
            ],
        )?;
        gauges(
            encoder,
            "turnlock_server_longest_hold_seconds",
            "For how long the longest hold of a lock has gone on, by whether somebody waits for the lock.",
            [
                (held, queues.held.longest_hold.as_secs_f64()),
                (contended, queues.contended.longest_hold.as_secs_f64()),
            ],
        )?;
        let help = "For how long the longest wait for a lock has gone on.";
        let longest = queues.longest_wait.as_secs_f64();
        gauge(
            encoder,
            "turnlock_server_longest_wait_seconds",
            help,
            longest,
        )?;
        let help = "Contenders that wait for a lock.";
        let waiters = queues.waiters as f64;
        gauge(encoder, "turnlock_server_waiters", help, waiters)?;
        let help = "The most contenders that wait for one lock.";
        let longest = queues.longest as f64;
        gauge(encoder, "turnlock_server_longest_queue", help, longest)
    }

    fn encode_resources(&self, encoder: &mut DescriptorEncoder<'_>, now: &Gauges) -> fmt::Result {
        let limits = self.coordinator.limits();
        let clients = self.calls.clients();
        let allowed = clients.limits();
        let (request_bytes, max_request_bytes) = self.calls.traffic().request_bytes();
        let (answer_bytes, max_answer_bytes) = self.calls.traffic().answer_bytes();
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
                "watch_backlog_bytes",
                "Bytes of events that wait for the clients of all watches together.",
                now.watch_backlog_bytes as f64,
                limits.watch_backlog_bytes as f64,
            ),
            (
                "request_bytes",
                "Bytes of long requests that are under way.",
                request_bytes as f64,
                max_request_bytes as f64,
            ),
            (
                "answer_bytes",
                "Bytes of long answers that clients have not taken yet.",
                answer_bytes as f64,
                max_answer_bytes as f64,
            ),
            (
                "connections",
                "Connections of clients.",
                clients.connections() as f64,
                allowed.connections as f64,
            ),
            (
                "streams",
                "Calls that are under way, streams among them, apart from those that keep leases alive.",
                clients.calls() as f64,
                allowed.streams as f64,
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
            (
                "journal_bytes",
                "Bytes of the journal with commits that are not in the store's file yet.",
                now.journal_bytes as f64,
                JOURNAL_BYTES as f64,
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
        let help = "Keys in the store.";
        gauge(encoder, "turnlock_server_keys", help, now.keys as f64)?;
        let help = "1 if writes are refused, because there is no room or the server ends.";
        let refuses = f64::from(u8::from(now.refuses_writes));
        gauge(encoder, "turnlock_server_writes_refused", help, refuses)?;
        let name = "turnlock_server_lease_remaining_ratio";
        let help = "The part of its time to live that is left to the lease that expires first; \
                    absent without leases.";
        let least = now.least_remaining.map(|least| (NO_LABELS, least));
        gauges(encoder, name, help, least)
    }

    fn encode_counters(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let figures = self.coordinator.figures();
        let help = "Requests, and connections, that were refused because a limit was reached.";
        let traffic = self.calls.traffic().refused();
        let clients = self.calls.clients().refused();
        let name = "turnlock_server_refused";
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        let refused = figures.refused().into_iter();
        for (reason, count) in refused.chain(clients).chain(traffic) {
            let labels = [("reason", reason)];
            ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
        }
        let help = "Leases that expired because nobody renewed them.";
        let name = "turnlock_server_leases_expired";
        counter(encoder, name, help, figures.expired() as f64)?;
        let help = "Delays of the server that it gave back to all leases.";
        let name = "turnlock_server_late_seconds";
        counter(encoder, name, help, figures.late().as_secs_f64())
    }

    fn encode_commits(&self, encoder: &mut DescriptorEncoder<'_>, now: &Gauges) -> fmt::Result {
        let figures = self.coordinator.figures();
        let help = "How long commits took, with the sync of the journal.";
        let name = "turnlock_server_commit_duration_seconds";
        histogram(encoder, name, help, figures.commits())?;
        let help = "How long the slowest commit of the last ten minutes took, or takes.";
        let name = "turnlock_server_slowest_commit_seconds";
        gauge(encoder, name, help, now.slowest_commit.as_secs_f64())?;
        let help = "Commits that could not be recorded.";
        let name = "turnlock_server_commits_failed";
        counter(encoder, name, help, figures.failed_commits() as f64)?;
        let help = "How long syncs of the store's files took.";
        let name = "turnlock_server_fsync_duration_seconds";
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
        let syncs = figures.syncs();
        for (file, times) in [("journal", &syncs.journal), ("tables", &syncs.tables)] {
            let labels = [("file", file)];
            (times.seconds()).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn encode_disk(&self, encoder: &mut DescriptorEncoder<'_>, now: &Gauges) -> fmt::Result {
        let help = "The length of the store's file in bytes, 0 in memory.";
        let store = now.store_bytes as f64;
        gauge(encoder, "turnlock_server_store_bytes", help, store)?;
        let file = self.coordinator.file();
        let free = file.and_then(|file| rustix::fs::statvfs(&file).ok());
        let free = free.map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize) as f64);
        let help = "Bytes that are free on the disk of the store; absent in memory.";
        let name = "turnlock_server_disk_free_bytes";
        gauges(encoder, name, help, free.map(|free| (NO_LABELS, free)))
    }
}
