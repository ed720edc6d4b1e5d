//! Time limits that work on any executor.

use std::future::Future;
use std::time::Duration;

use lock_core::background;

/// The error of a future that did not end in time.
#[derive(Debug)]
pub(crate) struct Elapsed;

/// Waits for a future, for this long at most, by the timer of the background thread.
///
/// # Cancel safety
/// As safe as the future.
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
