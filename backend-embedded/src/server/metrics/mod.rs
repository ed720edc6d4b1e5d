//! The metrics of a server, as a scrape shows them.

mod calls;
mod census;
mod encode;
mod etcd;
mod methods;
mod queues;
mod scrape;
mod security;

use std::fmt;
use std::sync::Arc;

use prometheus_client::encoding::prometheus_text;
use prometheus_client::registry::Registry;

pub(super) use self::calls::{CallMetrics, CountCalls};
use self::etcd::EtcdNames;
pub(super) use self::methods::is_unary;
use self::scrape::Scrape;
use self::security::SecurityMetrics;
use super::clients::Clients;
use super::tls::{HandshakeFailures, Tls};
use crate::coordinator::Coordinator;

/// The media type of a scrape.
pub(super) const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The metrics of one server.
#[derive(Debug)]
pub(super) struct Metrics {
    registry: Registry,
    calls: Arc<CallMetrics>,
}

impl Metrics {
    /// Makes the metrics, with those that only an etcd has if that is asked for.
    pub(super) fn new(coordinator: Coordinator, clients: Arc<Clients>, etcd_names: bool) -> Self {
        let calls = Arc::new(CallMetrics::new(clients));
        let mut registry = Registry::default();
        calls.register(&mut registry);
        if etcd_names {
            registry.register_collector(Box::new(EtcdNames(coordinator.clone())));
        }
        let scrape = Scrape::new(coordinator, Arc::clone(&calls));
        registry.register_collector(Box::new(scrape));
        Metrics { registry, calls }
    }

    /// Also shows what protects the server.
    pub(super) fn add_security(
        &mut self,
        tls: Option<Tls>,
        failures: Arc<HandshakeFailures>,
        is_insecure: bool,
    ) {
        let security = SecurityMetrics {
            tls,
            failures,
            is_insecure,
        };
        self.registry.register_collector(Box::new(security));
    }

    pub(super) fn calls(&self) -> &Arc<CallMetrics> {
        &self.calls
    }

    /// Returns the text of a scrape. This may take a while: the locks are counted.
    pub(super) fn gather(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        prometheus_text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}
