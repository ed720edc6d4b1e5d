//! The clusters of servers that runs are made on, and their own accounts of what they did.

use std::time::Duration;

use async_trait::async_trait;
use lock_core::clock::BootInstant;

use crate::history::{Entry, Store};

#[cfg(feature = "embedded")]
pub mod embedded;
#[cfg(feature = "etcd")]
pub mod etcd;
#[cfg(any(feature = "etcd", feature = "embedded"))]
pub mod watch;
#[cfg(feature = "zk")]
pub mod zk;
#[cfg(feature = "zk")]
mod zk_log;

/// What a cluster did with the entries.
#[derive(Debug, Default)]
pub struct Account {
    pub entries: Vec<Entry>,
    /// Revisions that were seen to be there by an instant.
    pub seen: Vec<(u64, BootInstant)>,
    /// Ranges of revisions of which there is no account.
    pub gaps: Vec<(u64, u64)>,
}

/// Servers in processes of their own, numbered from 0. Dropped, they end.
#[async_trait]
pub trait Cluster {
    /// How many.
    fn size(&self) -> usize;

    /// Where clients reach a member: `HOST:PORT`.
    fn address(&self, member: usize) -> String;

    /// The URL of the coordinator for a contender who reaches the members at these addresses.
    fn url(&self, addresses: &[String]) -> String;

    /// What the rules need to know of the store, for sessions of at most this time to live.
    fn store(&self, ttl: Duration) -> Store;

    /// SIGSTOP.
    fn pause(&mut self, member: usize);

    /// SIGCONT.
    fn resume(&mut self, member: usize);

    /// SIGKILL.
    fn kill(&mut self, member: usize);

    /// Starts one that was killed, on its old data, without waiting for it.
    fn start(&mut self, member: usize);

    /// Whether members can be cut off from each other.
    fn isolates(&self) -> bool {
        false
    }

    /// Cuts a member off from the others, not from its clients.
    fn isolate(&mut self, _member: usize) {}

    /// Ends that.
    fn rejoin(&mut self, _member: usize) {}

    /// What happened in the queues, from the first revision to now. Nothing is wrong with the
    /// servers by then.
    async fn account(&mut self) -> Account;
}
