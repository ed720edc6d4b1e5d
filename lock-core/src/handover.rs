//! Hand-overs among sessions of one process, for backends. Who waits for an entry was told that it is
//! the nearest one ahead; if nothing stands ahead of that either, the removal of it leaves the waiter
//! first. So a removal that also reads whether the waiter is still there, not earlier than it is
//! done, is the waiter's look: one round trip less while nobody holds the lock, and no reading of
//! the queue, whatever its length.

use std::collections::HashMap;
use std::future::pending;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::background;
use crate::entry::EntryId;

/// The event of a removal and the answer to it leave the server together. If the event comes first,
/// the answer is waited for this long at most: it may be lost.
const SOON: Duration = Duration::from_millis(5);

/// Of more than this many, who all read after one who wrote, the others look for themselves.
const MOST: usize = 8;

/// The entries that somebody waits for: one of these for each queue of entries, which is to say for
/// each backend. Bounded by those who wait.
#[derive(Debug, Default)]
pub struct Handovers {
    awaited: Mutex<HashMap<EntryId, Awaited>>,
}

#[derive(Debug)]
struct Awaited {
    /// The entries that stand behind it, of those who wait for it.
    waiters: Vec<EntryId>,
    stage: watch::Sender<Stage>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Stage {
    /// It stands in its queue, as far as this process knows.
    Standing,
    /// This process has asked for its removal.
    Leaving,
    /// It was removed, and these, who waited for it, were there then.
    Left(Vec<EntryId>),
}

impl Handovers {
    /// Waits for this entry's removal from now on, for the sake of one that was last seen right
    /// behind it, or of the same.
    pub fn expect<'a>(&'a self, entry: &'a EntryId, own: &'a EntryId) -> Expected<'a> {
        let mut awaited = self.awaited();
        let found = awaited.entry(entry.clone()).or_insert_with(|| Awaited {
            waiters: Vec::new(),
            stage: watch::Sender::new(Stage::Standing),
        });
        found.waiters.push(own.clone());
        Expected {
            handovers: self,
            entry,
            own,
            stage: found.stage.subscribe(),
        }
    }

    /// This entry, ahead of which nothing was seen, is about to be removed. `None` if nobody waits
    /// for that.
    pub fn begin<'a>(&'a self, entry: &'a EntryId) -> Option<Leaving<'a>> {
        let mut waiters = self.awaited().get(entry)?.waiters.clone();
        waiters.retain(|waiter| waiter != entry);
        waiters.truncate(MOST);
        if waiters.is_empty() {
            return None;
        }
        self.tell(entry, Stage::Leaving);
        Some(Leaving {
            handovers: self,
            entry,
            waiters,
        })
    }

    /// This entry was removed, and these, who waited for it, were there then. Whoever waits goes on
    /// at once if this is called on the [`background`] thread.
    pub fn left(&self, entry: &EntryId, there: Vec<EntryId>) {
        self.tell(entry, Stage::Left(there));
    }

    fn tell(&self, entry: &EntryId, stage: Stage) {
        if let Some(found) = self.awaited().get(entry) {
            // What was told of one removal is not taken back by another.
            found.stage.send_if_modified(|now| {
                let news = !matches!(now, Stage::Left(_));
                if news {
                    *now = stage;
                }
                news
            });
        }
    }

    fn awaited(&self) -> MutexGuard<'_, HashMap<EntryId, Awaited>> {
        self.awaited.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A wait for the removal of an entry. Dropped, it is over.
#[derive(Debug)]
pub struct Expected<'a> {
    handovers: &'a Handovers,
    entry: &'a EntryId,
    own: &'a EntryId,
    stage: watch::Receiver<Stage>,
}

