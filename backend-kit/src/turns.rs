//! Bounds how many requests that begin something are under way at once.
//!
//! The requests of a client share a connection, on which each waits behind those that were sent
//! before it. What lets go or proves life needs no turn, and never waits behind thousands.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use lock_core::{Effect, Error, ErrorKind, LossReason, background};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tracing::Instrument;

/// The turns of one client.
#[derive(Debug)]
pub struct Turns {
    permits: Arc<Semaphore>,
    /// The last failure to reach the coordinator of a request that had its turn.
    unreachable: watch::Sender<Option<Error>>,
    /// How many of those that had a turn were answered.
    answers: AtomicU64,
}

impl Turns {
    /// Returns turns of which this many are taken at once.
    pub fn new(count: usize) -> Arc<Self> {
        Arc::new(Turns {
            permits: Arc::new(Semaphore::new(count)),
            unreachable: watch::Sender::default(),
            answers: AtomicU64::new(0),
        })
    }

    /// Makes a request when it has its turn, on the background thread. The turn belongs to the
    /// request: a caller that does not poll keeps nobody else from theirs.
    ///
    /// If the coordinator cannot be reached by a request that has its turn, those that wait are not
    /// sent, and fail as it did: each of them would find out by itself, after its own time limit.
    ///
    /// # Errors
    /// The error of the request; the error of another request that could not reach the coordinator
    /// while this one waited; [`ErrorKind::SessionLost`] once the turns are closed; the errors of
    /// [`background::handle`]; [`ErrorKind::Internal`] if the request panics.
    ///
    /// # Cancel safety
    /// Once this future is dropped, the request is not polled for the first time any more. If it has
    /// been, it goes on to its end.
    pub async fn take<T: Send + 'static>(
        self: &Arc<Self>,
        request: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        let (mut caller, answer) = oneshot::channel();
        let is_wanted = Arc::new(Mutex::new(true));
        let _withdraws = Withdraws(is_wanted.clone());
        let turn = self.clone().wait();
        let made = async move {
            let turn = tokio::select! {
                biased;
                () = caller.closed() => return,
                turn = turn => turn,
            };
            let outcome = match turn {
                Ok(turn) => match make(request, &is_wanted).await {
                    Some(outcome) => {
                        turn.end(&outcome);
                        outcome
                    }
                    None => return,
                },
                Err(error) => Err(error),
            };
            let _ = caller.send(outcome);
        };
        // Boxed, as in `background::finish`: thousands of them may wait.
        background::handle()?.spawn(Box::pin(made.in_current_span()));
        answer.await.unwrap_or_else(|_| {
            let text = "a request ended abnormally: please report this";
            Err(Error::new(ErrorKind::Internal, text).with_effect(Effect::Unknown))
        })
    }

    /// Closes the turns with the session that they are for: what waits for its turn fails.
    pub fn close(&self) {
        self.permits.close();
    }

    /// Waits for a turn. Learns of all failures from this call on.
    fn wait(self: Arc<Self>) -> impl Future<Output = Result<Turn, Error>> {
        let mut failures = self.unreachable.subscribe();
        async move {
            let permit = tokio::select! {
                biased;
                Ok(()) = failures.changed() => {
                    let failure = failures.borrow().clone();
                    return Err(failure.expect("a change is a failure"));
                }
                permit = self.permits.clone().acquire_owned() => {
                    permit.map_err(|_| Error::session_lost(LossReason::Closed))?
                }
            };
            let answered_before = self.answers.load(Ordering::Relaxed);
            Ok(Turn {
                turns: self,
                answered_before,
                _permit: permit,
            })
        }
    }
}

/// The turn of one request.
#[derive(Debug)]
struct Turn {
    turns: Arc<Turns>,
    /// How many others had been answered when this one began.
    answered_before: u64,
    _permit: OwnedSemaphorePermit,
}

impl Turn {
    fn end<T>(self, outcome: &Result<T, Error>) {
        let answers = &self.turns.answers;
        match outcome {
            Ok(_) => _ = answers.fetch_add(1, Ordering::Relaxed),
            // Others that were sent later, perhaps to another member, have been answered.
            Err(_) if answers.load(Ordering::Relaxed) != self.answered_before => {}
            Err(error) if error.kind() == ErrorKind::Unreachable => {
                let error = error.clone().with_effect(Effect::None);
                self.turns.unreachable.send_replace(Some(error));
            }
            Err(_) => {}
        }
    }
}

/// Makes a request if it is wanted when it begins. The first poll sends what the request sends at
/// once, as nothing before it has used up the task's budget of cooperation.
async fn make<T>(request: impl Future<Output = T>, is_wanted: &Mutex<bool>) -> Option<T> {
    let mut request = pin!(request);
    let mut has_begun = false;
    let made = poll_fn(|context| {
        if has_begun {
            return request.as_mut().poll(context).map(Some);
        }
        has_begun = true;
        // The caller cannot withdraw it during this poll.
        let is_wanted = is_wanted.lock().unwrap_or_else(PoisonError::into_inner);
        match *is_wanted {
            true => request.as_mut().poll(context).map(Some),
            false => Poll::Ready(None),
        }
    });
    made.await
}

/// Withdraws a request that has not begun when this is dropped.
struct Withdraws(Arc<Mutex<bool>>);

