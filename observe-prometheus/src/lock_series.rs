//! The series of one lock, or of all locks.

use std::array;
use std::borrow::Cow;
use std::sync::OnceLock;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use lock_core::clock::BootInstant;
use lock_core::{LossReason, Mode};

use crate::names::{
    ENDS, GRANTED, HOLD_BUCKETS, Labels, MODES, OUTCOMES, REASONS, WAIT_BUCKETS, index_of,
    mode_index,
};
use crate::waits::Waits;

/// A family of histograms, all with the same buckets.
pub(crate) type Histograms = Family<Labels, Histogram, fn() -> Histogram>;

/// The families whose series are those of locks.
#[derive(Debug, Clone)]
pub(crate) struct LockFamilies {
    acquires: Histograms,
    held: Family<Labels, Gauge>,
    holds: Histograms,
    lost: Family<Labels, Counter>,
}

impl LockFamilies {
    pub(crate) fn new() -> Self {
        LockFamilies {
            acquires: Family::new_with_constructor(|| Histogram::new(WAIT_BUCKETS)),
            held: Family::default(),
            holds: Family::new_with_constructor(|| Histogram::new(HOLD_BUCKETS)),
            lost: Family::default(),
        }
    }

    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register(
            "turnlock_acquire_duration_seconds",
            "How long acquires took, by how they ended",
            self.acquires.clone(),
        );
        registry.register(
            "turnlock_held",
            "Locks that this process holds",
            self.held.clone(),
        );
        registry.register(
            "turnlock_hold_duration_seconds",
            "How long locks were held, by how the hold ended",
            self.holds.clone(),
        );
        registry.register(
            "turnlock_holds_lost",
            "Holds that were lost before they were given back",
            self.lost.clone(),
        );
    }
}

/// The series of one value of the label `lock`, or of all locks. The handles are kept, so that an
/// event looks up nothing.
#[derive(Debug)]
pub(crate) struct LockSeries {
    families: LockFamilies,
    label: Option<Cow<'static, str>>,
    waits: [Waits; MODES.len()],
    held: [Gauge; MODES.len()],
    /// By mode, outcome, and whether there was contention. A series of a single lock is made when
    /// it is first needed, since most of them never are.
    acquires: [[[OnceLock<Histogram>; 2]; OUTCOMES.len()]; MODES.len()],
    /// By mode and end, made as `acquires` are.
    holds: [[OnceLock<Histogram>; ENDS.len()]; MODES.len()],
    lost: [Counter; REASONS.len()],
}

impl LockSeries {
    /// Makes the series of a value of the label `lock`. `None` if the metrics have no such label.
    pub(crate) fn new(families: &LockFamilies, label: Option<Cow<'static, str>>) -> Self {
        let with = |labels: &[(&'static str, &'static str)]| with_lock(labels, label.as_ref());
        let held = |mode| {
            let labels = with(&[("mode", MODES[mode])]);
            families.held.get_or_create_owned(&labels)
        };
        let lost = |reason: usize| {
            let labels = with(&[("reason", REASONS[reason].name())]);
            families.lost.get_or_create_owned(&labels)
        };
        LockSeries {
            waits: array::from_fn(|_| Waits::default()),
            held: array::from_fn(held),
            acquires: Default::default(),
            holds: Default::default(),
            lost: array::from_fn(lost),
            families: families.clone(),
            label,
        }
    }

    /// Makes every series now, with the value 0.
    pub(crate) fn make_all(&self) {
        for mode in 0..MODES.len() {
            for outcome in 0..OUTCOMES.len() {
                self.acquire_series(mode, outcome, false);
                self.acquire_series(mode, outcome, true);
            }
            for end in 0..ENDS.len() {
                self.hold_series(mode, end);
            }
        }
    }

    pub(crate) fn begin_acquire(&self, mode: Mode, begun: BootInstant) {
        self.waits[mode_index(mode)].begin(begun);
    }

    /// Ends an acquire with this outcome, a value of [`OUTCOMES`].
    pub(crate) fn end_acquire(
        &self,
        mode: Mode,
        begun: BootInstant,
        waited: Duration,
        contended: bool,
        outcome: usize,
    ) {
        let mode = mode_index(mode);
        self.waits[mode].end(begun);
        let series = self.acquire_series(mode, outcome, contended);
        series.observe(waited.as_secs_f64());
        if outcome == GRANTED {
            self.held[mode].inc();
        }
    }

    pub(crate) fn end_hold(
        &self,
        mode: Mode,
        held: Duration,
        end: &'static str,
        lost: Option<LossReason>,
    ) {
        let mode = mode_index(mode);
        self.held[mode].dec();
        let series = self.hold_series(mode, index_of(&ENDS, end));
        series.observe(held.as_secs_f64());
        if let Some(reason) = lost {
            self.lost[index_of(&REASONS, reason)].inc();
        }
    }

    /// Returns the value of the label `lock`.
    pub(crate) fn label(&self) -> Option<&Cow<'static, str>> {
        self.label.as_ref()
    }

    /// Returns the acquires that are under way, by mode.
    pub(crate) fn waits(&self) -> &[Waits; MODES.len()] {
        &self.waits
    }

    fn acquire_series(&self, mode: usize, outcome: usize, contended: bool) -> &Histogram {
        self.acquires[mode][outcome][usize::from(contended)].get_or_init(|| {
            let labels = [
                ("mode", MODES[mode]),
                ("outcome", OUTCOMES[outcome]),
                ("contended", if contended { "true" } else { "false" }),
            ];
            let labels = with_lock(&labels, self.label.as_ref());
            self.families.acquires.get_or_create_owned(&labels)
        })
    }

    fn hold_series(&self, mode: usize, end: usize) -> &Histogram {
        self.holds[mode][end].get_or_init(|| {
            let labels = [("mode", MODES[mode]), ("end", ENDS[end])];
            let labels = with_lock(&labels, self.label.as_ref());
            self.families.holds.get_or_create_owned(&labels)
        })
    }
}

/// Returns labels together with that of the lock, if there is one.
pub(crate) fn with_lock(
    labels: &[(&'static str, &'static str)],
    lock: Option<&Cow<'static, str>>,
) -> Labels {
    let fixed = labels
        .iter()
        .map(|(name, value)| (*name, Cow::Borrowed(*value)));
    let lock = lock.map(|lock| ("lock", lock.clone()));
    fixed.chain(lock).collect()
}
