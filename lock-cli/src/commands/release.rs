//! Ends a hold: releases the lock, and closes the session.

use std::time::Duration;

use turnlock::{AnyGuard, Locks, Release};

use crate::output::narrate;

/// The time limit for a reply that a command can do without.
pub const REPLY_LIMIT: Duration = Duration::from_secs(1);

/// Releases the lock. It does not wait for a reply that takes too long: the release goes on until
/// the session ends.
///
/// # Errors
/// The reason why it is not known whether the lock is free, for the user to read.
pub async fn release(guard: AnyGuard) -> Result<Release, String> {
    let name = guard.name().clone();
    match tokio::time::timeout(REPLY_LIMIT, guard.release()).await {
        Ok(Ok(released)) => {
            if released == Release::Released {
                narrate(format!("{name}: released"));
            }
            Ok(released)
        }
        Ok(Err(error)) if !error.is_retryable() => {
            Err(format!("the release of the lock failed ({error})"))
        }
        Ok(Err(_)) | Err(_) => Err("the coordinator did not answer the release".to_owned()),
    }
}

/// Closes the session, so that no entry of it stays in a queue. It does not wait for a coordinator
/// that does not reply: there the session ends with its time to live.
pub async fn close_session(locks: &Locks) {
    let _ = tokio::time::timeout(REPLY_LIMIT, locks.close()).await;
}
