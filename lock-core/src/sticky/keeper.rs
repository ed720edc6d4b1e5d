//! The keeper of an entry: it watches what stands behind the entry for as long as this is kept, and
//! ends an entry that nobody uses.

use std::convert::Infallible;
use std::future::pending;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::kept::{Kept, Others};
use super::registry::Keepers;
use super::slot::Slot;
use crate::background;
use crate::backoff::Backoff;
use crate::clock::{BootInstant, Clock};
use crate::entry::{EntryId, Ticket};
use crate::error::{Error, ErrorKind};
use crate::handoff::HandoffSession;
use crate::session::{AsOf, Behind};

/// How often a keeper asks without an event (up to twice this time, at random), because a store can
/// lose the event of a watch.
const BACKSTOP: Duration = Duration::from_secs(5);

/// The most keepers that each ask so often. If there are more, each waits longer in proportion, up to a
/// limit, so that more kept entries cost hardly more requests.
const BACKSTOP_KEEPERS: usize = 100;
const LONGEST_BACKSTOP: Duration = Duration::from_secs(120);

/// How long an answer is waited for. An entry of which it cannot be known whether somebody waits
/// behind it is given up.
const QUESTION: Duration = Duration::from_secs(5);

/// How long after a question that was not answered another one is put, while the watch seems good.
const SECOND_QUESTION: Duration = Duration::from_secs(1);

/// A watch that lasts longer than this has not resolved early.
const EARLY: Duration = Duration::from_millis(100);

/// When it is dropped, also by a panic, the entry is not used any more.
struct Keeper {
    slot: Weak<Slot>,
    handoff: Arc<HandoffSession>,
    ticket: Ticket,
    entry: EntryId,
    others: watch::Sender<Others>,
    keepers: Arc<Keepers>,
}

/// A watch on what stands behind the entry.
type Watch = BoxFuture<'static, Result<(), Error>>;

/// Returns the work of a keeper that watches an entry until it is kept no more; `None` if it has one.
pub(super) fn begin(
    slot: &Arc<Slot>,
    kept: &mut Kept,
) -> Option<impl Future<Output = ()> + Send + use<>> {
    let (others, parked) = kept.begin_watch()?;
    slot.keepers().add();
    let keeper = Keeper {
        slot: Arc::downgrade(slot),
        handoff: kept.shared_session().handoff().clone(),
        ticket: kept.ticket().clone(),
        entry: kept.entry().clone(),
        others,
        keepers: slot.keepers().clone(),
    };
    let ended = kept.shared_session().wait_for_end();
    Some(async move {
        tokio::select! {
            biased;
            () = keeper.others.closed() => {}
            () = ended => {}
            () = keeper.watch() => {}
            never = keeper.end_idle(&parked) => match never {},
        }
    })
}

/// Starts a keeper. Without the background thread there is no session either, and the keeper ends.
pub(super) fn start(keeping: impl Future<Output = ()> + Send + 'static) {
    if let Ok(background) = background::handle() {
        background.spawn(keeping);
    }
}

impl Keeper {
    /// Watches until the entry is not to be used any more.
    async fn watch(&self) {
        // Since when somebody may have waited unnoticed: the grant, or the last question whose answer
        // was that nobody does.
        let mut since = match *self.others.borrow() {
            Others::Unknown(since) | Others::Waiting(since) => since,
            Others::Nobody | Others::Gone => Clock::system().now(),
        };
        let mut asked = Clock::system().now();
        let mut behind = self.ask(AsOf::Now).await;
        let mut backoff = Backoff::default();
        loop {
            let mut watch = match behind {
                Ok(Behind::Nobody(watch)) => watch,
                Ok(Behind::Somebody) => return self.recall(since),
                Ok(Behind::Gone) => return,
                Err(error) => {
                    tracing::debug!(%error, lock = %self.ticket.name, "a kept entry is given up");
                    return;
                }
            };
            since = asked;
            let begun = Instant::now();
            self.others.send_replace(Others::Nobody);
            behind = match self.wait(&mut watch).await {
                Woken::Asked(when, behind) => {
                    asked = when;
                    behind
                }
                Woken::Changed(changed) => {
                    // A watch that broke may have been of no use for a while.
                    if changed.is_ok() {
                        since = Clock::system().now();
                    }
                    self.others.send_replace(Others::Unknown(since));
                    match begun.elapsed() > EARLY {
                        true => backoff = Backoff::default(),
                        false => tokio::time::sleep(backoff.next_pause()).await,
                    }
                    let as_of = match changed {
                        Ok(()) => AsOf::Change,
                        Err(error) => {
                            tracing::debug!(%error, lock = %self.ticket.name, "a watch broke");
                            AsOf::Now
                        }
                    };
                    asked = Clock::system().now();
                    self.ask(as_of).await
                }
            };
        }
    }

