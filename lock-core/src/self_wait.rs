//! Warns of a task that waits for a lock that it holds itself, since that wait never ends.
//!
//! The check decides nothing. A guard may have been given to another task meanwhile, so it is good
//! for a warning and no more.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::future::Future;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::background;
use crate::name::LockName;

/// How long a wait lasts before the warning: a lock is handed over in far less time.
const WARN_AFTER: Duration = Duration::from_secs(1);

/// The callers of a session that hold locks, by a hash of caller and lock: a few bytes for each
/// hold, and no more. If two hashes are equal, a wrong warning is the worst result.
#[derive(Debug, Default)]
pub(crate) struct Holders {
    counts: Mutex<HashMap<u64, u32>>,
}

/// One hold of one caller, which is counted for as long as this lives.
#[derive(Debug)]
pub(crate) struct HolderMark {
    holders: Arc<Holders>,
    key: u64,
}

impl Holders {
    /// Marks the caller as a holder of this lock. To be called on the caller's own task.
    pub(crate) fn mark(self: &Arc<Self>, name: &LockName) -> HolderMark {
        let key = key_of_caller(name);
        *self.counts().entry(key).or_default() += 1;
        HolderMark {
            holders: self.clone(),
            key,
        }
    }

    /// Runs a wait of the caller for this lock. Warns once if the caller holds the same lock before
    /// the wait begins and still holds it a second later. To be called on the caller's own task;
    /// the wait may run on another task.
    pub(crate) fn warn_of_self_wait<F: Future + Send>(
        self: &Arc<Self>,
        name: &LockName,
        wait: F,
    ) -> impl Future<Output = F::Output> + Send + use<F> {
        let key = key_of_caller(name);
        let suspect = self
            .counts()
            .contains_key(&key)
            .then(|| (self.clone(), name.clone()));
        async move {
            let mut wait = pin!(wait);
            let Some((holders, name)) = suspect else {
                return wait.await;
            };
            tokio::select! {
                biased;
                done = &mut wait => return done,
                () = background::sleep(WARN_AFTER) => {}
            }
            if holders.counts().contains_key(&key) {
                tracing::warn!(
                    lock = %name,
                    "a task waits for a lock that it holds itself, which may last for ever: give \
                     it the guard instead"
                );
            }
            wait.await
        }
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<u64, u32>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for HolderMark {
    fn drop(&mut self) {
        // Another thread of the parent may have held the mutex at the fork.
        if background::is_forked() {
            return;
        }
        let mut counts = self.holders.counts();
        if let Entry::Occupied(mut count) = counts.entry(self.key) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

/// Returns a hash of this lock and the calling task; outside of tokio's tasks, of the thread.
fn key_of_caller(name: &LockName) -> u64 {
    let mut hasher = DefaultHasher::new();
    match tokio::task::try_id() {
        Some(task) => task.hash(&mut hasher),
        None => std::thread::current().id().hash(&mut hasher),
    }
    name.hash(&mut hasher);
    hasher.finish()
}
