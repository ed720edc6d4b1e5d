//! The series of the sessions on one backend.

use std::array;
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use lock_core::{ErrorKind, Liveness, LossReason, Operation, SessionId, State};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::lock_series::Histograms;
use crate::names::{
    Labels, MARGIN_BUCKETS, OPERATIONS, REASONS, RENEWAL_BUCKETS, RENEWALS, RETRIED_KINDS, index_of,
};

/// The families whose series are those of sessions.
#[derive(Debug, Clone)]
pub(crate) struct SessionFamilies {
    opened: Family<Labels, Counter>,
    ended: Family<Labels, Counter>,
    margins: Histograms,
    renewals: Histograms,
    retries: Family<Labels, Counter>,
    open_breakers: Family<Labels, Gauge>,
}

impl SessionFamilies {
    pub(crate) fn new() -> Self {
        SessionFamilies {
            opened: Family::default(),
            ended: Family::default(),
            margins: Family::new_with_constructor(|| Histogram::new(MARGIN_BUCKETS)),
            renewals: Family::new_with_constructor(|| Histogram::new(RENEWAL_BUCKETS)),
            retries: Family::default(),
            open_breakers: Family::default(),
        }
    }

    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register(
            "turnlock_sessions_opened",
            "Sessions that were opened",
            self.opened.clone(),
        );
        registry.register(
            "turnlock_sessions_ended",
            "Sessions that have ended, by the reason",
            self.ended.clone(),
        );
        registry.register(
            "turnlock_session_renewal_margin_ratio",
            "The part of the validity that was left when a renewal was acknowledged",
            self.margins.clone(),
        );
        registry.register(
            "turnlock_session_renewal_duration_seconds",
            "How long renewals took, by their result",
            self.renewals.clone(),
        );
        registry.register(
            "turnlock_retries",
            "Requests that failed and were tried again, by the operation and the kind of error",
            self.retries.clone(),
        );
        registry.register(
            "turnlock_breakers_open",
            "Clients that hold requests back, since they do not reach the coordinator",
            self.open_breakers.clone(),
        );
    }
}

/// The series of the sessions on one backend, and its live sessions.
#[derive(Debug)]
pub(crate) struct SessionSeries {
    backend: &'static str,
    families: SessionFamilies,
    opened: Counter,
    ended: [Counter; REASONS.len()],
    margins: Histogram,
    renewals: [Histogram; RENEWALS.len()],
    open_breakers: Gauge,
    live: Mutex<HashMap<SessionId, Weak<Liveness>>>,
}

/// The live sessions on one backend at one instant.
#[derive(Debug, Default)]
pub(crate) struct LiveSessions {
    pub(crate) held: u64,
    pub(crate) in_jeopardy: u64,
    /// The least part of the validity that is left to any of them; `None` if there are none.
    pub(crate) least_remaining: Option<f64>,
}

impl SessionSeries {
    /// Makes the series of a backend, with the value 0.
    pub(crate) fn new(families: &SessionFamilies, backend: &'static str) -> Self {
        let of = |labels: &[(&'static str, &'static str)]| with_backend(backend, labels);
        for operation in OPERATIONS {
            for kind in RETRIED_KINDS {
                let labels = of(&[("op", operation.name()), ("kind", kind.name())]);
                families.retries.get_or_create_owned(&labels);
            }
        }
        let ended = |reason: usize| {
            let labels = of(&[("reason", REASONS[reason].name())]);
            families.ended.get_or_create_owned(&labels)
        };
        let renewal = |result: usize| {
            let labels = of(&[("result", RENEWALS[result])]);
            families.renewals.get_or_create_owned(&labels)
        };
        SessionSeries {
            backend,
            opened: families.opened.get_or_create_owned(&of(&[])),
            ended: array::from_fn(ended),
            margins: families.margins.get_or_create_owned(&of(&[])),
            renewals: array::from_fn(renewal),
            open_breakers: families.open_breakers.get_or_create_owned(&of(&[])),
            live: Mutex::default(),
            families: families.clone(),
        }
    }

    pub(crate) fn backend(&self) -> &'static str {
        self.backend
    }

    pub(crate) fn open(&self, session: SessionId, liveness: &Arc<Liveness>) {
        self.opened.inc();
        self.live().insert(session, Arc::downgrade(liveness));
    }

    pub(crate) fn end(&self, session: SessionId, reason: LossReason) {
        self.ended[index_of(&REASONS, reason)].inc();
        self.live().remove(&session);
    }

    /// Counts a renewal that was acknowledged when `left` of the validity was left.
    pub(crate) fn renew(&self, took: Duration, left: Duration, validity: Duration) {
        self.observe_renewal("ok", took);
        self.margins.observe(ratio(left, validity));
    }

    pub(crate) fn observe_renewal(&self, result: &'static str, took: Duration) {
        self.renewals[index_of(&RENEWALS, result)].observe(took.as_secs_f64());
    }

    pub(crate) fn retry(&self, operation: Operation, kind: ErrorKind) {
        let labels = [("op", operation.name()), ("kind", kind.name())];
        let labels = with_backend(self.backend, &labels);
        self.families.retries.get_or_create(&labels).inc();
    }

    pub(crate) fn open_breaker(&self) {
        self.open_breakers.inc();
    }

    pub(crate) fn close_breaker(&self) {
        self.open_breakers.dec();
    }

    /// Looks at the live sessions now.
    pub(crate) fn look(&self) -> LiveSessions {
        // To ask a session may tell the observer that it is lost, so none is asked under the lock.
        let live: Vec<_> = self.live().values().filter_map(Weak::upgrade).collect();
        let mut sessions = LiveSessions::default();
        for liveness in live {
            match liveness.state() {
                State::Held => sessions.held += 1,
                State::Jeopardy => sessions.in_jeopardy += 1,
                _ => continue,
            }
            let remaining = ratio(liveness.remaining(), liveness.validity());
            let least = sessions.least_remaining.unwrap_or(f64::INFINITY);
            sessions.least_remaining = Some(least.min(remaining));
        }
        sessions
    }

    fn live(&self) -> MutexGuard<'_, HashMap<SessionId, Weak<Liveness>>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn ratio(left: Duration, validity: Duration) -> f64 {
    match validity.is_zero() {
        true => 0.0,
        false => left.as_secs_f64() / validity.as_secs_f64(),
    }
}

/// Returns labels together with that of the backend.
pub(crate) fn with_backend(
    backend: &'static str,
    labels: &[(&'static str, &'static str)],
) -> Labels {
    let labels = labels.iter().copied();
    let all = [("backend", backend)].into_iter().chain(labels);
    all.map(|(name, value)| (name, Cow::Borrowed(value)))
        .collect()
}