    /// Waits for an event, or for the answer to a question without one. The watch is still good while
    /// that is asked.
    async fn wait(&self, watch: &mut Watch) -> Woken {
        let asking = async {
            tokio::time::sleep(self.backstop()).await;
            let asked = Clock::system().now();
            match self.ask(AsOf::Now).await {
                Ok(behind) => Woken::Asked(asked, Ok(behind)),
                Err(error) => {
                    tracing::debug!(%error, lock = %self.ticket.name, "it is not said who waits");
                    tokio::time::sleep(SECOND_QUESTION).await;
                    let asked = Clock::system().now();
                    Woken::Asked(asked, self.ask(AsOf::Now).await)
                }
            }
        };
        tokio::select! {
            biased;
            changed = watch => Woken::Changed(changed),
            asked = asking => asked,
        }
    }

    fn backstop(&self) -> Duration {
        // The cast is exact, since no process has more than 2^52 keepers.
        let crowding = self.keepers.count().max(BACKSTOP_KEEPERS) as f64 / BACKSTOP_KEEPERS as f64;
        let backstop = BACKSTOP.mul_f64(crowding).min(LONGEST_BACKSTOP);
        backstop.mul_f64(1.0 + fastrand::f64())
    }

    /// Asks once what stands behind the entry.
    async fn ask(&self, as_of: AsOf) -> Result<Behind, Error> {
        let asking = async {
            // The semaphore is never closed, so the turn comes.
            let _turn = self.keepers.questions.acquire().await;
            let asking = self.handoff.watch_behind(&self.ticket, &self.entry, as_of);
            asking.await
        };
        // In a box, since the keeper of an entry that nobody wants asks once in a long time.
        let asked = Box::pin(tokio::time::timeout(QUESTION, asking)).await;
        asked.unwrap_or_else(|_| {
            let text = "the coordinator did not say in time who waits";
            Err(Error::new(ErrorKind::Unreachable, text))
        })
    }

    /// Tells that somebody wants the lock, who may have waited since this instant.
    fn recall(&self, since: BootInstant) {
        // An entry that is being removed may have the next one of this process behind it.
        if self.others.is_closed() {
            return;
        }
        if let Some(slot) = self.slot.upgrade() {
            slot.note_wanted();
        }
        // Before it is given up: whoever decides to keep it after this knows.
        self.others.send_replace(Others::Waiting(since));
    }

    /// Gives up the entry of the slot once nobody has used it for its idle time. Never resolves.
    async fn end_idle(&self, parked: &Notify) -> Infallible {
        loop {
            let Some(slot) = self.slot.upgrade() else {
                return pending().await;
            };
            let next = slot.end_idle();
            drop(slot);
            let wait = async {
                match next {
                    Some(until) => {
                        let left = until.saturating_since(Clock::system().now());
                        tokio::time::sleep(left).await;
                    }
                    None => pending().await,
                }
            };
            tokio::select! {
                () = wait => {}
                () = parked.notified() => {}
            }
        }
    }
}

/// What ends one round of a keeper's wait.
enum Woken {
    Changed(Result<(), Error>),
    /// The answer to a question that was put at this instant.
    Asked(BootInstant, Result<Behind, Error>),
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.keepers.remove();
        self.others.send_if_modified(|others| match others {
            Others::Waiting(_) => false,
            others => {
                *others = Others::Gone;
                true
            }
        });
        if let Some(slot) = self.slot.upgrade() {
            slot.give_up(&self.entry);
        }
    }
}
