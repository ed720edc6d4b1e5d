//! The metrics of a program's locks.

use std::sync::{Arc, Mutex, PoisonError};

use lock_core::LockName;
use lock_core::observe::Observer;
use prometheus_client::registry::Registry;

use crate::lock_labels::{LabelOf, LockIndex};
use crate::lock_series::LockFamilies;
use crate::observer::BackendObserver;
use crate::scrape::Scrape;
use crate::session_series::{SessionFamilies, SessionSeries};

/// The metrics of the locks of a program. A clone shares them. See the [crate](crate) for an
/// example, and `docs/observability.md` of the repository for the list.
#[derive(Debug, Clone)]
pub struct LockMetrics(Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    lock_families: LockFamilies,
    session_families: SessionFamilies,
    pub(crate) locks: LockIndex,
    backends: Mutex<Vec<Arc<SessionSeries>>>,
}

impl LockMetrics {
    /// Returns metrics without the names of locks.
    #[must_use]
    pub fn new() -> Self {
        LockMetrics::with(None)
    }

    /// Returns metrics with the label `lock`, whose value for a lock is what this function returns,
    /// such as [`collapse_ids`](crate::collapse_ids).
    ///
    /// The function must return the same for the same name. There are at most
    /// [`MAX_LOCK_LABELS`](crate::MAX_LOCK_LABELS) values: all locks whose value would be a further
    /// one share the value [`OTHER_LOCKS`](crate::OTHER_LOCKS), and so do those whose value is
    /// empty. Each value has about 20 to 200 lines in a scrape, by what happened to its locks. So
    /// values should be few, and should not be ids.
    #[must_use]
    pub fn with_lock_label(label_of: impl Fn(&LockName) -> String + Send + Sync + 'static) -> Self {
        LockMetrics::with(Some(Box::new(label_of)))
    }

    fn with(label_of: Option<LabelOf>) -> Self {
        let lock_families = LockFamilies::new();
        LockMetrics(Arc::new(Inner {
            locks: LockIndex::new(lock_families.clone(), label_of),
            lock_families,
            session_families: SessionFamilies::new(),
            backends: Mutex::default(),
        }))
    }

    /// Registers the metrics. To be called once for a registry.
    pub fn register(&self, registry: &mut Registry) {
        self.0.lock_families.register(registry);
        self.0.session_families.register(registry);
        registry.register_collector(Box::new(Scrape(Arc::clone(&self.0))));
    }

    /// Returns the observer for [`Options::with_observer`](lock_core::Options::with_observer).
    /// `backend` becomes the label of that name: `embedded`, `etcd` or `zk`, or a name of the
    /// program's own for one of several coordinators. Observers of the same name share their
    /// series, which exist from this call on.
    pub fn observer(&self, backend: &'static str) -> Arc<dyn Observer> {
        let mut backends = self.lock_backends();
        let known = backends.iter().find(|known| known.backend() == backend);
        let sessions = known.cloned().unwrap_or_else(|| {
            let made = Arc::new(SessionSeries::new(&self.0.session_families, backend));
            backends.push(Arc::clone(&made));
            made
        });
        Arc::new(BackendObserver::new(Arc::clone(&self.0), sessions))
    }

    fn lock_backends(&self) -> std::sync::MutexGuard<'_, Vec<Arc<SessionSeries>>> {
        self.0
            .backends
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for LockMetrics {
    fn default() -> Self {
        LockMetrics::new()
    }
}

impl Inner {
    /// Returns the series of each backend that has an observer.
    pub(crate) fn backends(&self) -> Vec<Arc<SessionSeries>> {
        let backends = self.backends.lock();
        backends.unwrap_or_else(PoisonError::into_inner).clone()
    }
}
