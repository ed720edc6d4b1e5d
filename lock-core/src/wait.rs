//! The loop in which every waiter waits for a change, looks at its queue, and judges what it sees.

use std::convert::Infallible;
use std::pin::pin;
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
use crate::rule::{self, Verdict, View};
use crate::self_wait::SelfWaitCheck;
use crate::session::Watcher;

/// How often a waiter looks without an event (up to twice this time, at random), because a store
/// can lose the event of a watch.
const BACKSTOP: Duration = Duration::from_secs(5);

/// The waiters of a session share their looks: each of them waits longer by this for each other one,
/// up to a limit, so that many waiters are no burden to a coordinator.
const BACKSTOP_SHARE: Duration = Duration::from_millis(1_500);
const LONGEST_BACKSTOP: Duration = Duration::from_secs(60);

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
    let _waiting = handoff.count_waiter();
    let begin_watch = |blocker: &EntryId| {
        let changed = changed(handoff, &ticket, entry.clone(), blocker.clone(), &asides);
        (blocker.clone(), changed.boxed())
    };
    let mut watch: Option<Watch<'_>> = None;
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
        // A watch that is still good is kept.
        let changed = match &mut watch {
            Some((watched, changed)) if watched.is_same_as_far_as_known(&blocker) => changed,
            stale => &mut stale.insert(begin_watch(&blocker)).1,
        };
        let backstop = (BACKSTOP_SHARE * handoff.waiters()).clamp(BACKSTOP, LONGEST_BACKSTOP);
        let backstop = async {
            background::sleep(backstop.mul_f64(1.0 + fastrand::f64())).await;
            handoff.look_in_turn(&ticket, &entry).await
        };
        let mut woken = tokio::select! {
            biased;
            changed = changed => Woken::Changed(changed),
            looked = backstop => {
                backoff = Backoff::default();
                Woken::Looked(looked?)
            }
        };
        if let Woken::Changed(changed) = &woken {
            watch = None;
            if let Err(error) = changed
                && error.is_retryable()
            {
                tracing::debug!(%error, lock = %ticket.name, "a wait was interrupted");
                background::sleep(backoff.next_pause()).await;
                watch = Some(begin_watch(&blocker));
                let look = handoff.look_in_turn(&ticket, &entry);
                woken = look_while_watching(look, &mut watch).await?;
            }
        }
        view = match woken {
            Woken::Looked(view) => view,
            Woken::Changed(changed) => match changed? {
                Change::First => return Ok(()),
                Change::Gone => handoff.look_after_change(&ticket, &entry).await?,
            },
        };
        match rule::judge(ticket.mode, &view) {
            Verdict::Blocked(still) if still.is_same_as_far_as_known(&blocker) => {
                // The watch reported no real change. That is allowed, but must not be repeated as
                // fast as possible.
                if watch.is_none() {
                    background::sleep(backoff.next_pause()).await;
                }
            }
            _ => backoff = Backoff::default(),
        }
    }
}

/// A watch of a waiter, with the entry ahead of it.
type Watch<'a> = (EntryId, BoxFuture<'a, Result<Change, Error>>);

/// What ends one round of a wait.
enum Woken {
    Changed(Result<Change, Error>),
    /// The waiter has looked without an event.
    Looked(View),
}

/// Waits for a look, and watches meanwhile: a lock that becomes free does not wait for the turn of a
/// look. Keeps the watch if it is still good then.
async fn look_while_watching(
    look: impl Future<Output = Result<View, Error>>,
    watch: &mut Option<Watch<'_>>,
) -> Result<Woken, Error> {
    let mut look = pin!(look);
    if let Some((_, changed)) = watch {
        let changed = tokio::select! {
            biased;
            changed = changed => changed,
            looked = &mut look => return Ok(Woken::Looked(looked?)),
        };
        *watch = None;
        if changed.is_ok() {
            return Ok(Woken::Changed(changed));
        }
    }
    Ok(Woken::Looked(look.await?))
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
