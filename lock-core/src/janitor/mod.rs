//! Does the work that must go on although no caller waits for it. The janitor removes the entries
//! of dropped acquires and guards, watches the entries of held locks, and closes a session that
//! nobody uses any more. This is the only place in the core that spawns.

mod holds;

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::{mpsc, oneshot, watch};

use self::holds::UnwatchedHolds;
use crate::background;
use crate::backoff::Backoff;
use crate::clock::BootInstant;
use crate::entry::{EntryId, Metadata, Mode, Ticket};
use crate::error::{Error, ErrorKind, LossReason};
use crate::gate::{Gate, Try};
use crate::handoff::{HandoffRegistry, HandoffSession};
use crate::hold::Hold;
use crate::liveness::State;
use crate::name::LockName;
use crate::observe::Event;
use crate::retry;
use crate::self_wait::Holders;
use crate::session::Session;

/// How long after its time to live a session that could not be closed has surely ended by itself.
const GRACE: Duration = Duration::from_millis(25);

/// The least time between two tries to close a session that was lost.
const LOST_PAUSE: Duration = Duration::from_secs(1);

/// The most removals that are under way at once. The rest wait their turn, so that a coordinator
/// that was away is not buried under them.
const REMOVALS: usize = 64;

/// A session in use, shared by the locks, waiters and guards that rest on it. When the last of them
/// is dropped, the janitor finishes its removals and closes the session.
#[derive(Debug)]
pub(crate) struct SharedSession {
    handoff: Arc<HandoffSession>,
    serial: AtomicU64,
    /// Unbounded, since `Drop` cannot wait for room. An entry is removed only once, so the number
    /// of entries is the limit.
    jobs: mpsc::UnboundedSender<Job>,
    unwatched: Arc<UnwatchedHolds>,
    holders: Arc<Holders>,
    /// Whether the session has ended, for those that cannot wait for its liveness each.
    ended: watch::Receiver<bool>,
}

enum Job {
    Remove(Ticket, Option<EntryId>),
    /// Closes the session now, and sends the outcome.
    Close(oneshot::Sender<Result<(), Error>>),
}

impl SharedSession {
    pub(crate) fn new(
        session: Arc<dyn Session>,
        registry: Arc<HandoffRegistry>,
        gate: Arc<Gate>,
    ) -> Result<Arc<Self>, Error> {
        let handoff = HandoffSession::new(session, registry, gate);
        let (jobs, queue) = mpsc::unbounded_channel();
        let unwatched = Arc::new(UnwatchedHolds::default());
        let holders = Arc::<Holders>::default();
        let (ending, ended) = watch::channel(false);
        let holds = (unwatched.clone(), holders.clone());
        let work = work(handoff.clone(), holds, queue, ending);
        background::handle()?.spawn(work);
        Ok(Arc::new(SharedSession {
            handoff,
            serial: AtomicU64::new(1),
            jobs,
            unwatched,
            holders,
            ended,
        }))
    }

    /// Returns the session, for operations that concern no queue.
    pub(crate) fn session(&self) -> &dyn Session {
        &**self.handoff.session()
    }

    /// Returns the session, for operations on its entries in queues.
    pub(crate) fn handoff(&self) -> &Arc<HandoffSession> {
        &self.handoff
    }

    /// Returns the registry of the callers that hold locks.
    pub(crate) fn holders(&self) -> &Arc<Holders> {
        &self.holders
    }

    /// Waits until the session is lost or closed. Costs no timer, so very many may wait.
    pub(crate) fn wait_for_end(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut ended = self.ended.clone();
        async move {
            // A janitor that is gone has ended the session, too.
            let _ = ended.wait_for(|ended| *ended).await;
        }
    }

    pub(crate) fn is_alive(&self) -> bool {
        !matches!(self.session().liveness().state(), State::Lost(_))
    }

    pub(crate) fn ticket(&self, name: LockName, mode: Mode, metadata: Arc<Metadata>) -> Ticket {
        Ticket {
            name,
            mode,
            serial: self.next_serial(),
            metadata,
        }
    }

    /// Returns a number that no other ticket or hold of the session has.
    pub(crate) fn next_serial(&self) -> u64 {
        self.serial.fetch_add(1, Ordering::Relaxed)
    }

