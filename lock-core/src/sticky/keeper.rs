//! The keeper of an entry: it watches what stands behind the entry for as long as this is kept, and
//! ends an entry that nobody uses.

use std::convert::Infallible;
use std::future::pending;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::kept::{Kept, Others};
use super::options::Sticky;
use super::registry::KeptCount;
use super::slot::Slot;
use crate::backoff::Backoff;
use crate::clock::Clock;
use crate::entry::{EntryId, Ticket};
use crate::error::Error;
use crate::handoff::HandoffSession;
use crate::session::{AsOf, Behind};

/// How often a keeper asks without an event (up to twice this time, at random), because a store can
/// lose the event of a watch.
const BACKSTOP: Duration = Duration::from_secs(5);

/// The most keepers that each ask so often. If there are more, each waits longer in proportion, so
/// more kept entries cost no more requests.
const BACKSTOP_KEEPERS: usize = 100;

/// A watch that lasts longer than this has not resolved early.
const EARLY: Duration = Duration::from_millis(100);

/// The least time after which the keeper of an entry in use asks again whether it is idle.
const SHORTEST_IDLE: Duration = Duration::from_millis(100);

struct Keeper {
    slot: Weak<Slot>,
    handoff: Arc<HandoffSession>,
    ticket: Ticket,
    entry: EntryId,
    others: watch::Sender<Others>,
    count: KeptCount,
    sticky: Sticky,
}

/// Watches an entry until it is kept no more, and tells `others` what stands behind it.
pub(super) fn keep(
    slot: Weak<Slot>,
    kept: &Kept,
    others: watch::Sender<Others>,
    count: KeptCount,
    sticky: Sticky,
) -> impl Future<Output = ()> + Send + use<> {
    let keeper = Keeper {
        slot,
        handoff: kept.shared_session().handoff().clone(),
        ticket: kept.ticket().clone(),
        entry: kept.entry().clone(),
        others,
        count,
        sticky,
    };
    async move {
        tokio::select! {
            () = keeper.others.closed() => {}
            () = keeper.watch() => {}
            never = keeper.end_idle() => match never {},
        }
    }
}

impl Keeper {
    /// Watches until the entry is not to be used any more.
    async fn watch(&self) {
        let mut behind = self.ask(AsOf::Now).await;
        let mut backoff = Backoff::default();
        loop {
            let watch = match behind {
                Ok(Behind::Nobody(watch)) => watch,
                Ok(Behind::Somebody) => return self.recall(Some(self.sticky.cool_down)),
                Ok(Behind::Gone) => return self.recall(None),
                Err(error) => {
                    tracing::debug!(%error, lock = %self.ticket.name, "a kept entry is given up");
                    return self.recall(None);
                }
            };
            self.others.send_replace(Others::Nobody);
            let since = Instant::now();
            behind = tokio::select! {
                biased;
                woken = watch => {
                    self.others.send_replace(Others::Unknown(Clock::system().now()));
                    match since.elapsed() > EARLY {
                        true => backoff = Backoff::default(),
                        false => tokio::time::sleep(backoff.next_pause()).await,
                    }
                    match woken {
                        Ok(()) => self.ask(AsOf::Change).await,
                        Err(error) => {
                            tracing::debug!(%error, lock = %self.ticket.name, "a watch was interrupted");
                            self.ask(AsOf::Now).await
                        }
                    }
                }
                behind = self.ask_later() => behind,
            };
        }
    }

    /// Asks without an event, after a while.
    async fn ask_later(&self) -> Result<Behind, Error> {
        // The cast is exact, since no process has more than 2^52 keepers.
        let crowding = self.count.get().max(BACKSTOP_KEEPERS) as f64 / BACKSTOP_KEEPERS as f64;
        tokio::time::sleep(BACKSTOP.mul_f64(crowding * (1.0 + fastrand::f64()))).await;
        self.ask(AsOf::Now).await
    }

    async fn ask(&self, as_of: AsOf) -> Result<Behind, Error> {
        let asking = self.handoff.watch_behind(&self.ticket, &self.entry, as_of);
        // In a box, since the keeper of an entry that nobody wants asks once in a long time.
        Box::pin(asking).await
    }

    /// Tells that somebody wants the lock, whose slot then cools down for so long, or that the entry
    /// is gone.
    fn recall(&self, wanted: Option<Duration>) {
        if let Some(slot) = self.slot.upgrade() {
            slot.recall(&self.entry, wanted, |now| {
                self.others.send_replace(match wanted {
                    Some(_) => Others::Waiting(now),
                    None => Others::Gone,
                });
            });
        }
    }

    /// Gives up the entry of the slot once nobody has used it for its idle time. Never resolves.
    async fn end_idle(&self) -> Infallible {
        loop {
            let Some(slot) = self.slot.upgrade() else {
                return pending().await;
            };
            let now = Clock::system().now();
            let pause = match slot.end_idle() {
                Some(until) if until > now => until.saturating_since(now),
                _ => self.sticky.idle.max(SHORTEST_IDLE),
            };
            drop(slot);
            tokio::time::sleep(pause).await;
        }
    }
}
