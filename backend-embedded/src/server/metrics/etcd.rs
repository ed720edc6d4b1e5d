//! The names under which etcd's own alerts and dashboards look for the metrics of an etcd.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use super::encode::{counter, gauge, histogram};
use crate::coordinator::Coordinator;

/// What is read at each scrape, if a server is to be watched as an etcd.
#[derive(Debug)]
pub(super) struct EtcdNames(pub(super) Coordinator);

impl Collector for EtcdNames {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let encoder = &mut encoder;
        let figures = self.0.figures();
        // It is the only member. While it answers, it leads.
        let help = "Whether there is a leader; always 1.";
        gauge(encoder, "etcd_server_has_leader", help, 1.0)?;
        let help = "Whether this member is the leader; always 1.";
        gauge(encoder, "etcd_server_is_leader", help, 1.0)?;
        // The quota counts keys and values, not the length of the file. The alerts compare these two.
        let help = "Bytes of keys and values, which the quota counts.";
        let name = "etcd_mvcc_db_total_size_in_bytes";
        let used = self.0.status().db_size_in_use;
        gauge(encoder, name, help, used as f64)?;
        let help = "The most bytes of keys and values.";
        let quota = self.0.limits().store_bytes;
        gauge(
            encoder,
            "etcd_server_quota_backend_bytes",
            help,
            quota as f64,
        )?;
        let help = "How long syncs of the journal took.";
        let name = "etcd_disk_wal_fsync_duration_seconds";
        histogram(encoder, name, help, figures.syncs().journal.seconds())?;
        let help = "How long commits took, with the sync of the journal.";
        let name = "etcd_disk_backend_commit_duration_seconds";
        histogram(encoder, name, help, figures.commits())?;
        let help = "Commits that could not be recorded.";
        let failed = figures.failed_commits() as f64;
        counter(encoder, "etcd_server_proposals_failed", help, failed)
    }
}
