//! Processes that are simulated: many of them share the thread of one paused runtime.
//!
//! A task belongs to the process that spawned it, by [`background`](crate::background) or by
//! [`spawn`]. While it is polled or dropped, that process is the current one.

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use tokio::task::{AbortHandle, JoinHandle};

thread_local! {
    static CURRENT: RefCell<Option<Arc<dyn Process>>> = const { RefCell::new(None) };
}

/// A simulated process.
pub trait Process: fmt::Debug + Send + Sync {
    /// Returns the nanoseconds by its clock since its machine was started.
    fn boot_nanos(&self) -> u64;

    /// Returns the time for which its machine has run, by its clock, without suspended times.
    fn running_time(&self) -> Duration;

    /// Returns the time by its wall clock.
    fn wall_clock(&self) -> SystemTime;

    /// Returns its id, which no two processes of a simulation share.
    fn id(&self) -> u32;

    /// Polls a task of the process by `poll` if the process runs now. If it stands still, keeps the
    /// waker of the context until it runs again.
    fn poll_task(
        &self,
        context: &mut Context<'_>,
        poll: &mut dyn FnMut(&mut Context<'_>) -> Poll<()>,
    ) -> Poll<()>;

    /// Adds a task, which is aborted when the process is killed.
    fn add_task(&self, task: AbortHandle);
}

/// Returns the process whose task is polled now; `None` outside of all simulated processes.
pub fn current() -> Option<Arc<dyn Process>> {
    CURRENT.with_borrow(Clone::clone)
}

/// Spawns a task of a process. Must be called within the runtime of the simulation.
pub fn spawn<T: Send + 'static>(
    process: &Arc<dyn Process>,
    task: impl Future<Output = T> + Send + 'static,
) -> JoinHandle<T> {
    #[expect(clippy::disallowed_methods, reason = "the task is one of a process")]
    let spawned = tokio::spawn(Task::new(process.clone(), task));
    process.add_task(spawned.abort_handle());
    spawned
}

/// Calls a function as a part of a process.
pub fn enter<T>(process: &Arc<dyn Process>, work: impl FnOnce() -> T) -> T {
    /// Leaves the process, also by a panic.
    struct Entered(Option<Arc<dyn Process>>);
    impl Drop for Entered {
        fn drop(&mut self) {
            let outer = self.0.take();
            drop(CURRENT.replace(outer));
        }
    }
    let _entered = Entered(CURRENT.replace(Some(process.clone())));
    work()
}

/// A task of a process.
pub(crate) struct Task<F> {
    process: Arc<dyn Process>,
    /// `None` once it is dropped.
    work: Option<Pin<Box<F>>>,
}

impl<F> Task<F> {
    pub(crate) fn new(process: Arc<dyn Process>, work: F) -> Self {
        let work = Some(Box::pin(work));
        Task { process, work }
    }
}

impl<F: Future> Future for Task<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let process = self.process.clone();
        let mut output = None;
        let polled = process.poll_task(context, &mut |context| match &mut self.work {
            Some(work) => {
                let polled = enter(&process, || work.as_mut().poll(context));
                polled.map(|done| output = Some(done))
            }
            None => Poll::Pending,
        });
        match (polled, output) {
            (Poll::Ready(()), Some(done)) => Poll::Ready(done),
            _ => Poll::Pending,
        }
    }
}

impl<F> Drop for Task<F> {
    fn drop(&mut self) {
        let work = mem::take(&mut self.work);
        enter(&self.process, || drop(work));
    }
}
