//! What happened in one run, from three points of view on one clock: what the contenders did and
//! were told, what the server did with its entries, and what the resource let in.
//!
//! The contenders, the resource and the faults write [journals](journal); [`assemble`] makes one
//! history of them. The server's part comes from the store itself, after the run.

pub mod assemble;
pub mod event;
pub mod journal;

use lock_core::clock::BootInstant;
use lock_core::{Mode, SessionId, Token};

pub use event::{Event, OpId, Record};

/// One run.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// Every acquire and what came of it, by [`OpId`].
    pub ops: Vec<Op>,
    /// Every entry that the server ever had in a queue, by revision of creation.
    pub entries: Vec<Entry>,
    /// What was asked of the resource, in the resource's order.
    pub accesses: Vec<Access>,
    /// What was done to whom.
    pub faults: Vec<Fault>,
    /// Revisions that were seen to be there by an instant.
    pub seen: Vec<(u64, BootInstant)>,
    /// Ranges of revisions, both ends included, of which the store kept no account.
    pub gaps: Vec<(u64, u64)>,
    /// The store, as far as the rules need to know it.
    pub store: Store,
    /// The end of the run.
    pub end: End,
}

/// An acquire, from the call to the end of the hold.
#[derive(Debug, Clone, PartialEq)]
pub struct Op {
    /// Which. It is also the note on its entry.
    pub id: OpId,
    /// The lock.
    pub lock: String,
    /// How it is to be held.
    pub mode: Mode,
    /// When it was called.
    pub called: BootInstant,
    /// The sessions that it asked for a place, in order, and when first.
    pub asked: Vec<(SessionId, BootInstant)>,
    /// The place that it was told of.
    pub placed: Option<(Token, BootInstant)>,
    /// What it answered.
    pub outcome: Outcome,
    /// Every answer to "am I valid?".
    pub shown: Vec<Shown>,
    /// Every signal of a loss.
    pub lost: Vec<BootInstant>,
    /// When its release was called.
    pub release: Option<BootInstant>,
    /// Every request to remove its entry.
    pub removals: Vec<Removal>,
    /// When its process is known to have died.
    pub died: Option<BootInstant>,
}

/// What an acquire answered.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Nothing, until its process died or the run ended.
    Open,
    /// The lock, with this token.
    Granted(Token, BootInstant),
    /// That others have it, or an error.
    Refused(String, BootInstant),
    /// It was dropped before it answered.
    Cancelled(BootInstant),
}

/// An answer to "am I valid?".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shown {
    /// When it was asked.
    pub asked: BootInstant,
    /// Whether the lock was said to be held.
    pub valid: bool,
    /// The deadline that was shown next to it; `None` if there was none any more.
    pub until: Option<BootInstant>,
}

/// A request to remove an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Removal {
    /// When it was sent.
    pub called: BootInstant,
    /// When the answer came that there is no entry any more, if it did.
    pub answered: Option<BootInstant>,
    /// Whether the answer was that this request removed it.
    pub did: bool,
}

/// An incarnation of a key in a lock's queue, as the server tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its key or path.
    pub key: String,
    /// The lock.
    pub lock: String,
    /// How it wants to hold.
    pub mode: Mode,
    /// The session that keeps it alive.
    pub session: SessionId,
    /// The acquire that it says it belongs to.
    pub op: Option<OpId>,
    /// The revision that made it: its token.
    pub created: u64,
    /// What ended it, if it ended.
    pub deleted: Option<Deletion>,
}

/// The end of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deletion {
    /// The revision that deleted it; the first possible one if that is not known.
    pub from: u64,
    /// The same; the last possible one.
    pub to: u64,
    /// Why, as far as the store tells.
    pub cause: Cause,
    /// When the server decided on it, where the store tells.
    pub decided: Option<BootInstant>,
}

/// Why an entry was deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The store does not tell.
    Unknown,
    /// A request of this session.
    Request(SessionId),
    /// The end of its own session.
    SessionEnd,
}

/// Something that was asked of the resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// When it was served.
    pub at: BootInstant,
    /// By which hold.
    pub op: OpId,
    /// The lock.
    pub lock: String,
    /// The token shown.
    pub token: Token,
    /// Whether the resource let it in.
    pub admitted: bool,
}

/// A fault of the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// When it began.
    pub from: BootInstant,
    /// When it ended.
    pub to: BootInstant,
    /// Whom it hit.
    pub target: Target,
    /// What it was.
    pub what: String,
}

/// Whom a fault hits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// A contender's process, or what it can reach.
    Contender(u32),
    /// A member of the cluster of servers.
    Member(u32),
}

/// What the rules need to know of the store.
#[derive(Debug, Clone, Default)]
pub struct Store {
    /// It is a part of Turnlock: whatever it breaks is ours.
    pub ours: bool,
    /// The servers need this long to find each other again after a fault.
    pub recovery: std::time::Duration,
    /// The longest time to live of a session in the run.
    pub ttl: std::time::Duration,
}

/// The end of a run.
#[derive(Debug, Clone, Copy, Default)]
pub struct End {
    /// From here on nothing was done to anybody; `None` if the history is not a whole run.
    pub healed: Option<BootInstant>,
    /// When the last contender was done, or was no longer waited for.
    pub over: Option<BootInstant>,
}

impl Op {
    /// Its token, if it was granted, and when it was told.
    pub fn grant(&self) -> Option<(Token, BootInstant)> {
        match self.outcome {
            Outcome::Granted(token, at) => Some((token, at)),
            Outcome::Open | Outcome::Refused(..) | Outcome::Cancelled(_) => None,
        }
    }

    /// Until when its holder believed, by what it was shown: up to the last deadline, unless it gave
    /// the lock back, was told of the loss, or died before.
    pub fn believed_until(&self) -> Option<BootInstant> {
        let valid = self.shown.iter().filter(|shown| shown.valid);
        let deadline = valid.filter_map(|shown| shown.until).max()?;
        let ends = [self.release, self.lost.first().copied(), self.died];
        Some(ends.into_iter().flatten().fold(deadline, BootInstant::min))
    }

    /// The removal that the server says it carried out for it, if any.
    pub fn removal(&self) -> Option<Removal> {
        self.removals.iter().copied().find(|removal| removal.did)
    }

    /// When its wish for the lock ended: with an answer that is no grant, by a cancel, a release, a
    /// loss, or the death of its process.
    pub fn over(&self) -> Option<BootInstant> {
        let answered = match self.outcome {
            Outcome::Open | Outcome::Granted(..) => None,
            Outcome::Refused(_, at) | Outcome::Cancelled(at) => Some(at),
        };
        let ends = [
            answered,
            self.release,
            self.lost.first().copied(),
            self.died,
        ];
        ends.into_iter().flatten().min()
    }
}

impl Entry {
    /// The first revision at which it may be gone; past all others while it lives.
    pub fn gone_from(&self) -> u64 {
        self.deleted.map_or(u64::MAX, |deletion| deletion.from)
    }
}

impl Fault {
    /// Whether it went on at any time between two instants.
    pub fn overlaps(&self, from: BootInstant, to: BootInstant) -> bool {
        self.from <= to && from <= self.to
    }
}
