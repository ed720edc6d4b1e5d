//! What is computed at each scrape.

use std::fmt;
use std::sync::Arc;

use lock_core::clock::{BootInstant, Clock};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::lock_series::{LockSeries, with_lock};
use crate::metrics::Inner;
use crate::names::{Labels, MODES};
use crate::session_series::{LiveSessions, with_backend};

/// Computes waits and margins when they are asked for: a margin that was set by a renewal would
/// stand still just when there are no renewals any more.
#[derive(Debug)]
pub(crate) struct Scrape(pub(crate) Arc<Inner>);

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let locks = self.0.locks.all();
        let now = Clock::system().now();
        encode_gauges(
            &mut encoder,
            "turnlock_waiting",
            "Acquires that are under way.",
            locks.iter().flat_map(|series| waiting(series)),
        )?;
        encode_gauges(
            &mut encoder,
            "turnlock_oldest_wait_seconds",
            "The age of the oldest acquire that is under way, 0 if there is none.",
            locks.iter().map(|series| oldest_wait(series, now)),
        )?;
        let sessions: Vec<_> = (self.0.backends().iter())
            .map(|series| (series.backend(), series.look()))
            .collect();
        encode_gauges(
            &mut encoder,
            "turnlock_sessions",
            "Live sessions, by whether their renewals are acknowledged in time.",
            sessions
                .iter()
                .flat_map(|(backend, live)| states(backend, live)),
        )?;
        let least = |(backend, live): &(&'static str, LiveSessions)| {
            Some((with_backend(backend, &[]), live.least_remaining?))
        };
        encode_gauges(
            &mut encoder,
            "turnlock_session_remaining_ratio",
            "The least part of its validity that is left to any live session; absent without any.",
            sessions.iter().filter_map(least),
        )?;
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        encode_gauges(
            &mut encoder,
            "turnlock_build_info",
            "The version of Turnlock; the value is 1.",
            [(with_lock(&version, None), 1.0)],
        )
    }
}

fn waiting(series: &LockSeries) -> impl Iterator<Item = (Labels, f64)> {
    MODES.iter().zip(series.waits()).map(|(mode, waits)| {
        let (count, _) = waits.look();
        (with_lock(&[("mode", mode)], series.label()), count as f64)
    })
}

fn oldest_wait(series: &LockSeries, now: BootInstant) -> (Labels, f64) {
    let begins = series.waits().iter().filter_map(|waits| waits.look().1);
    let age = begins.min().map(|oldest| now.saturating_since(oldest));
    let age = age.unwrap_or_default().as_secs_f64();
    (with_lock(&[], series.label()), age)
}

fn states(backend: &'static str, live: &LiveSessions) -> [(Labels, f64); 2] {
    [("held", live.held), ("jeopardy", live.in_jeopardy)]
        .map(|(state, count)| (with_backend(backend, &[("state", state)]), count as f64))
}

/// Encodes gauges of one family.
fn encode_gauges(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    series: impl IntoIterator<Item = (Labels, f64)>,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (labels, value) in series {
        ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}
