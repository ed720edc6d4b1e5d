//! The thread of Turnlock's own work. On it, sessions are renewed, entries removed and timers fired
//! while the user's executor is blocked, is not tokio's, or has ended.

use std::future::Future;
use std::io;
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, OnceLock, PoisonError, mpsc};
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};
use tracing::Instrument;

use crate::error::{Effect, Error, ErrorKind};
#[cfg(simulation)]
use crate::surroundings::simulated;

/// Pairs of descriptors that are known to be available before a runtime is built.
const SPARE_PAIRS: usize = 4;

/// A handle to the runtime of all sessions of this process.
#[derive(Debug, Clone)]
pub struct Handle(Place);

#[derive(Debug, Clone)]
enum Place {
    /// The runtime on the thread of Turnlock's own.
    Thread(&'static tokio::runtime::Handle),
    /// A part of a simulation, whose runtime is the current one.
    #[cfg(simulation)]
    Simulated(std::sync::Arc<dyn simulated::Process>),
}

impl Handle {
    /// Spawns a task. It must never block.
    pub fn spawn<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        match &self.0 {
            Place::Thread(runtime) => runtime.spawn(task),
            #[cfg(simulation)]
            Place::Simulated(process) => simulated::spawn(process, task),
        }
    }

    /// Spawns a task that ends when the set is dropped.
    fn spawn_in<T: Send + 'static>(
        &self,
        tasks: &mut JoinSet<T>,
        task: impl Future<Output = T> + Send + 'static,
    ) {
        match &self.0 {
            Place::Thread(runtime) => tasks.spawn_on(task, runtime),
            #[cfg(simulation)]
            Place::Simulated(process) => {
                let spawned = tasks.spawn(simulated::Task::new(process.clone(), task));
                process.add_task(spawned.clone());
                spawned
            }
        };
    }

    fn sleep(&self, duration: Duration) -> tokio::time::Sleep {
        let _entered = match &self.0 {
            Place::Thread(runtime) => Some(runtime.enter()),
            #[cfg(simulation)]
            Place::Simulated(_) => None,
        };
        tokio::time::sleep(duration)
    }
}

#[derive(Debug)]
struct Background {
    runtime: tokio::runtime::Handle,
    /// Knows a child of the process that the thread runs in. A look costs no system call.
    fork: forkguard::Guard,
}

/// Set once, by the first start that succeeds.
static BACKGROUND: OnceLock<Background> = OnceLock::new();

/// Returns the runtime of all sessions of this process: one thread, started on first use, that
/// lives as long as the process. A task on it must never block.
///
/// # Errors
/// [`ErrorKind::Exhausted`] if the operating system has no thread or descriptors for it now: the
/// next call tries again. [`ErrorKind::Forked`] in the child of a process that had started it.
pub fn handle() -> Result<Handle, Error> {
    #[cfg(simulation)]
    if let Some(process) = simulated::current() {
        return Ok(Handle(Place::Simulated(process)));
    }
    let runtime = match BACKGROUND.get() {
        Some(started) => {
            check_process()?;
            &started.runtime
        }
        None => begin()?,
    };
    Ok(Handle(Place::Thread(runtime)))
}

/// Starts the thread, unless another caller has just done so.
fn begin() -> Result<&'static tokio::runtime::Handle, Error> {
    static STARTING: Mutex<()> = Mutex::new(());
    let _starting = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
    let started = match BACKGROUND.get() {
        Some(started) => started,
        None => {
            let started = start()?;
            BACKGROUND.get_or_init(|| started)
        }
    };
    Ok(&started.runtime)
}

fn start() -> Result<Background, Error> {
    let short = |error| {
        let text = "this process cannot start the thread that renews its sessions: raise its \
                    limits of open files and of threads, or try again later";
        Error::new(ErrorKind::Exhausted, text).with_source(error)
    };
    let fork = forkguard::Guard::try_new()
        .map_err(|error| short(io::Error::from_raw_os_error(error.code().get())))?;
    // The thread first: a runtime without a thread could not be dropped here, since the caller may
    // run inside of another runtime.
    let (sender, receiver) = mpsc::sync_channel::<Runtime>(1);
    #[expect(
        clippy::disallowed_methods,
        reason = "the thread of Turnlock's own work"
    )]
    std::thread::Builder::new()
        .name("turnlock".into())
        .spawn(move || {
            if let Ok(runtime) = receiver.recv() {
                runtime.block_on(std::future::pending::<()>());
            }
        })
        .map_err(short)?;
    let runtime = runtime().map_err(short)?;
    let handle = runtime.handle().clone();
    let _ = sender.send(runtime);
    Ok(Background {
        runtime: handle,
        fork,
    })
}

