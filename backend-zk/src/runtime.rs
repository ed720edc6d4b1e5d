//! Work and timers on the background thread, for futures that may be polled on any executor.

use std::future::Future;
use std::task::Poll;
use std::time::{Duration, Instant};

use lock_core::{Error, background};

/// [`persist`] begins no attempt later than this.
const PERSISTENCE: Duration = Duration::from_secs(4);
const LONGEST_PAUSE: Duration = Duration::from_millis(400);

/// Begins at once and runs to its end on the background thread, also when this future is dropped.
/// It begins in the caller's first poll, so that what one caller sends before another is sent in
/// that order: a removal must not overtake the enqueue that it is for.
pub(crate) async fn run<T: Send + 'static>(
    work: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Error> {
    let mut work = Box::pin(work);
    if let Poll::Ready(done) = futures_util::poll!(work.as_mut()) {
        return done;
    }
    background::finish(work).await
}

/// Tries a few times before it lets a failure that may pass reach somebody who does not try again.
/// Takes a few seconds at most.
pub(crate) async fn persist<T, Fut>(mut attempt: impl FnMut() -> Fut) -> Result<T, Error>
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

/// Bounds a future by the background thread's timer. *Cancel safe if the future is.*
pub(crate) fn timeout<F: Future + Send>(
    limit: Duration,
    future: F,
) -> impl Future<Output = Result<F::Output, tokio::time::error::Elapsed>> + Send
where
    F::Output: Send,
{
    let _entered = background::handle().enter();
    tokio::time::timeout(limit, future)
}
