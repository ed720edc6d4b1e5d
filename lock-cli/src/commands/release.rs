//! The end of a hold: the lock is given back, and the session is closed.

use std::time::Duration;

use turnlock::{Guard, Locks, Release};

use crate::output::narrate;

/// How long a command waits for a reply that it can do without.
pub const REPLY_LIMIT: Duration = Duration::from_secs(1);

/// Releases the lock. A reply that takes too long is not waited for: the release goes on until the
/// session ends.
pub async fn release(guard: Guard) -> Release {
    let name = guard.name().clone();
    let released = tokio::time::timeout(REPLY_LIMIT, guard.release())
        .await
        .unwrap_or(Release::Unknown);
    if released == Release::Released {
        narrate(format!("{name}: released"));
    }
    released
}

/// Closes the session, so that no entry of it stays in a queue. A coordinator that does not reply is
/// not waited for: there the session ends with its time to live.
pub async fn close_session(locks: &Locks) {
    let _ = tokio::time::timeout(REPLY_LIMIT, locks.close()).await;
}