impl Drop for Withdraws {
    fn drop(&mut self) {
        // In a forked child, the thread that may have locked it is missing.
        if background::check_process().is_ok() {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use futures_util::FutureExt;
    use futures_util::future::{BoxFuture, join, pending};
    use tokio::sync::Notify;

    use super::*;

    fn unreachable() -> Error {
        Error::new(ErrorKind::Unreachable, "no route").with_effect(Effect::Unknown)
    }

    /// A request that ends when the test says so.
    #[derive(Debug, Default)]
    struct Request {
        has_begun: AtomicBool,
        has_ended: AtomicBool,
        begun: Notify,
        outcome: Mutex<Option<Error>>,
        ends: Notify,
    }

    impl Request {
        fn new() -> Arc<Self> {
            Arc::default()
        }

        fn take(self: &Arc<Self>, turns: &Arc<Turns>) -> BoxFuture<'static, Result<(), Error>> {
            let (turns, request) = (turns.clone(), self.clone());
            let made = async move {
                request.has_begun.store(true, Ordering::SeqCst);
                request.begun.notify_one();
                request.ends.notified().await;
                request.has_ended.store(true, Ordering::SeqCst);
                let outcome = request.outcome.lock().expect("never poisoned").take();
                outcome.map_or(Ok(()), Err)
            };
            async move { turns.take(made).await }.boxed()
        }

        /// Takes a turn for a caller that polls once.
        fn begin(self: &Arc<Self>, turns: &Arc<Turns>) -> BoxFuture<'static, Result<(), Error>> {
            let mut caller = self.take(turns);
            assert!((&mut caller).now_or_never().is_none(), "it ends later");
            caller
        }

        fn end(&self) {
            self.ends.notify_one();
        }

        fn fail(&self, error: Error) {
            *self.outcome.lock().expect("never poisoned") = Some(error);
            self.ends.notify_one();
        }
    }

    /// Lets the tasks on the background thread do what they can.
    async fn settle() {
        for _ in 0..10 {
            let turn = background::finish(async { Ok(()) });
            turn.await.expect("a background thread");
        }
    }

    #[tokio::test]
    async fn a_caller_that_does_not_poll_keeps_nobody_from_their_turn() {
        let turns = Turns::new(1);
        let (first, second) = (Request::new(), Request::new());
        let unpolled = first.begin(&turns);
        first.begun.notified().await;
        let waiting = second.begin(&turns);
        settle().await;
        assert!(!second.has_begun.load(Ordering::SeqCst), "out of turn");
        first.end();
        second.end();
        waiting.await.expect("its turn");
        unpolled.await.expect("it had its turn");
    }

    #[tokio::test]
    async fn a_request_whose_caller_is_gone_is_not_begun_and_one_that_has_begun_goes_on() {
        let turns = Turns::new(1);
        let (begun, withdrawn, last) = (Request::new(), Request::new(), Request::new());
        let caller = begun.begin(&turns);
        begun.begun.notified().await;
        drop(caller);
        drop(withdrawn.begin(&turns));
        settle().await;
        assert_eq!(Arc::strong_count(&withdrawn), 1, "what it holds is let go");
        begun.end();
        last.end();
        last.take(&turns).await.expect("its turn");
        assert!(begun.has_ended.load(Ordering::SeqCst));
        assert!(!withdrawn.has_begun.load(Ordering::SeqCst));
    }

    #[tokio::test]
    async fn the_caller_withdraws_a_request_that_already_has_its_turn() {
        let request = poll_fn(|_| -> Poll<()> { panic!("begun") });
        assert!(make(request, &Mutex::new(false)).await.is_none());
    }

    #[tokio::test]
    async fn those_that_wait_fail_as_the_one_that_reached_nobody() {
        let turns = Turns::new(1);
        let (first, waiting) = (Request::new(), Request::new());
        let failed = first.begin(&turns);
        first.begun.notified().await;
        let refused = waiting.begin(&turns);
        first.fail(unreachable());
        let (failed, refused) = join(failed, refused).await;
        assert_eq!(failed.expect_err("failed").effect(), Effect::Unknown);
        let refused = refused.expect_err("not sent");
        assert_eq!(
            (refused.kind(), refused.effect()),
            (ErrorKind::Unreachable, Effect::None)
        );
        assert!(!waiting.has_begun.load(Ordering::SeqCst));
        let next = Request::new();
        next.end();
        next.take(&turns).await.expect("the trouble is over");
    }

    #[tokio::test]
    async fn a_failure_is_no_news_once_others_were_answered() {
        let turns = Turns::new(2);
        let (late, answered, waiting) = (Request::new(), Request::new(), Request::new());
        let failed = late.begin(&turns);
        late.begun.notified().await;
        answered.end();
        answered.take(&turns).await.expect("an answer");
        let (blocking, mut others) = (Request::new(), Vec::new());
        for request in [&blocking, &waiting] {
            others.push(request.begin(&turns));
        }
        blocking.begun.notified().await;
        late.fail(unreachable());
        failed.await.expect_err("failed");
        blocking.end();
        waiting.end();
        for caller in others {
            caller.await.expect("its turn");
        }
    }

    #[tokio::test]
    async fn once_closed_nothing_begins() {
        let turns = Turns::new(1);
        let mut first = turns.take(pending::<Result<(), Error>>()).boxed();
        assert!((&mut first).now_or_never().is_none());
        let waiting = Request::new();
        let refused = waiting.begin(&turns);
        turns.close();
        let error = refused.await.expect_err("closed");
        assert_eq!(error.kind(), ErrorKind::SessionLost(LossReason::Closed));
        assert!(!waiting.has_begun.load(Ordering::SeqCst));
    }
}
