//! What a scrape shows of TLS.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;

use super::encode::{NO_LABELS, gauge, gauges};
use crate::server::tls::{HandshakeFailures, Tls};

/// The sources of the values.
#[derive(Debug)]
pub(super) struct SecurityMetrics {
    pub(super) tls: Option<Tls>,
    pub(super) failures: Arc<HandshakeFailures>,
    pub(super) is_insecure: bool,
}

impl Collector for SecurityMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let encoder = &mut encoder;
        let help =
            "1 if anybody on other machines who reaches the server can take and break locks.";
        let insecure = f64::from(u8::from(self.is_insecure));
        gauge(encoder, "turnlock_server_insecure", help, insecure)?;
        let help =
            "When the server's certificate ends, in seconds of Unix time; absent without TLS.";
        let name = "turnlock_server_certificate_expiry_timestamp_seconds";
        let not_after = self.tls.as_ref().and_then(Tls::not_after);
        let not_after = not_after.map(|time| (NO_LABELS, time as f64));
        gauges(encoder, name, help, not_after)?;
        let help = "TLS handshakes that failed.";
        let name = "turnlock_server_tls_handshakes_failed";
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (reason, count) in self.failures.counts() {
            let labels = [("reason", reason)];
            ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
