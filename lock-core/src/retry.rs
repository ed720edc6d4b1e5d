//! Tries what may succeed later, until it does or has failed for too long.

use std::future::Future;
use std::time::Duration;

use crate::background;
use crate::backoff::Backoff;
use crate::clock::Clock;
use crate::error::{Error, ErrorKind};

/// How long a coordinator that is there but short of something is asked again, and how long a
/// `try` asks one that does not answer.
pub(crate) const RETRY_TIME: Duration = Duration::from_secs(5);

/// How long to try what fails in a way that may pass.
#[derive(Debug, Clone, Copy)]
pub(crate) enum RetryPolicy {
    /// For [`RETRY_TIME`], and not at all where something is short.
    OfTry,
    /// For [`RETRY_TIME`] where something is short. What was not answered may have taken effect,
    /// and the coordinator may come back to our session.
    Usual,
    /// As long as the session lives: there is a place in a queue to keep, or one was lost before.
    Endless,
}

/// Tries until it succeeds, fails for good, or has failed for too long. The session's end is the
/// caller's to watch for.
pub(crate) async fn retry<T, F>(
    policy: RetryPolicy,
    mut attempt: impl FnMut() -> F,
) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    let clock = Clock::system();
    let mut since = None;
    let mut backoff = Backoff::default();
    loop {
        let error = match attempt().await {
            Err(error) if error.is_retryable() => error,
            settled => return settled,
        };
        let now = clock.now();
        let failing = now.saturating_since(*since.get_or_insert(now));
        let tolerable = match (error.kind(), policy) {
            (_, RetryPolicy::Endless) | (ErrorKind::Unreachable, RetryPolicy::Usual) => true,
            (ErrorKind::Exhausted, RetryPolicy::OfTry) => false,
            _ => failing < RETRY_TIME,
        };
        if !tolerable {
            return Err(error);
        }
        tracing::debug!(%error, "a request will be tried again");
        background::sleep(backoff.next_pause()).await;
    }
}
