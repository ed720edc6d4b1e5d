//! The thread that Turnlock's own work runs on, so that sessions are renewed, entries removed and
//! timers fired while the user's executor is blocked, is not tokio's, or has ended.

use std::future::Future;
use std::sync::OnceLock;
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio::task::JoinSet;

use crate::error::{Effect, Error, ErrorKind};

/// The runtime behind all sessions of this process: one thread, started on first use, that lives as
/// long as the process. Never block on it.
///
/// # Panics
/// If the operating system refuses a thread on first use: nothing could be renewed.
pub fn handle() -> &'static Handle {
    static HANDLE: OnceLock<Handle> = OnceLock::new();
    HANDLE.get_or_init(|| {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("the operating system gives an event queue to the thread that renews sessions");
        let handle = runtime.handle().clone();
        std::thread::Builder::new()
            .name("turnlock".into())
            .spawn(move || runtime.block_on(std::future::pending::<()>()))
            .expect("the operating system gives a thread to renew sessions on");
        handle
    })
}

/// Runs this on the background thread, to its end. *Cancel safety:* dropped, it is dropped there.
///
/// # Panics
/// If it panics.
pub(crate) async fn run<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    let mut task = JoinSet::new();
    task.spawn_on(work, handle());
    match task.join_next().await {
        Some(Ok(done)) => done,
        Some(Err(died)) => std::panic::resume_unwind(died.into_panic()),
        None => unreachable!("one task was started"),
    }
}

/// Runs a request to a coordinator to its end on the background thread, also when this future is
/// dropped: one on its way is never reset, since servers close connections on which many are.
///
/// # Errors
/// Those of the work; [`ErrorKind::Internal`], with an unknown effect, if it panics.
pub async fn finish<T: Send + 'static>(
    work: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Error> {
    // Boxed: the task would be aligned to a cache line, and kilobytes that are come out of glibc's
    // allocator as holes that no later request fits into.
    handle().spawn(Box::pin(work)).await.unwrap_or_else(|died| {
        Err(Error::new(
            ErrorKind::Internal,
            "a request to the coordinator ended abnormally: please report this",
        )
        .with_effect(Effect::Unknown)
        .with_source(died))
    })
}

/// Sleeps on the background thread's timer; can be awaited on any executor. *Cancel safe.*
pub fn sleep(duration: Duration) -> impl Future<Output = ()> + Send {
    let _entered = handle().enter();
    tokio::time::sleep(duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleeps_where_no_runtime_is() {
        let long = futures_util::FutureExt::now_or_never(sleep(Duration::from_secs(3600)));
        assert!(long.is_none(), "slept an hour");
        let (done, wait) = std::sync::mpsc::channel();
        handle().spawn(async move {
            sleep(Duration::from_millis(1)).await;
            let _ = done.send(());
        });
        wait.recv_timeout(Duration::from_secs(60))
            .expect("the background thread runs");
    }
}
