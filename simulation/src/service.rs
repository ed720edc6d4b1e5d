//! What contenders reach: a server, or a store that only follows the contract of a backend.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use testkit::chaos::servers::Account;

use crate::faults::Outage;
use crate::fleet::Access;
use crate::network::Host;
use crate::process::{End, Process};

/// A service over all its lives, with the process that it runs in.
#[async_trait(?Send)]
pub trait Service {
    /// Returns its machine, as the network finds it.
    fn host(&self) -> Arc<Host>;

    /// Returns the time that it may need after a fault. Acquires have to end 15 s after that: the
    /// longest time to live, and 10 s in which a real machine may be late. Here these are for the
    /// holds that are under way, of up to two times to live.
    fn recovery(&self) -> Duration;

    /// Starts a process on what the last one left.
    ///
    /// # Panics
    /// If what the last one acknowledged is lost.
    async fn start(&mut self);

    /// Ends the process.
    fn end(&mut self, end: End);

    /// Returns the process, if it runs.
    fn process(&self) -> Option<Arc<Process>>;

    /// Returns how contenders reach it now.
    fn access(&self) -> Access;

    /// Begins an outage that the process survives.
    fn begin(&mut self, outage: Outage);

    /// Ends such an outage.
    fn mend(&mut self, outage: Outage);

    /// Returns whether it has stopped by itself, and can be started again.
    fn has_stopped(&self) -> bool;

    /// Returns the history of the queues.
    fn account(&self) -> Account;

    /// Returns whether all queues are empty.
    fn queues_are_empty(&self) -> bool {
        let lives = self.process().is_some_and(|process| !process.has_ended());
        let mut entries = self.account().entries.into_iter();
        lives && entries.all(|entry| entry.deleted.is_some())
    }

    /// Returns a checksum of what it has kept.
    fn digest(&self) -> u32;
}
