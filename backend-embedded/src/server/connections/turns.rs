//! Gives the streams of one connection their turns.
//!
//! The streams run in the task of their connection, a few in each turn. So the queue of the runtime
//! has connections in it, and no streams: a client that opens thousands of streams mostly waits for
//! itself, and others wait for one turn of its connection.

use std::future::{Future, poll_fn};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use futures_util::future::FutureExt;
use futures_util::stream::{FuturesUnordered, StreamExt};

/// How many times the connection and its streams are polled in one turn. So many answers of one
/// commit still go to the socket together.
const POLLS: usize = 64;

/// A stream, which is one call with its answer.
type Stream = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Takes the streams that the HTTP/2 layer begins.
#[derive(Clone, Default)]
pub(super) struct Executor(Arc<Mutex<Vec<Stream>>>);

impl Executor {
    fn begun(&self) -> MutexGuard<'_, Vec<Stream>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<F> hyper::rt::Executor<F> for Executor
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        self.begun().push(Box::pin(stream));
    }
}

/// Runs a connection together with the streams that it gives to this executor, until the connection
/// has ended.
///
/// The connection is polled only when it has something to do. After streams have answered, that is
/// once for all of them.
pub(super) async fn run(connection: impl Future<Output = ()> + Send, executor: Executor) {
    let left = AtomicUsize::new(0);
    let mut open = FuturesUnordered::new();
    open.push(InTurn::new(Box::pin(connection), true, &left));
    poll_fn(|cx| {
        left.store(POLLS, Ordering::Relaxed);
        loop {
            open.extend(
                executor
                    .begun()
                    .drain(..)
                    .map(|begun| InTurn::new(begun, false, &left)),
            );
            match open.poll_next_unpin(cx) {
                Poll::Ready(Some(Ended::Connection) | None) => return Poll::Ready(()),
                Poll::Ready(Some(Ended::Stream)) => {}
                Poll::Pending if executor.begun().is_empty() => return Poll::Pending,
                Poll::Pending => {}
            }
        }
    })
    .await;
}

/// What has ended.
enum Ended {
    Connection,
    Stream,
}

/// The connection or a stream, which waits for the next turn once this one is over.
struct InTurn<'a> {
    future: Pin<Box<dyn Future<Output = ()> + Send + 'a>>,
    is_connection: bool,
    /// How many polls are left in this turn.
    left: &'a AtomicUsize,
}

impl<'a> InTurn<'a> {
    fn new(
        future: Pin<Box<dyn Future<Output = ()> + Send + 'a>>,
        is_connection: bool,
        left: &'a AtomicUsize,
    ) -> Self {
        InTurn {
            future,
            is_connection,
            left,
        }
    }
}

impl Future for InTurn<'_> {
    type Output = Ended;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ended> {
        // One task has the counter, so the order of other memory is no matter.
        let left = self.left.load(Ordering::Relaxed);
        if left == 0 {
            // After the second of these, the set of futures gives the turn up.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.left.store(left - 1, Ordering::Relaxed);
        // A panic ends one call, and not those beside it.
        let polled = AssertUnwindSafe(self.future.as_mut())
            .catch_unwind()
            .poll_unpin(cx);
        polled.map(|_| match self.is_connection {
            true => Ended::Connection,
            false => Ended::Stream,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use futures_util::task::noop_waker_ref;
    use hyper::rt::Executor as _;

    use super::*;

    /// Begins streams that count their polls, and stay open.
    fn begin(executor: &Executor, number: usize) -> Arc<AtomicUsize> {
        let polls = Arc::new(AtomicUsize::new(0));
        for _ in 0..number {
            let polls = Arc::clone(&polls);
            executor.execute(async move {
                polls.fetch_add(1, Ordering::Relaxed);
                pending().await
            });
        }
        polls
    }

    #[test]
    fn a_turn_ends_although_more_streams_could_go_on() {
        let executor = Executor::default();
        let polls = begin(&executor, 3 * POLLS);
        let mut running = Box::pin(run(pending(), executor));
        let mut cx = Context::from_waker(noop_waker_ref());
        for turn in 1..=3 {
            assert!(running.as_mut().poll(&mut cx).is_pending());
            // The first poll of all is that of the connection.
            assert_eq!(polls.load(Ordering::Relaxed), turn * POLLS - 1);
        }
        for _ in 0..2 {
            assert!(running.as_mut().poll(&mut cx).is_pending());
            assert_eq!(polls.load(Ordering::Relaxed), 3 * POLLS, "all of them wait");
        }
    }

    #[tokio::test]
    async fn a_turn_that_was_too_short_wakes_the_connection_for_another_one() {
        let executor = Executor::default();
        let polls = begin(&executor, 10 * POLLS);
        let connection = async {
            while polls.load(Ordering::Relaxed) < 10 * POLLS {
                tokio::task::yield_now().await;
            }
        };
        run(connection, executor).await;
    }

    #[tokio::test]
    async fn streams_that_the_connection_begins_run_and_end_with_it() {
        let executor = Executor::default();
        let (ended, is_ended) = tokio::sync::oneshot::channel::<()>();
        let connection = {
            let executor = executor.clone();
            async move {
                let (sender, receiver) = tokio::sync::oneshot::channel();
                executor.execute(async move {
                    let _ended = ended;
                    sender.send(()).expect("it is waited for");
                    pending().await
                });
                receiver.await.expect("the stream runs");
            }
        };
        run(connection, executor).await;
        is_ended.await.expect_err("dropped with the connection");
    }

    #[tokio::test]
    async fn a_panic_ends_one_stream_only() {
        let executor = Executor::default();
        executor.execute(async { panic!("for a test") });
        let (sender, receiver) = tokio::sync::oneshot::channel();
        executor.execute(async { sender.send(()).expect("it is waited for") });
        let connection = async { receiver.await.expect("the other stream runs") };
        run(connection, executor).await;
    }
}
