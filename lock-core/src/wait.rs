//! The loop in which every waiter waits for a change, looks at its queue, and judges what it sees.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};

use crate::background;
use crate::backoff::Backoff;
use crate::entry::{EntryId, Ticket};
use crate::error::{Error, ErrorKind};
use crate::handoff::{Change, HandoffSession};
use crate::name::LockName;
use crate::observe::BlockedRecord;
use crate::operation::Operation;
use crate::retry::{RetryPolicy, retry};
use crate::rule::{self, Verdict, View};
use crate::self_wait::SelfWaitCheck;
use crate::session::{AsOf, Watcher};

/// How often a waiter looks without an event (up to twice this time, at random), because a store
/// can lose the event of a watch.
const BACKSTOP: Duration = Duration::from_secs(5);

/// How long a look without an event that has failed keeps its turn, so that the waiters of a
/// session together do not ask a coordinator out of reach more than twice a second.
const FAILED_LOOK: Duration = Duration::from_secs(1);

/// How long a waiter stands behind one blocker before it watches its own entry too. If the lock is
/// handed over faster, that watch is not worth its requests.
const OWN_WATCH: Duration = Duration::from_millis(50);

/// What is done in a wait that lasts, beside the watches. Nothing of it decides anything.
#[derive(Debug)]
pub(crate) struct Asides {
    pub(crate) self_wait: SelfWaitCheck,
    /// What tells the observer, if there is one, who keeps the acquire waiting.
    pub(crate) blocked: Option<BlockedRecord>,
}

impl Asides {
    /// Does it for a wait behind this blocker. Never resolves.
    async fn run(
        &self,
        handoff: &HandoffSession,
        name: &LockName,
        blocker: &EntryId,
    ) -> Infallible {
        let telling = async {
            if let Some(blocked) = &self.blocked {
                blocked.tell(&**handoff.session(), blocker).await;
            }
            std::future::pending().await
        };
        tokio::select! {
            never = telling => never,
            never = self.self_wait.warn_later(name) => never,
        }
    }
}

/// Waits until this entry is granted the lock, from the view that was read when the entry was made.
pub(crate) async fn wait_for_grant(
    handoff: Arc<HandoffSession>,
    ticket: Ticket,
    entry: EntryId,
    mut view: View,
    asides: Asides,
) -> Result<(), Error> {
    let handoff = &*handoff;
    let mut watch: Option<(EntryId, BoxFuture<'_, Result<Change, Error>>)> = None;
    let mut backoff = Backoff::default();
    loop {
        let blocker = match rule::judge(ticket.mode, &view) {
            Verdict::Granted => return Ok(()),
            Verdict::Blocked(blocker) => blocker,
            Verdict::Evicted => {
                return Err(Error::new(
                    ErrorKind::Evicted,
                    format!(
                        "our entry in the queue of {:?} was removed while we waited",
                        ticket.name.as_str()
                    ),
                ));
            }
        };
        // A watch that is still good is kept while the backstop looks.
        let changed = match &mut watch {
            Some((watched, changed)) if watched.is_same_as_far_as_known(&blocker) => changed,
            stale => {
                let (own, behind) = (entry.clone(), blocker.clone());
                let changed = changed(handoff, &ticket, own, behind, &asides).boxed();
                &mut stale.insert((blocker.clone(), changed)).1
            }
        };
        let backstop = async {
            background::sleep(BACKSTOP.mul_f64(1.0 + fastrand::f64())).await;
            look_in_turn(handoff, &ticket, &entry).await
        };
        let woken = tokio::select! {
            biased;
            changed = changed => Woken::Changed(changed),
            looked = backstop => Woken::Looked(looked?),
        };
        view = match woken {
            Woken::Looked(view) => view,
            Woken::Changed(changed) => {
                watch = None;
                let woken = match changed {
                    Err(error) if !error.is_retryable() => return Err(error),
                    Err(error) => {
                        tracing::debug!(%error, lock = %ticket.name, "a wait was interrupted");
                        background::sleep(backoff.next_pause()).await;
                        look_and_watch(handoff, &ticket, &entry, &blocker, &asides).await?
                    }
                    Ok(change) => Woken::Changed(Ok(change)),
                };
                match woken {
                    Woken::Looked(view) => view,
                    Woken::Changed(Ok(Change::First)) => return Ok(()),
                    Woken::Changed(_) => {
                        let observed = handoff.session().liveness().observed();
                        let observed = observed.of_retries(Operation::Acquire);
                        let look = || handoff.look(&ticket, &entry, AsOf::Change);
                        retry(RetryPolicy::Endless, observed, look).await?
                    }
                }
            }
        };
        // The watch reported no real change. That is allowed, but must not be repeated as fast as
        // possible.
        match rule::judge(ticket.mode, &view) {
            Verdict::Blocked(still)
                if still.is_same_as_far_as_known(&blocker) && watch.is_none() =>
            {
                background::sleep(backoff.next_pause()).await;
            }
            _ => backoff = Backoff::default(),
        }
    }
}

/// What ends one round of a wait.
enum Woken {
    Changed(Result<Change, Error>),
    /// The backstop has looked.
    Looked(View),
}

/// Looks without an event, after a watch broke, and watches meanwhile: a lock that becomes free does
/// not wait for the turn of a look.
async fn look_and_watch(
    handoff: &HandoffSession,
    ticket: &Ticket,
    entry: &EntryId,
    blocker: &EntryId,
    asides: &Asides,
) -> Result<Woken, Error> {
    let change = async {
        let (own, behind) = (entry.clone(), blocker.clone());
        match changed(handoff, ticket, own, behind, asides).await {
            Ok(change) => change,
            // The look goes on without it.
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        change = change => Ok(Woken::Changed(Ok(change))),
        looked = look_in_turn(handoff, ticket, entry) => Ok(Woken::Looked(looked?)),
    }
}

/// Looks without an event. The waiters of a session take turns, so that all of them together are no
/// burden to a coordinator in trouble. Each try is a turn of its own: a waiter whose looks fail
/// must not keep the others from theirs.
async fn look_in_turn(
    handoff: &HandoffSession,
    ticket: &Ticket,
    entry: &EntryId,
) -> Result<View, Error> {
    let observed = handoff.session().liveness().observed();
    let observed = observed.of_retries(Operation::Acquire);
    retry(RetryPolicy::Endless, observed, || async {
        let _turn = handoff.turn_to_look().await;
        let looked = handoff.look(ticket, entry, AsOf::Now).await;
        if looked.as_ref().is_err_and(Error::is_retryable) {
            background::sleep(FAILED_LOOK).await;
        }
        looked
    })
    .await
}

/// Waits until the waiter's own entry or its blocker is gone. A wait that is over soon needs no more
/// than the watch of the blocker.
async fn changed(
    handoff: &HandoffSession,
    ticket: &Ticket,
    own: EntryId,
    blocker: EntryId,
    asides: &Asides,
) -> Result<Change, Error> {
    let evicted = async {
        background::sleep(OWN_WATCH).await;
        tokio::select! {
            gone = handoff.session().watch(&own, Watcher::Owner) => gone,
            never = asides.run(handoff, &ticket.name, &blocker) => match never {},
        }
    };
    tokio::select! {
        changed = handoff.wait_for_change(ticket, &own, &blocker) => changed,
        evicted = evicted => evicted.map(|()| Change::Gone),
    }
}