/// Builds a runtime that runs on the thread of its caller.
///
/// # Errors
/// That of the operating system if it has no descriptors left. (tokio itself would panic, and could
/// not be used any more in this process.)
pub fn runtime() -> io::Result<Runtime> {
    let spare: Result<Vec<_>, _> = (0..SPARE_PAIRS).map(|_| UnixStream::pair()).collect();
    drop(spare?);
    Builder::new_current_thread().enable_all().build()
}

/// Checks that this process is not the forked child of one that uses locks.
///
/// # Errors
/// [`ErrorKind::Forked`] in such a child: it has no background thread, and the sessions are the
/// parent's.
pub fn check_process() -> Result<(), Error> {
    match is_forked() {
        true => Err(Error::new(
            ErrorKind::Forked,
            "this process was forked from one that uses locks, and has neither its sessions nor \
             the thread that renews them: fork before the first use of a lock, or execute a \
             program in the child",
        )),
        false => Ok(()),
    }
}

/// Returns whether this process is the child of one that uses locks, by a fork without exec. Such a
/// child must not touch any of our state: a mutex that another thread of the parent held at the
/// fork stays locked for ever.
///
/// The C library reports each `fork` (`pthread_atfork`). A comparison of process ids would cost a
/// system call for each acquire, guard and release: a tenth of a hold in process. A child made by
/// `clone` or `_Fork` is not noticed. The C library itself cannot be used there either: its locks
/// are left as the parent's threads held them.
pub(crate) fn is_forked() -> bool {
    BACKGROUND
        .get()
        .is_some_and(|started| started.fork.clone().detected_fork())
}

/// Runs a future on the background thread.
///
/// # Cancel safety
/// When this future is dropped, the work is dropped, too.
///
/// # Errors
/// Those of the work, and of [`handle`].
///
/// # Panics
/// If the work panics.
pub(crate) async fn run<T: Send + 'static>(
    work: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Error> {
    let mut task = JoinSet::new();
    handle()?.spawn_in(&mut task, work.in_current_span());
    match task.join_next().await {
        Some(Ok(done)) => done,
        Some(Err(died)) => std::panic::resume_unwind(died.into_panic()),
        None => unreachable!("one task was started"),
    }
}

/// Runs a request to a coordinator on the background thread. A request under way is never reset,
/// since servers close connections on which many are.
///
/// # Cancel safety
/// When this future is dropped, the request is finished all the same.
///
/// # Errors
/// Those of the work, and of [`handle`]; [`ErrorKind::Internal`], with an unknown effect, if the
/// work panics.
pub async fn finish<T: Send + 'static>(
    work: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Error> {
    // Boxed: a task is aligned to a cache line, and glibc's allocator leaves holes between large
    // blocks of that alignment, into which no later request fits.
    handle()?
        .spawn(Box::pin(work.in_current_span()))
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

/// Runs a function that blocks on a thread of its own.
///
/// # Cancel safety
/// When this future is dropped, the function runs to its end all the same.
///
/// # Errors
/// [`ErrorKind::Exhausted`] if the operating system has no thread for it now: then it was not
/// begun.
///
/// # Panics
/// If the function panics.
///
/// # Examples
/// ```
/// # async fn example() -> Result<(), lock_core::Error> {
/// let sum = lock_core::background::block(|| (1..=10).sum::<u32>()).await?;
/// assert_eq!(sum, 55);
/// # Ok(())
/// # }
/// ```
pub async fn block<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    let (sender, receiver) = oneshot::channel();
    #[expect(clippy::disallowed_methods, reason = "the function that runs on it blocks")]
    let thread = std::thread::Builder::new()
        .name("turnlock-block".into())
        .spawn(move || drop(sender.send(work())))
        .map_err(|error| {
            let text =
                "the operating system has no thread for this process now: raise its limit of \
                 threads, or try again later";
            Error::new(ErrorKind::Exhausted, text).with_source(error)
        })?;
    match receiver.await {
        Ok(done) => Ok(done),
        Err(_) => match thread.join() {
            Err(panic) => std::panic::resume_unwind(panic),
            Ok(()) => unreachable!("the thread sends its result before it ends"),
        },
    }
}

/// Sleeps by the timer of the background thread; can be awaited on any executor. Returns at once if
/// that thread cannot be started: then the operation that the pause is for fails, too.
///
/// # Cancel safety
/// Cancel safe.
pub fn sleep(duration: Duration) -> impl Future<Output = ()> + Send {
    let sleeping = handle().ok().map(|handle| handle.sleep(duration));
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
