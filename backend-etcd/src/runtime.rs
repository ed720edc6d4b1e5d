//! Work and timers on the background thread, for futures that may be polled on any executor.

use std::future::Future;
use std::time::Duration;

use lock_core::{Effect, Error, ErrorKind, background};

/// Runs to its end on the background thread, also when this future is dropped: a request on its way
/// is never reset, since servers close connections on which many requests are.
pub(crate) async fn run<T: Send + 'static>(
    work: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Error> {
    background::handle()
        .spawn(work)
        .await
        .unwrap_or_else(|died| {
            Err(Error::new(
                ErrorKind::Internal,
                "a request to the coordinator ended abnormally: please report this",
            )
            .with_effect(Effect::Unknown)
            .with_source(died))
        })
}

/// Sleeps on the background thread's timer. *Cancel safe.*
pub(crate) fn sleep(duration: Duration) -> impl Future<Output = ()> + Send {
    let _entered = background::handle().enter();
    tokio::time::sleep(duration)
}