    /// Removes an entry in the background, for as long as that takes. May be called from `Drop`: it
    /// does not block or spawn.
    pub(crate) fn discard(&self, ticket: Ticket, entry: Option<EntryId>) {
        if background::is_forked() {
            return;
        }
        // If the janitor has ended, it has closed the session, and the entry went with it.
        let _ = self.jobs.send(Job::Remove(ticket, entry));
    }

    /// Closes the session, even if others use it. If that fails, the janitor goes on trying.
    pub(crate) async fn close(&self) -> Result<(), Error> {
        let (done, closed) = oneshot::channel();
        let _ = self.jobs.send(Job::Close(done));
        // If no reply comes, the session was closed before.
        closed.await.unwrap_or(Ok(()))
    }

    /// Makes the janitor watch the entry of a hold if the hold lasts.
    pub(crate) fn register(&self, hold: &Arc<Hold>) {
        self.unwatched.add(hold);
    }

    pub(crate) fn unregister(&self, serial: u64) {
        self.unwatched.remove(serial);
    }
}

/// Leaks the session in a forked child. To drop the session would notify the background thread,
/// which does not exist in the child, and might wait for a mutex that the background thread had
/// locked.
impl Drop for SharedSession {
    fn drop(&mut self) {
        if background::is_forked() {
            std::mem::forget((
                self.handoff.clone(),
                self.jobs.clone(),
                self.unwatched.clone(),
                self.ended.clone(),
            ));
        }
    }
}

/// Runs the janitor of one session.
async fn work(
    handoff: Arc<HandoffSession>,
    (unwatched, holders): (Arc<UnwatchedHolds>, Arc<Holders>),
    mut jobs: mpsc::UnboundedReceiver<Job>,
    ending: watch::Sender<bool>,
) {
    let mut waiting: VecDeque<(Ticket, Option<EntryId>)> = VecDeque::new();
    let mut removals = FuturesUnordered::new();
    let session = &**handoff.session();
    let mut watched = BTreeMap::new();
    let watching = holds::watch(&handoff, &unwatched, &holders, &mut watched);
    let mut watching = watching.boxed().fuse();
    let mut reply = None;
    let mut has_ended = false;
    let mut is_closed = false;
    // The close of a session that was lost while it is in use.
    let mut closings = FuturesUnordered::new();
    loop {
        while removals.len() < REMOVALS
            && let Some((ticket, entry)) = waiting.pop_front()
        {
            removals.push(remove(&handoff, ticket, entry));
        }
        let job = tokio::select! {
            job = jobs.recv() => job,
            Some(()) = removals.next() => continue,
            // The watching ends when the session is lost.
            () = &mut watching => {
                has_ended = true;
                ending.send_replace(true);
                tell_end(session);
                // The coordinator may keep the session, and the entries, for longer than we do.
                closings.push(close_lost(session, handoff.gate()));
                continue;
            }
            Some(()) = closings.next() => {
                is_closed = true;
                continue;
            }
        };
        match job {
            Some(Job::Remove(ticket, entry)) => waiting.push_back((ticket, entry)),
            Some(Job::Close(done)) => {
                reply = Some(done);
                break;
            }
            // No holder or waiter is left.
            None => break,
        }
    }
    ending.send_replace(true);
    // A watch that is being set may keep what the backend must drop to close the session.
    drop(watching);
    // If the close succeeds, it also removes the entries. If it fails, these removals matter.
    waiting
        .into_iter()
        .for_each(|(t, e)| removals.push(remove(&handoff, t, e)));
    let mut closing = pin!(async {
        match (is_closed, reply) {
            (true, Some(reply)) => _ = reply.send(Ok(())),
            (true, None) => {}
            (false, None) if has_ended => _ = closings.next().await,
            (false, None) if is_lost(session) => close_lost(session, handoff.gate()).await,
            (false, reply) => {
                drop(closings);
                close(session, reply).await;
            }
        }
    });
    // A close makes the session lost before it is answered, and holders and waiters learn of that.
    let mut lost = pin!(session.liveness().lost().fuse());
    loop {
        tokio::select! {
            () = &mut closing => break,
            Some(()) = removals.next() => {}
            reason = &mut lost, if !has_ended => holds::end_all(&unwatched, &watched, reason),
        }
    }
    if !has_ended {
        holds::end_all(&unwatched, &watched, loss_of(session));
        tell_end(session);
    }
}

