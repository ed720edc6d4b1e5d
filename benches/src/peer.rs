//! What is measured.

use std::time::Duration;

use async_trait::async_trait;
use lock_core::{Locks, Options};

/// A backend on a server of its own.
#[async_trait]
pub trait Peer: Send + Sync {
    fn name(&self) -> &'static str;

    /// The locks of one contender: a session of its own.
    fn locks(&self) -> Locks;

    /// A client for bare requests, without any lock.
    async fn raw(&self) -> Box<dyn Raw>;

    /// Clients of others on the same server, for comparison.
    fn others(&self, _length: Duration) -> Vec<Other> {
        vec![]
    }
}

/// The bare requests that a lock cannot do without.
#[async_trait]
pub trait Raw: Send {
    /// Creates an entry and deletes it again.
    async fn pair(&mut self);
}

/// What another client's lock did.
pub struct Other {
    pub name: String,
    pub workers: usize,
    pub ops_per_s: f64,
}

/// Long enough for a machine that stands still for a while.
pub fn options() -> Options {
    Options {
        ttl: Duration::from_secs(30),
        owner: "bench".into(),
        ..Options::default()
    }
}
