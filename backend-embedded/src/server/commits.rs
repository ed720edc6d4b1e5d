//! Waiting for the disk without going to sleep at once: to wake the thread again takes a good part
//! of the time that the disk needs.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::task::yield_now;

/// Twice what a good disk takes to sync. A slow one is slept for, after this much for nothing.
const AWAKE: Duration = Duration::from_micros(300);

/// Those who wait for what a commit answers.
#[derive(Debug, Default)]
pub(super) struct Commits {
    waiting: AtomicUsize,
}

impl Commits {
    /// Waits for this one. While it is the only one, the thread stays awake for a moment, and does
    /// whatever else there is to do. Where many wait, each commit is for some of them and there is
    /// no hurry: those that sleep longer share more.
    ///
    /// *Cancel safety:* that of the answer.
    pub(super) async fn answer<T>(&self, answer: impl Future<Output = T>) -> T {
        let _waiting = Waiting::begin(&self.waiting);
        let mut answer = pin!(answer);
        let begun = Instant::now();
        loop {
            let alone = self.waiting.load(Ordering::Relaxed) == 1;
            let awake = alone && begun.elapsed() < AWAKE;
            tokio::select! {
                biased;
                answer = &mut answer => return answer,
                () = yield_now(), if awake => {}
            }
        }
    }
}

/// Counted until it is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn begin(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Waiting(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::poll_fn;
    use std::task::Poll;

    use futures_util::future::{join, select};

    use super::*;

    /// Never resolves; counts how often it is asked.
    fn counted(polls: &Cell<usize>) -> impl Future<Output = ()> {
        poll_fn(|_| {
            polls.set(polls.get() + 1);
            Poll::Pending
        })
    }

    #[tokio::test]
    async fn only_one_that_waits_alone_keeps_the_thread_awake() {
        let commits = Commits::default();
        let polls = Cell::new(0);
        let turns = async {
            for _ in 0..1000 {
                yield_now().await;
            }
        };
        let waiting = join(
            commits.answer(counted(&polls)),
            commits.answer(counted(&polls)),
        );
        select(pin!(waiting), pin!(turns)).await;
        assert!(polls.get() < 10, "polled {} times", polls.get());
        assert_eq!(commits.waiting.load(Ordering::Relaxed), 0, "dropped");
    }
}