/// Tells the observer that the session has ended.
fn tell_end(session: &dyn Session) {
    session.liveness().observed().emit(|| Event::SessionEnded {
        session: session.id(),
        reason: loss_of(session),
    });
}

/// Returns whether a session was lost. One that this process closes is not.
fn is_lost(session: &dyn Session) -> bool {
    match session.liveness().state() {
        State::Lost(reason) => reason != LossReason::Closed,
        State::Held | State::Jeopardy => false,
    }
}

/// Returns why a session that has ended was lost.
fn loss_of(session: &dyn Session) -> LossReason {
    match session.liveness().state() {
        State::Lost(reason) => reason,
        State::Held | State::Jeopardy => LossReason::Closed,
    }
}

/// Runs a call of a backend so that a panic ends that call, not the janitor.
fn catch_panic<T>(
    call: BoxFuture<'_, Result<T, Error>>,
) -> impl Future<Output = Result<T, Error>> + Unpin {
    AssertUnwindSafe(call).catch_unwind().map(|ended| {
        ended.unwrap_or_else(|_| {
            let text = "a backend panicked in the background: please report this";
            tracing::error!(text);
            Err(Error::new(ErrorKind::Internal, text))
        })
    })
}

/// Returns when a session that is not renewed any more has surely ended by itself. The server's time
/// to live is a little longer than the session's validity, and counts from now at the latest.
fn surely_over(session: &dyn Session) -> BootInstant {
    let liveness = session.liveness();
    liveness.clock().now() + 2 * liveness.validity() + GRACE
}

/// Closes a session that was lost, since the coordinator may still keep it. After an outage all
/// processes have lost their sessions. So each try passes the gate, as a look does. Tries until the
/// session is closed or has surely ended by itself.
async fn close_lost(session: &dyn Session, gate: &Gate) {
    let clock = session.liveness().clock().clone();
    let over = surely_over(session);
    let mut recovery = gate.recovery();
    let mut backoff = Backoff::of_outage();
    while clock.now() < over {
        let passage = match gate.enter(Try::Again) {
            Ok(passage) => passage,
            Err(refusal) => {
                let pause = refusal.retry_after() + backoff.next_pause();
                recovery.wait_at_most(pause).await;
                continue;
            }
        };
        let closed = catch_panic(session.close()).await;
        let Err(error) = &closed else {
            // Some sessions are closed without a request, which says nothing of the coordinator.
            return;
        };
        tracing::debug!(%error, session = %session.id(), "a lost session is not closed yet");
        passage.end(&closed);
        background::sleep(LOST_PAUSE + backoff.next_pause()).await;
    }
}

/// Closes the session. Tries until the session is closed or has surely ended by itself.
async fn close(session: &dyn Session, reply: Option<oneshot::Sender<Result<(), Error>>>) {
    let clock = session.liveness().clock().clone();
    let over = surely_over(session);
    let mut reply = reply;
    let mut backoff = Backoff::of_outage();
    loop {
        // Only a few tries while a caller waits; after that, no caller waits any more.
        let closed = match reply {
            Some(_) => retry::retry_briefly(|| catch_panic(session.close())).await,
            None => catch_panic(session.close()).await,
        };
        if let Err(error) = &closed {
            tracing::debug!(%error, session = %session.id(), "a session could not be closed yet");
        }
        let done = closed.is_ok() || clock.now() >= over;
        if let Some(reply) = reply.take() {
            let _ = reply.send(closed);
        }
        if done {
            return;
        }
        tokio::time::sleep(backoff.next_pause()).await;
    }
}

/// Removes an entry. Tries until that is done or refused, or until the session, and the entry with
/// it, is over. A session that is being closed is over only when the server says so.
async fn remove(handoff: &HandoffSession, ticket: Ticket, entry: Option<EntryId>) {
    let mut backoff = Backoff::default();
    // All waiters of a lost session come here at once, and the end of the session removes their
    // entries.
    while !is_lost(&**handoff.session()) {
        let Err(error) = catch_panic(handoff.try_remove(&ticket, entry.as_ref()).boxed()).await
        else {
            return;
        };
        if !error.is_retryable() && !matches!(error.kind(), ErrorKind::SessionLost(_)) {
            tracing::warn!(%error, lock = %ticket.name, "an entry stays until the session ends");
            return;
        }
        tracing::debug!(%error, lock = %ticket.name, "an entry could not be removed yet");
        tokio::time::sleep(backoff.next_pause()).await;
    }
}
