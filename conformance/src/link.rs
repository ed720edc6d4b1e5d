//! A client, and the network between it and its servers.

use std::sync::Arc;
use std::time::Duration;

use lock_core::Backend;

use crate::proxy::Proxy;

/// A client that reaches each server through a proxy. What is done to the link is done to all
/// proxies.
#[derive(Debug)]
pub struct Link {
    backend: Arc<dyn Backend>,
    proxies: Vec<Proxy>,
    budget: usize,
}

impl Link {
    /// Starts a proxy in front of each server, whose addresses are `HOST:PORT`. `connect` makes the
    /// client from the addresses of the proxies.
    ///
    /// # Panics
    /// If no port of the loopback interface is free.
    pub fn new(
        servers: impl IntoIterator<Item = String>,
        connect: impl FnOnce(Vec<String>) -> Arc<dyn Backend>,
    ) -> Self {
        let proxies: Vec<Proxy> = servers.into_iter().map(Proxy::start).collect();
        Link {
            backend: connect(proxies.iter().map(Proxy::address).collect()),
            proxies,
            budget: 1,
        }
    }

    /// Sets how many round trips an acquire, a release or a failing try may take when nothing is
    /// waited for. It is one by default.
    #[must_use]
    pub fn with_budget(mut self, round_trips: usize) -> Self {
        self.budget = round_trips;
        self
    }

    /// Returns how many round trips an acquire, a release or a failing try may take when nothing is
    /// waited for.
    pub fn budget(&self) -> usize {
        self.budget
    }

    /// Returns the client.
    pub fn backend(&self) -> Arc<dyn Backend> {
        self.backend.clone()
    }

    /// Silences all proxies: see [`Proxy::silence`].
    pub fn silence(&self) {
        self.proxies.iter().for_each(Proxy::silence);
    }

    /// Resumes all proxies: see [`Proxy::resume`].
    pub fn resume(&self) {
        self.proxies.iter().for_each(Proxy::resume);
    }

    /// Delays the traffic of all proxies: see [`Proxy::delay`].
    pub fn delay(&self, delay: Duration) {
        self.proxies.iter().for_each(|proxy| proxy.delay(delay));
    }

    /// Mutes all servers: see [`Proxy::mute`].
    pub fn mute(&self) {
        self.proxies.iter().for_each(Proxy::mute);
    }

    /// Cuts all connections: see [`Proxy::cut`].
    pub fn cut(&self) {
        self.proxies.iter().for_each(Proxy::cut);
    }

    /// Returns the sum of the bytes that were muted: see [`Proxy::muted_bytes`].
    pub fn muted_bytes(&self) -> usize {
        self.proxies.iter().map(Proxy::muted_bytes).sum()
    }

    /// Returns the sum of the round trips: see [`Proxy::round_trips`].
    pub fn round_trips(&self) -> usize {
        self.proxies.iter().map(Proxy::round_trips).sum()
    }
}
