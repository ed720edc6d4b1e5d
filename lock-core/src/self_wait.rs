//! Warns of a task that waits for a lock that it holds itself, since that wait never ends.
//!
//! The check decides nothing. A guard may have been given to another task meanwhile, so it is good
//! for a warning and no more. A hold that is over soon costs no more than a hash: only holds that
//! last are counted, on the background thread.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::convert::Infallible;
use std::future::pending;
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustc_hash::FxBuildHasher;

use crate::background;
use crate::name::LockName;

/// How long a wait lasts before the warning. A lock is handed over in far less time, and a hold
/// that lasts is counted long before.
const WARN_AFTER: Duration = Duration::from_secs(1);

/// A lock and a caller: a tokio task, or the thread outside of tasks. It is a hash of both. If two
/// hashes are equal, a wrong warning is the worst result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct CallerKey(u64);

impl CallerKey {
    /// Returns the key of the calling task and this lock. To be called on the caller's own task.
    pub(crate) fn of_caller(name: &LockName) -> Self {
        let mut hasher = FxBuildHasher.build_hasher();
        match tokio::task::try_id() {
            Some(task) => task.hash(&mut hasher),
            None => std::thread::current().id().hash(&mut hasher),
        }
        name.hash(&mut hasher);
        CallerKey(hasher.finish())
    }
}

/// The callers that hold locks of a session for longer than a moment.
#[derive(Debug, Default)]
pub(crate) struct Holders {
    counts: Mutex<HashMap<CallerKey, u32, FxBuildHasher>>,
}

/// One hold of one caller, which is counted for as long as this lives.
#[derive(Debug)]
pub(crate) struct HolderMark {
    holders: Arc<Holders>,
    key: CallerKey,
}

impl Holders {
    /// Counts a hold that was granted to this caller.
    pub(crate) fn mark(self: &Arc<Self>, key: CallerKey) -> HolderMark {
        *self.counts().entry(key).or_default() += 1;
        HolderMark {
            holders: self.clone(),
            key,
        }
    }

    /// Returns the check of a wait for this lock. To be called on the caller's own task; the wait may
    /// run on another task.
    pub(crate) fn check_wait(self: &Arc<Self>, name: &LockName) -> SelfWaitCheck {
        SelfWaitCheck {
            holders: self.clone(),
            key: CallerKey::of_caller(name),
            has_warned: AtomicBool::new(false),
        }
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<CallerKey, u32, FxBuildHasher>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The check of one wait.
#[derive(Debug)]
pub(crate) struct SelfWaitCheck {
    holders: Arc<Holders>,
    key: CallerKey,
    has_warned: AtomicBool,
}

impl SelfWaitCheck {
    /// Warns, once in the wait, if its caller holds the same lock after a second. Never resolves.
    pub(crate) async fn warn_later(&self, name: &LockName) -> Infallible {
        background::sleep(WARN_AFTER).await;
        if self.holders.counts().contains_key(&self.key)
            // Only the wait itself uses this, so the order of other memory is no matter.
            && !self.has_warned.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(
                lock = %name,
                "a task waits for a lock that it holds itself, which may last for ever: give it the guard instead"
            );
        }
        pending().await
    }
}

impl Drop for HolderMark {
    fn drop(&mut self) {
        let mut counts = self.holders.counts();
        if let Entry::Occupied(mut count) = counts.entry(self.key) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}
