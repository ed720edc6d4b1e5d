//! Runs the clusters of servers for the runs, and reads their own records of the entries.

use std::time::Duration;

use async_trait::async_trait;
use lock_core::clock::BootInstant;

use crate::history::{Entry, Store};

#[cfg(feature = "embedded")]
pub(super) mod embedded;
#[cfg(feature = "etcd")]
pub(super) mod etcd;
#[cfg(any(feature = "etcd", feature = "embedded"))]
pub mod ledger;
#[cfg(any(feature = "etcd", feature = "embedded"))]
mod watch;
#[cfg(feature = "zk")]
pub(super) mod zk;
#[cfg(feature = "zk")]
mod zk_log;

/// The history of the entries, as the cluster recorded it.
#[derive(Debug, Clone, Default)]
pub struct Account {
    /// The entries by revision of creation.
    pub entries: Vec<Entry>,
    /// The token offsets by the revision that set them.
    pub offsets: Vec<(u64, u64)>,
    /// Revisions, each with an instant by which it was seen.
    pub seen: Vec<(u64, BootInstant)>,
    /// Ranges of revisions for which there is no record.
    pub gaps: Vec<(u64, u64)>,
}

/// Servers in processes of their own, numbered from 0. They end when this is dropped.
#[async_trait]
pub trait Cluster {
    /// Returns the number of servers.
    fn size(&self) -> usize;

    /// Returns the address at which clients reach a member: `HOST:PORT`.
    fn address(&self, member: usize) -> String;

    /// Returns the URL of the coordinator for a contender that reaches the members at these
    /// addresses.
    fn url(&self, addresses: &[String]) -> String;

    /// Returns the facts about the store that the rules need, for sessions of at most this time to
    /// live.
    fn store(&self, ttl: Duration) -> Store;

    /// Sends SIGSTOP.
    fn pause(&mut self, member: usize);

    /// Sends SIGCONT.
    fn resume(&mut self, member: usize);

    /// Sends SIGKILL.
    fn kill(&mut self, member: usize);

    /// Starts a killed member on its old data, without waiting for it.
    fn start(&mut self, member: usize);

    /// Returns whether members can be cut off from each other.
    fn isolates(&self) -> bool {
        false
    }

    /// Cuts a member off from the others, but not from its clients.
    fn isolate(&mut self, _member: usize) {}

    /// Ends the isolation of a member.
    fn rejoin(&mut self, _member: usize) {}

    /// Returns the events in the queues, from the first revision to now. All faults of the servers
    /// are over by then.
    async fn account(&mut self) -> Account;
}