impl Expected<'_> {
    /// Resolves when the answer to the removal has told that our own entry stands first; never, if
    /// it is not this process that removes it, or not in time for us.
    ///
    /// *Cancel safety:* can be called again.
    pub async fn first(&mut self) {
        let told = self.past(|stage| matches!(stage, Stage::Left(_))).await;
        if !self.is_first(&told) {
            pending().await
        }
    }

    /// The removal was seen otherwise: whether the answer to it, if there is one soon, tells that
    /// our own entry stands first.
    pub async fn first_soon(&mut self) -> bool {
        let told = tokio::select! {
            biased;
            stage = self.past(|stage| !matches!(stage, Stage::Leaving)) => Some(stage),
            () = background::sleep(SOON) => None,
        };
        told.is_some_and(|stage| self.is_first(&stage))
    }

    fn is_first(&self, stage: &Stage) -> bool {
        matches!(stage, Stage::Left(there) if there.contains(self.own))
    }

    async fn past(&mut self, reached: impl FnMut(&Stage) -> bool) -> Stage {
        let reached = self.stage.wait_for(reached).await;
        match reached.map(|stage| stage.clone()) {
            Ok(stage) => stage,
            // The sender lives as long as anybody expects something of it.
            Err(_) => pending().await,
        }
    }
}

impl Drop for Expected<'_> {
    fn drop(&mut self) {
        let mut awaited = self.handovers.awaited();
        if let Some(found) = awaited.get_mut(self.entry) {
            let ours = found.waiters.iter().position(|waiter| waiter == self.own);
            ours.map(|at| found.waiters.swap_remove(at));
            if found.waiters.is_empty() {
                awaited.remove(self.entry);
            }
        }
    }
}

/// A removal under way, for which somebody waits. Dropped, it is over, whether it told anything or
/// not.
#[derive(Debug)]
pub struct Leaving<'a> {
    handovers: &'a Handovers,
    entry: &'a EntryId,
    waiters: Vec<EntryId>,
}

impl Leaving<'_> {
    /// What is removed.
    pub fn entry(&self) -> &EntryId {
        self.entry
    }

    /// Those of whom the removal is to read whether they are there; at least one.
    pub fn waiters(&self) -> &[EntryId] {
        &self.waiters
    }
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.handovers.tell(self.entry, Stage::Standing);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::token::Token;

    fn entry(token: u64) -> EntryId {
        EntryId {
            key: b"queue/write/1-1".as_slice().into(),
            token: Token(token),
        }
    }

    #[tokio::test]
    async fn waiters_are_told_by_the_answer() {
        let handovers = Handovers::default();
        let (ours, other) = (entry(5), entry(6));
        let waiters = [entry(8), entry(9)];
        assert!(handovers.begin(&ours).is_none(), "nobody waits");
        let mut there = handovers.expect(&ours, &waiters[0]);
        let mut gone = handovers.expect(&ours, &waiters[1]);
        assert!(handovers.begin(&other).is_none(), "another incarnation");
        let itself = handovers.expect(&other, &other);
        assert!(handovers.begin(&other).is_none(), "only its owner");
        let leaving = handovers.begin(&ours).expect("awaited");
        assert_eq!(leaving.waiters(), waiters);
        handovers.left(&ours, vec![entry(8)]);
        drop(leaving);
        there.first().await;
        assert!(there.first_soon().await);
        assert!(gone.first().now_or_never().is_none());
        assert!(!gone.first_soon().await);
        drop((there, gone, itself));
        assert!(handovers.awaited().is_empty());
    }

    #[tokio::test]
    async fn an_answer_that_does_not_come_is_not_waited_for() {
        let handovers = Handovers::default();
        let (ours, waiter) = (entry(5), entry(8));
        let mut expected = handovers.expect(&ours, &waiter);
        assert!(!expected.first_soon().await, "nobody removes it here");
        let leaving = handovers.begin(&ours).expect("awaited");
        assert!(!expected.first_soon().await, "late");
        let failed = async { drop(leaving) };
        let (told, ()) = tokio::join!(expected.first_soon(), failed);
        assert!(!told, "it failed");
        let leaving = handovers.begin(&ours).expect("awaited");
        handovers.left(&ours, vec![entry(8)]);
        drop(leaving);
        assert!(handovers.begin(&ours).is_some(), "a second try of it");
        expected.first().await;
    }

    #[test]
    fn a_crowd_is_told_in_part() {
        let handovers = Handovers::default();
        let (ours, waiters) = (entry(5), [(); 20].map(|()| entry(8)));
        let crowd: Vec<_> = waiters.iter().map(|w| handovers.expect(&ours, w)).collect();
        assert_eq!(
            handovers.begin(&ours).expect("awaited").waiters().len(),
            MOST
        );
        drop(crowd);
    }
}
