//! What one client takes, over all its connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Client, Purpose};
use crate::coordinator::Turn;

/// What one client has at present.
#[derive(Debug)]
pub(super) struct Share {
    client: Client,
    connections: AtomicUsize,
    pub(super) calls: CallCounts,
    turn: Arc<Turn>,
}

impl Share {
    pub(super) fn new(client: Client) -> Self {
        Share {
            client,
            connections: AtomicUsize::new(0),
            calls: CallCounts::default(),
            turn: Arc::default(),
        }
    }

    pub(super) fn client(&self) -> Client {
        self.client
    }

    /// Returns the turn of the client's heavy requests.
    pub(super) fn turn(&self) -> &Arc<Turn> {
        &self.turn
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    pub(super) fn add_connection(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn remove_connection(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The calls under way. Those that keep sessions alive are counted apart, so that neither kind
/// leaves no room for the other.
#[derive(Debug, Default)]
pub(super) struct CallCounts {
    usual: AtomicUsize,
    liveness: AtomicUsize,
}

impl CallCounts {
    fn of(&self, purpose: Purpose) -> &AtomicUsize {
        match purpose {
            Purpose::Usual | Purpose::Health => &self.usual,
            Purpose::Liveness => &self.liveness,
        }
    }

    pub(super) fn get(&self, purpose: Purpose) -> usize {
        self.of(purpose).load(Ordering::Relaxed)
    }

    pub(super) fn add(&self, purpose: Purpose) {
        self.of(purpose).fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn remove(&self, purpose: Purpose) {
        self.of(purpose).fetch_sub(1, Ordering::Relaxed);
    }
}
