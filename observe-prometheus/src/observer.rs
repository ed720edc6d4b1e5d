//! Turns events into values.

use std::sync::Arc;

use lock_core::LossReason;
use lock_core::observe::{Event, HoldEnd, Observer, TraceContext};

use crate::metrics::Inner;
use crate::names::{GRANTED, OUTCOMES, index_of};
use crate::session_series::SessionSeries;

/// The observer of the locks on one backend.
#[derive(Debug)]
pub(crate) struct BackendObserver {
    metrics: Arc<Inner>,
    sessions: Arc<SessionSeries>,
}

impl BackendObserver {
    pub(crate) fn new(metrics: Arc<Inner>, sessions: Arc<SessionSeries>) -> Self {
        BackendObserver { metrics, sessions }
    }
}

impl Observer for BackendObserver {
    fn observe(&self, event: &Event<'_>) {
        let locks = &self.metrics.locks;
        match *event {
            Event::Acquiring { lock, mode, begun } => {
                locks.with(lock, |series| series.begin_acquire(mode, begun));
            }
            Event::Acquired {
                lock,
                mode,
                begun,
                waited,
                contended,
                ..
            } => locks.with(lock, |series| {
                series.end_acquire(mode, begun, waited, contended, GRANTED);
            }),
            Event::NotAcquired {
                lock,
                mode,
                begun,
                waited,
                contended,
                why,
            } => locks.with(lock, |series| {
                let outcome = index_of(&OUTCOMES, why.name());
                series.end_acquire(mode, begun, waited, contended, outcome);
            }),
            Event::HoldEnded {
                lock,
                mode,
                held,
                end,
                ..
            } => locks.with(lock, |series| {
                series.end_hold(mode, held, end.name(), loss_of(end));
            }),
            Event::SessionOpened {
                session, liveness, ..
            } => self.sessions.open(session, liveness),
            Event::SessionEnded { session, reason } => self.sessions.end(session, reason),
            Event::Renewed {
                took,
                left,
                validity,
                ..
            } => self.sessions.renew(took, left, validity),
            Event::RenewalFailed { error, took, .. } => {
                let result = if error.is_some() { "error" } else { "timeout" };
                self.sessions.observe_renewal(result, took);
            }
            Event::Retried {
                operation, error, ..
            } => self.sessions.retry(operation, error.kind()),
            Event::BreakerOpened { .. } => self.sessions.open_breaker(),
            Event::BreakerClosed => self.sessions.close_breaker(),
            // Other events have no metric.
            _ => {}
        }
    }

    fn trace_context(&self) -> Option<TraceContext> {
        None
    }
}

/// Returns why a hold was lost, if it was.
fn loss_of(end: HoldEnd) -> Option<LossReason> {
    match end {
        HoldEnd::Lost(reason) => Some(reason),
        HoldEnd::AlreadyGone => Some(LossReason::EntryGone),
        _ => None,
    }
}
