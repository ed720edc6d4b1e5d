//! The thread that Turnlock's own work runs on, so that sessions are renewed, entries removed and
//! timers fired while the user's executor is blocked, is not tokio's, or has ended.

use std::future::Future;
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, OnceLock, PoisonError, mpsc};
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::error::{Effect, Error, ErrorKind};

/// Pairs of descriptors that are there for sure before a runtime is built.
const SPARE_PAIRS: usize = 4;

#[derive(Debug)]
struct Background {
    handle: Handle,
    /// The process that the thread runs in.
    process: u32,
}

/// Set once, by a start that succeeded.
static BACKGROUND: OnceLock<Background> = OnceLock::new();

/// The runtime behind all sessions of this process: one thread, started on first use, that lives as
/// long as the process. Never block on it.
///
/// # Errors
/// [`ErrorKind::Exhausted`] if the operating system has no thread or descriptors for it now: the
/// next call tries again. [`ErrorKind::Forked`] in the child of a process that had started it.
pub fn handle() -> Result<&'static Handle, Error> {
    match BACKGROUND.get() {
        Some(started) => {
            check_process()?;
            Ok(&started.handle)
        }
        None => begin(),
    }
}

/// Starts it, unless another thread just did.
fn begin() -> Result<&'static Handle, Error> {
    static STARTING: Mutex<()> = Mutex::new(());
    let _starting = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
    let started = match BACKGROUND.get() {
        Some(started) => started,
        None => {
            let started = start()?;
            BACKGROUND.get_or_init(|| started)
        }
    };
    Ok(&started.handle)
}

fn start() -> Result<Background, Error> {
    let short = |error| {
        let text = "this process cannot start the thread that renews its sessions: raise its limits of open files and of threads, or try again later";
        Error::new(ErrorKind::Exhausted, text).with_source(error)
    };
    // The thread first: a runtime for which there is none could not be dropped here, where another
    // one may be running us.
    let (hand_over, handed_over) = mpsc::sync_channel::<Runtime>(1);
    std::thread::Builder::new()
        .name("turnlock".into())
        .spawn(move || {
            if let Ok(runtime) = handed_over.recv() {
                runtime.block_on(std::future::pending::<()>());
            }
        })
        .map_err(short)?;
    let runtime = runtime().map_err(short)?;
    let handle = runtime.handle().clone();
    let _ = hand_over.send(runtime);
    Ok(Background {
        handle,
        process: std::process::id(),
    })
}

/// Builds a runtime of one thread, the caller's.
///
/// # Errors
/// The operating system's, where tokio itself would panic for want of descriptors and could not be
/// used any more in this process.
pub fn runtime() -> std::io::Result<Runtime> {
    let spare: Result<Vec<_>, _> = (0..SPARE_PAIRS).map(|_| UnixStream::pair()).collect();
    drop(spare?);
    Builder::new_current_thread().enable_all().build()
}

/// # Errors
/// [`ErrorKind::Forked`] in the child of a process that uses locks: the background thread is not
/// there, and the sessions are the parent's.
pub(crate) fn check_process() -> Result<(), Error> {
    match is_forked() {
        true => Err(Error::new(
            ErrorKind::Forked,
            "this process was forked from one that uses locks, and has neither its sessions nor the thread that renews them: fork before the first use of a lock, or execute a program in the child",
        )),
        false => Ok(()),
    }
}

/// Whether this process is the child of one that uses locks, by a fork without exec. There nothing
/// of ours may be touched: what other threads of the parent had locked is locked for ever.
pub(crate) fn is_forked() -> bool {
    BACKGROUND
        .get()
        .is_some_and(|started| started.process != std::process::id())
}

/// Runs this on the background thread, to its end. *Cancel safety:* dropped, it is dropped there.
///
/// # Errors
/// Those of the work, and of [`handle`].
///
/// # Panics
/// If it panics.
pub(crate) async fn run<T: Send + 'static>(
    work: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Error> {
    let mut task = JoinSet::new();
    task.spawn_on(work, handle()?);
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
/// Those of the work, and of [`handle`]; [`ErrorKind::Internal`], with an unknown effect, if it
/// panics.
pub async fn finish<T: Send + 'static>(
    work: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Error> {
    // Boxed: the task would be aligned to a cache line, and kilobytes that are come out of glibc's
    // allocator as holes that no later request fits into.
    handle()?
        .spawn(Box::pin(work))
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

/// Does what blocks, on a thread of its own. *Cancel safety:* it is done all the same.
///
/// # Errors
/// [`ErrorKind::Exhausted`] if the operating system has no thread for it now: it was not begun.
///
/// # Panics
/// If it panics.
pub async fn block<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    let (tell, told) = oneshot::channel();
    let thread = std::thread::Builder::new()
        .name("turnlock-block".into())
        .spawn(move || drop(tell.send(work())))
        .map_err(|error| {
            let text = "the operating system has no thread for this process now: raise its limit of threads, or try again later";
            Error::new(ErrorKind::Exhausted, text).with_source(error)
        })?;
    match told.await {
        Ok(done) => Ok(done),
        Err(_) => match thread.join() {
            Err(panic) => std::panic::resume_unwind(panic),
            Ok(()) => unreachable!("it tells before it ends"),
        },
    }
}

/// Sleeps on the background thread's timer; can be awaited on any executor. Where there is no such
/// thread it does not sleep: then whatever the pause is for fails. *Cancel safe.*
pub fn sleep(duration: Duration) -> impl Future<Output = ()> + Send {
    let sleeping = handle().ok().map(|handle| {
        let _entered = handle.enter();
        tokio::time::sleep(duration)
    });
    async move {
        if let Some(sleeping) = sleeping {
            sleeping.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleeps_where_no_runtime_is() {
        let long = futures_util::FutureExt::now_or_never(sleep(Duration::from_secs(3600)));
        assert!(long.is_none(), "slept an hour");
        let (done, wait) = std::sync::mpsc::channel();
        handle().expect("a thread").spawn(async move {
            sleep(Duration::from_millis(1)).await;
            let _ = done.send(());
        });
        wait.recv_timeout(Duration::from_secs(60))
            .expect("the background thread runs");
    }
}
