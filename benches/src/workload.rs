//! The workloads: what one worker does over and over.

use async_trait::async_trait;
use lock_core::{Mutex, Release};
use serde::Serialize;

use crate::peer::{Peer, Raw};

/// What the workers do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Workload {
    /// Bare creates and deletes: the floor.
    Raw,
    /// A lock for each.
    Uncontended,
    /// One lock for all.
    Contended,
}

/// One worker, which does one operation at a time.
#[async_trait]
pub trait Worker: Send {
    async fn step(&mut self);
}

impl Workload {
    pub async fn worker(self, peer: &dyn Peer, number: usize) -> Box<dyn Worker> {
        match self {
            Workload::Raw => Box::new(Bare(peer.raw().await)),
            Workload::Uncontended => Box::new(Turns::of(peer, &format!("own-{number}"))),
            Workload::Contended => Box::new(Turns::of(peer, "shared")),
        }
    }
}

struct Bare(Box<dyn Raw>);

#[async_trait]
impl Worker for Bare {
    async fn step(&mut self) {
        self.0.pair().await;
    }
}

struct Turns(Mutex);

impl Turns {
    fn of(peer: &dyn Peer, name: &str) -> Self {
        Turns(peer.locks().mutex(name).expect("a valid name"))
    }
}

#[async_trait]
impl Worker for Turns {
    async fn step(&mut self) {
        let guard = self.0.acquire().await.expect("the server serves");
        assert_eq!(guard.release().await, Release::Released);
    }
}
