//! What wakes the committer and the expiry, which are threads.

use std::sync::{Condvar, MutexGuard, PoisonError};
use std::time::Duration;

/// A condition variable. In a simulation, where a task takes the place of the thread, it wakes that.
#[derive(Debug, Default)]
pub(super) struct Bell {
    condition: Condvar,
    #[cfg(simulation)]
    pub(super) task: tokio::sync::Notify,
}

impl Bell {
    pub(super) fn ring(&self) {
        self.condition.notify_all();
        #[cfg(simulation)]
        self.task.notify_one();
    }

    /// Waits until the bell rings, for at most `timeout` if there is one. It may return early.
    pub(super) fn wait<'a, T>(
        &self,
        state: MutexGuard<'a, T>,
        timeout: Option<Duration>,
    ) -> MutexGuard<'a, T> {
        match timeout {
            None => (self.condition.wait(state)).unwrap_or_else(PoisonError::into_inner),
            Some(timeout) => {
                let woken = self.condition.wait_timeout(state, timeout);
                woken.unwrap_or_else(PoisonError::into_inner).0
            }
        }
    }
}
