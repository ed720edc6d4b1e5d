//! Waiting for a commit without putting the thread to sleep at once: to wake it again takes a good
//! part of the time that the disk needs.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use lock_core::clock::Stopwatch;
use tokio::task::yield_now;

/// How long the thread stays awake for one commit: twice the time that a good disk takes to sync.
/// For a slower disk the thread sleeps after this.
///
/// The time of a simulation stands still while a thread is awake.
const BUSY_WAIT: Duration = match cfg!(simulation) {
    true => Duration::ZERO,
    false => Duration::from_micros(300),
};

/// Counts the callers that wait for commits.
#[derive(Debug, Default)]
pub(super) struct CommitWait {
    callers: AtomicUsize,
}

impl CommitWait {
    /// Waits for the result of a commit. While there is only one caller, the thread stays awake for
    /// up to [`BUSY_WAIT`], and runs its other tasks. With several callers each commit serves only
    /// some of them, and there is no hurry: callers that sleep longer share more commits, and leave
    /// the processor to others.
    ///
    /// # Cancel safety
    /// As `answer`.
    pub(super) async fn wait_for<T>(&self, answer: impl Future<Output = T>) -> T {
        self.wait_for_callers(1, answer).await
    }

    /// Waits as [`wait_for`](Self::wait_for) does, for a result that `callers` callers wait for.
    pub(super) async fn wait_for_callers<T>(
        &self,
        callers: usize,
        answer: impl Future<Output = T>,
    ) -> T {
        let _counted = CallerCount::begin(&self.callers, callers);
        let mut answer = pin!(answer);
        let begun = Stopwatch::start();
        loop {
            let is_only_caller = self.callers.load(Ordering::Relaxed) == 1;
            let busy = is_only_caller && begun.elapsed() < BUSY_WAIT;
            tokio::select! {
                biased;
                answer = &mut answer => return answer,
                () = yield_now(), if busy => {}
            }
        }
    }
}

/// Counts its callers until it is dropped.
pub(super) struct CallerCount<'a> {
    count: &'a AtomicUsize,
    callers: usize,
}

impl<'a> CallerCount<'a> {
    pub(super) fn begin(count: &'a AtomicUsize, callers: usize) -> Self {
        count.fetch_add(callers, Ordering::Relaxed);
        CallerCount { count, callers }
    }
}

impl Drop for CallerCount<'_> {
    fn drop(&mut self) {
        self.count.fetch_sub(self.callers, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::Arc;
    use std::task::Poll;

    use super::*;

    /// Returns how often results that never come were polled, each waited for by this many callers.
    async fn polls(answers: &[usize]) -> usize {
        let commit_wait = Arc::new(CommitWait::default());
        let polls = Arc::new(AtomicUsize::new(0));
        let wait = |&callers: &usize| {
            let (commit_wait, polls) = (commit_wait.clone(), polls.clone());
            let never = poll_fn(move |_| {
                polls.fetch_add(1, Ordering::Relaxed);
                Poll::<()>::Pending
            });
            tokio::spawn(async move { commit_wait.wait_for_callers(callers, never).await })
        };
        let waiting: Vec<_> = answers.iter().map(wait).collect();
        for _ in 0..1000 {
            yield_now().await;
        }
        let polled = polls.load(Ordering::Relaxed);
        for task in waiting {
            task.abort();
            assert!(task.await.is_err_and(|ended| ended.is_cancelled()));
        }
        assert_eq!(commit_wait.callers.load(Ordering::Relaxed), 0, "counted");
        polled
    }

    #[tokio::test]
    async fn where_several_wait_none_keeps_the_thread_awake() {
        for (answers, few) in [(&[1, 1, 1][..], 3..10), (&[3], 1..5)] {
            let polled = polls(answers).await;
            assert!(few.contains(&polled), "{answers:?}: {polled} times");
        }
    }
}
