//! Time limits that need no executor of the caller's.

use std::future::Future;
use std::time::Duration;

use lock_core::background;

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
