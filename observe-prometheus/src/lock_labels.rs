//! The label `lock`: a bounded number of values, whatever the locks are called.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use lock_core::LockName;

use crate::lock_series::{LockFamilies, LockSeries};

/// The most values of the label `lock`, besides [`OTHER_LOCKS`].
pub const MAX_LOCK_LABELS: usize = 200;

/// The value of the label `lock` for all locks whose own value would be one too many.
pub const OTHER_LOCKS: &str = "_other";

/// The most names of locks whose value is remembered. For the others, the function of
/// [`LockMetrics::with_lock_label`](crate::LockMetrics::with_lock_label) is called at each event.
pub const MAX_CACHED_NAMES: usize = 1000;

/// Returns the name with each segment that has a digit replaced by `*`: for
/// [`LockMetrics::with_lock_label`](crate::LockMetrics::with_lock_label), if names contain the
/// numbers of orders, users or hosts.
///
/// # Examples
/// ```
/// use lock_core::LockName;
/// use observe_prometheus::collapse_ids;
///
/// let name = LockName::new("orders/4711/refund")?;
/// assert_eq!(collapse_ids(&name), "orders/*/refund");
/// # Ok::<(), lock_core::NameError>(())
/// ```
pub fn collapse_ids(name: &LockName) -> String {
    let has_digit = |segment: &str| segment.contains(|letter: char| letter.is_ascii_digit());
    let segments = name.as_str().split('/');
    let collapsed = segments.map(|it| if has_digit(it) { "*" } else { it });
    collapsed.collect::<Vec<_>>().join("/")
}

/// Returns the value of the label `lock` for a name.
pub(crate) type LabelOf = Box<dyn Fn(&LockName) -> String + Send + Sync>;

/// The series of all locks.
pub(crate) struct LockIndex {
    families: LockFamilies,
    /// `None` if there is no label `lock`.
    label_of: Option<LabelOf>,
    /// Those of all locks, if there is no label; else those of [`OTHER_LOCKS`].
    rest: Arc<LockSeries>,
    known: RwLock<Known>,
}

#[derive(Default)]
struct Known {
    by_name: HashMap<LockName, Arc<LockSeries>>,
    by_label: HashMap<Cow<'static, str>, Arc<LockSeries>>,
}

impl LockIndex {
    pub(crate) fn new(families: LockFamilies, label_of: Option<LabelOf>) -> Self {
        let label = label_of.is_some().then_some(Cow::Borrowed(OTHER_LOCKS));
        let rest = Arc::new(LockSeries::new(&families, label));
        rest.make_all();
        LockIndex {
            families,
            label_of,
            rest,
            known: RwLock::default(),
        }
    }

    /// Calls a function with the series of a lock.
    pub(crate) fn with(&self, name: &LockName, use_series: impl FnOnce(&LockSeries)) {
        let Some(label_of) = &self.label_of else {
            return use_series(&self.rest);
        };
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(series) = known.by_name.get(name) {
            return use_series(series);
        }
        drop(known);
        // The user's function is called without any lock of ours.
        let label = label_of(name);
        use_series(&self.series_of(name, label));
    }

    /// Returns the series of a label, which are made if there is room for one more.
    fn series_of(&self, name: &LockName, label: String) -> Arc<LockSeries> {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let known = &mut *known;
        let is_other = label.is_empty() || label == OTHER_LOCKS;
        let series = match known.by_label.get(label.as_str()) {
            Some(series) => Arc::clone(series),
            None if is_other || known.by_label.len() >= MAX_LOCK_LABELS => Arc::clone(&self.rest),
            None => {
                let label: Cow<'static, str> = Cow::Owned(label);
                let series = Arc::new(LockSeries::new(&self.families, Some(label.clone())));
                known.by_label.insert(label, Arc::clone(&series));
                series
            }
        };
        if known.by_name.len() < MAX_CACHED_NAMES {
            known.by_name.insert(name.clone(), Arc::clone(&series));
        }
        series
    }

    /// Returns the series of all labels, in their order.
    pub(crate) fn all(&self) -> Vec<Arc<LockSeries>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let named = known.by_label.values().cloned();
        let mut all: Vec<_> = named.chain([Arc::clone(&self.rest)]).collect();
        all.sort_by(|one, other| one.label().cmp(&other.label()));
        all
    }
}

impl fmt::Debug for LockIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockIndex")
            .field("has_label", &self.label_of.is_some())
            .finish_non_exhaustive()
    }
}
