//! Hand-overs within one client. Who waits for an entry was told that it is the nearest one ahead;
//! if nothing stands ahead of that either, the removal of it leaves the waiter first. So the removal
//! only reads whether the waiter is still there, whatever the length of the queue, and its answer is
//! the waiter's look.

use std::collections::HashMap;
use std::future::pending;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lock_core::{EntryId, background};
use tokio::sync::watch;

/// The event of a removal and the answer to it leave the server together. If the event comes first,
/// the answer is waited for this long at most: it may be lost.
const SOON: Duration = Duration::from_millis(5);

/// Of more than this many, who all read after one who wrote, the others look for themselves.
const MOST: usize = 8;

/// The entries that somebody waits for. Bounded by those who wait.
#[derive(Debug, Default)]
pub(crate) struct Handovers {
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
    /// It stands in its queue, as far as this client knows.
    Standing,
    /// This client has asked for its removal.
    Leaving,
    Left(Handover),
}

/// What the answer to a removal told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Handover {
    /// The revision of the removal.
    pub(crate) revision: i64,
    /// Those who waited for it and were there at that revision.
    pub(crate) next: Vec<EntryId>,
}

impl Handovers {
    /// Waits for this entry's removal from now on, for the sake of one that stands behind it.
    pub(crate) fn expect<'a>(&'a self, entry: &'a EntryId, own: &'a EntryId) -> Expected<'a> {
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

    /// This entry, with nothing ahead of it, is about to be removed. `None` if nobody waits for
    /// that.
    pub(crate) fn begin<'a>(&'a self, entry: &'a EntryId) -> Option<Leaving<'a>> {
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
pub(crate) struct Expected<'a> {
    handovers: &'a Handovers,
    entry: &'a EntryId,
    own: &'a EntryId,
    stage: watch::Receiver<Stage>,
}

impl Expected<'_> {
    /// What the answer to the removal told; never, if it is not this client that removes it.
    pub(crate) async fn told(&mut self) -> Handover {
        match self.past(|stage| matches!(stage, Stage::Left(_))).await {
            Stage::Left(handover) => handover,
            Stage::Standing | Stage::Leaving => pending().await,
        }
    }

    /// The removal was seen otherwise: what its answer tells, if there is one soon.
    pub(crate) async fn told_soon(&mut self) -> Option<Handover> {
        let answered = self.past(|stage| !matches!(stage, Stage::Leaving));
        tokio::select! {
            biased;
            stage = answered => match stage {
                Stage::Left(handover) => Some(handover),
                Stage::Standing | Stage::Leaving => None,
            },
            () = background::sleep(SOON) => None,
        }
    }

    async fn past(&mut self, reached: impl FnMut(&Stage) -> bool) -> Stage {
        let reached = self
            .stage
            .wait_for(reached)
            .await
            .map(|stage| stage.clone());
        match reached {
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

/// A removal under way, for which somebody waits. Dropped, it told nothing.
#[derive(Debug)]
pub(crate) struct Leaving<'a> {
    handovers: &'a Handovers,
    entry: &'a EntryId,
    waiters: Vec<EntryId>,
}

impl Leaving<'_> {
    /// Those whom the answer is to tell of.
    pub(crate) fn waiters(&self) -> &[EntryId] {
        &self.waiters
    }

    pub(crate) fn left(&self, handover: Handover) {
        self.handovers.tell(self.entry, Stage::Left(handover));
    }
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.handovers.tell(self.entry, Stage::Standing);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lock_core::Token;

    fn entry(token: u64) -> EntryId {
        EntryId {
            key: b"queue/write/1-1".as_slice().into(),
            token: Token(token),
        }
    }

    fn handover(next: u64) -> Handover {
        Handover {
            revision: 9,
            next: vec![entry(next)],
        }
    }

    #[tokio::test]
    async fn a_waiter_is_told_by_the_answer() {
        let handovers = Handovers::default();
        let (ours, other) = (entry(5), entry(6));
        let waiters = [entry(8), entry(9)];
        assert!(handovers.begin(&ours).is_none(), "nobody waits");
        let mut first = handovers.expect(&ours, &waiters[0]);
        let mut second = handovers.expect(&ours, &waiters[1]);
        assert!(handovers.begin(&other).is_none(), "another incarnation");
        let itself = handovers.expect(&other, &other);
        assert!(handovers.begin(&other).is_none(), "only its owner");
        let leaving = handovers.begin(&ours).expect("awaited");
        assert_eq!(leaving.waiters(), waiters);
        leaving.left(handover(8));
        assert_eq!(first.told().await, handover(8));
        assert_eq!(second.told_soon().await, Some(handover(8)));
        drop((first, second, itself));
        assert!(handovers.awaited().is_empty());
    }

    #[tokio::test]
    async fn an_answer_that_does_not_come_is_not_waited_for() {
        let handovers = Handovers::default();
        let (ours, waiter) = (entry(5), entry(8));
        let mut expected = handovers.expect(&ours, &waiter);
        assert_eq!(expected.told_soon().await, None, "nobody removes it here");
        let leaving = handovers.begin(&ours).expect("awaited");
        assert_eq!(expected.told_soon().await, None, "late");
        let failed = async { drop(leaving) };
        let (told, ()) = tokio::join!(expected.told_soon(), failed);
        assert_eq!(told, None, "it failed");
        handovers.begin(&ours).expect("awaited").left(handover(8));
        assert!(handovers.begin(&ours).is_some(), "a second try of it");
        assert_eq!(expected.told().await, handover(8), "stays told");
    }
}
