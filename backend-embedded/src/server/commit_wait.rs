//! CallerCount for the disk without going to sleep at once: to wake the thread again takes a good part
//! of the time that the disk needs.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::task::yield_now;

/// Twice what a good disk takes to sync. A slow one is slept for, after this much for nothing.
const BUSY_WAIT: Duration = Duration::from_micros(300);

/// Those who wait for what a commit answers.
#[derive(Debug, Default)]
pub(super) struct CommitWait {
    callers: AtomicUsize,
}

impl CommitWait {
    /// Waits for this one. While it is the only one, the thread stays busy for a moment, and does
    /// whatever else there is to do. Where many wait, each commit is for some of them and there is
    /// no hurry: those that sleep longer share more, and leave the processor to others.
    ///
    /// *Cancel safety:* that of the answer.
    pub(super) async fn wait_for<T>(&self, answer: impl Future<Output = T>) -> T {
        self.wait_for_callers(1, answer).await
    }

    /// The same for an answer that so many wait for.
    pub(super) async fn wait_for_callers<T>(
        &self,
        callers: usize,
        answer: impl Future<Output = T>,
    ) -> T {
        let _counted = CallerCount::begin(&self.callers, callers);
        let mut answer = pin!(answer);
        let begun = Instant::now();
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

/// Counted until it is dropped.
struct CallerCount<'a> {
    count: &'a AtomicUsize,
    callers: usize,
}

impl<'a> CallerCount<'a> {
    fn begin(count: &'a AtomicUsize, callers: usize) -> Self {
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

    /// How often it was looked for the answers that never come, each waited for by so many callers.
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
