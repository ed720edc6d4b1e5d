//! Gives the streams of one connection their turns.
//!
//! The streams run in the task of their connection, a few in each turn. So the queue of the runtime
//! has connections in it, and no streams: a client that opens thousands of streams mostly waits for
//! itself, and others wait for one turn of its connection.

use std::convert::Infallible;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use futures_util::future::{CatchUnwind, FutureExt};
use futures_util::stream::{FuturesUnordered, StreamExt};

/// How many times streams are polled in one turn. So many answers of one commit still go to the
/// socket together.
const POLLS: usize = 64;

/// A stream: one call with its answer.
type Stream = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The open streams of one connection.
#[derive(Default)]
pub(super) struct Streams {
    begun: Executor,
    open: FuturesUnordered<InTurn>,
    /// How many polls are left in this turn.
    left: Arc<AtomicUsize>,
}

impl Streams {
    /// Returns what the HTTP/2 layer begins streams with.
    pub(super) fn executor(&self) -> Executor {
        self.begun.clone()
    }

    /// Polls streams that can go on. If there are more of them than one turn has, the task is woken
    /// for another turn behind the other connections.
    pub(super) fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<Infallible> {
        for stream in self.begun.take() {
            // A panic ends one call, and not those beside it.
            let stream = AssertUnwindSafe(stream).catch_unwind();
            let left = Arc::clone(&self.left);
            self.open.push(InTurn { stream, left });
        }
        self.left.store(POLLS, Ordering::Relaxed);
        while let Poll::Ready(Some(_)) = self.open.poll_next_unpin(cx) {}
        Poll::Pending
    }
}

/// Takes the streams that the HTTP/2 layer begins, for the next turn of their connection.
#[derive(Clone, Default)]
pub(super) struct Executor(Arc<Mutex<Vec<Stream>>>);

impl Executor {
    fn take(&self) -> Vec<Stream> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<F> hyper::rt::Executor<F> for Executor
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let mut begun = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        begun.push(Box::pin(stream));
    }
}

/// A stream that waits for the next turn once this one is over.
struct InTurn {
    stream: CatchUnwind<AssertUnwindSafe<Stream>>,
    left: Arc<AtomicUsize>,
}

impl Future for InTurn {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        // One task has the counter, so the order of other memory is no matter.
        let left = self.left.load(Ordering::Relaxed);
        if left == 0 {
            // After the second of these, the set of streams gives the turn up.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.left.store(left - 1, Ordering::Relaxed);
        self.stream.poll_unpin(cx).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, poll_fn};

    use futures_util::task::noop_waker_ref;
    use hyper::rt::Executor as _;

    use super::*;

    /// Begins streams that count their polls, and stay open.
    fn begin(streams: &Streams, number: usize) -> Arc<AtomicUsize> {
        let polls = Arc::new(AtomicUsize::new(0));
        for _ in 0..number {
            let polls = Arc::clone(&polls);
            streams.executor().execute(async move {
                polls.fetch_add(1, Ordering::Relaxed);
                pending().await
            });
        }
        polls
    }

    #[test]
    fn a_turn_ends_although_more_streams_could_go_on() {
        let mut streams = Streams::default();
        let polls = begin(&streams, 3 * POLLS);
        let mut cx = Context::from_waker(noop_waker_ref());
        for turn in 1..=3 {
            assert!(streams.poll_turn(&mut cx).is_pending());
            assert_eq!(polls.load(Ordering::Relaxed), turn * POLLS);
        }
        assert!(streams.poll_turn(&mut cx).is_pending());
        assert_eq!(polls.load(Ordering::Relaxed), 3 * POLLS, "all of them wait");
    }

    #[tokio::test]
    async fn a_turn_that_was_too_short_wakes_the_connection_for_another_one() {
        let mut streams = Streams::default();
        let polls = begin(&streams, 10 * POLLS);
        let all = poll_fn(|cx| {
            let _ = streams.poll_turn(cx);
            match polls.load(Ordering::Relaxed) == 10 * POLLS {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        });
        all.await;
    }

    #[test]
    fn a_panic_ends_one_stream_only() {
        let mut streams = Streams::default();
        streams.executor().execute(async { panic!("for a test") });
        let polls = begin(&streams, 1);
        let mut cx = Context::from_waker(noop_waker_ref());
        assert!(streams.poll_turn(&mut cx).is_pending());
        assert_eq!(polls.load(Ordering::Relaxed), 1);
        assert_eq!(streams.open.len(), 1);
    }
}
