//! Time limits and tries that need no executor of the caller's.

use std::future::Future;
use std::time::{Duration, Instant};

use lock_core::{Error, background};

/// [`retry`] begins no attempt later than this.
const PERSISTENCE: Duration = Duration::from_secs(4);
const LONGEST_PAUSE: Duration = Duration::from_millis(400);

/// Tries a few times before it lets a failure that may pass reach somebody who does not try again.
/// Takes a few seconds at most.
pub(crate) async fn retry<T, Fut>(mut attempt: impl FnMut() -> Fut) -> Result<T, Error>
where
    Fut: Future<Output = Result<T, Error>>,
{
    let started = Instant::now();
    let mut pause = Duration::from_millis(20);
    loop {
        let error = match attempt().await {
            Err(error) if error.is_retryable() => error,
            settled => return settled,
        };
        if started.elapsed() >= PERSISTENCE {
            return Err(error);
        }
        tracing::debug!(%error, "a request will be tried again");
        background::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// The time was over before there was an answer.
#[derive(Debug)]
pub(crate) struct Elapsed;

/// Bounds a future by the background thread's timer. *Cancel safe if the future is.*
pub(crate) async fn timeout<F: Future + Send>(
    limit: Duration,
    future: F,
) -> Result<F::Output, Elapsed>
where
    F::Output: Send,
{
    tokio::select! {
        biased;
        output = future => Ok(output),
        () = background::sleep(limit) => Err(Elapsed),
    }
}
