//! A client and the network between it and its servers.

use std::sync::Arc;
use std::time::Duration;

use lock_core::Backend;

use crate::proxy::Proxy;

/// A client that reaches each server through a proxy of its own. What is done to the link is done
/// to all of them.
#[derive(Debug)]
pub struct Link {
    backend: Arc<dyn Backend>,
    proxies: Vec<Proxy>,
    budget: usize,
}

impl Link {
    /// In front of the servers at these addresses, `HOST:PORT`; `connect` makes the client from the
    /// addresses that stand for them.
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

    /// With more than one round trip for an acquire, a release or a try that does not wait.
    #[must_use]
    pub fn with_budget(mut self, round_trips: usize) -> Self {
        self.budget = round_trips;
        self
    }

    /// How many round trips an acquire, a release or a try may take that does not wait.
    pub fn budget(&self) -> usize {
        self.budget
    }

    /// The client.
    pub fn backend(&self) -> Arc<dyn Backend> {
        self.backend.clone()
    }

    /// See [`Proxy::silence`].
    pub fn silence(&self) {
        self.proxies.iter().for_each(Proxy::silence);
    }

    /// See [`Proxy::resume`].
    pub fn resume(&self) {
        self.proxies.iter().for_each(Proxy::resume);
    }

    /// See [`Proxy::delay`].
    pub fn delay(&self, delay: Duration) {
        self.proxies.iter().for_each(|proxy| proxy.delay(delay));
    }

    /// See [`Proxy::mute`].
    pub fn mute(&self) {
        self.proxies.iter().for_each(Proxy::mute);
    }

    /// See [`Proxy::cut`].
    pub fn cut(&self) {
        self.proxies.iter().for_each(Proxy::cut);
    }

    /// See [`Proxy::muted_bytes`].
    pub fn muted_bytes(&self) -> usize {
        self.proxies.iter().map(Proxy::muted_bytes).sum()
    }

    /// See [`Proxy::round_trips`].
    pub fn round_trips(&self) -> usize {
        self.proxies.iter().map(Proxy::round_trips).sum()
    }
}
