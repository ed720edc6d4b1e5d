//! What one client takes, over all its connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::Client;
use crate::coordinator::Turn;

/// What one client has at present.
#[derive(Debug)]
pub(super) struct Share {
    client: Client,
    connections: AtomicUsize,
    calls: AtomicUsize,
    turn: Arc<Turn>,
}

impl Share {
    pub(super) fn new(client: Client) -> Self {
        Share {
            client,
            connections: AtomicUsize::new(0),
            calls: AtomicUsize::new(0),
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

    pub(super) fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }

    pub(super) fn add_call(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn remove_call(&self) {
        self.calls.fetch_sub(1, Ordering::Relaxed);
    }
}
