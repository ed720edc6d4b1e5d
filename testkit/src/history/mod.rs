//! Describes the events of one run, from three points of view on one clock: the actions of the
//! contenders and the results that they got, the server's changes of its entries, and the requests
//! that the resource accepted.
//!
//! The contenders, the resource and the faults write [journals](journal). [`assemble`] makes one
//! history of them. The server's part comes from the store itself, after the run.

pub mod assemble;
pub mod data;
pub mod event;
pub mod journal;

use lock_core::clock::BootInstant;
use lock_core::{Mode, SessionId, Token};

pub use data::{DataAccess, DataAnswer, DataRequest, Raise};
pub use event::{Event, OpId, Record};

/// The history of one run.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// Every acquire and its outcome, by [`OpId`].
    pub ops: Vec<Op>,
    /// Every entry that the server ever had in a queue, by revision of creation.
    pub entries: Vec<Entry>,
    /// The sessions that their own processes closed, with the first instant of each.
    pub closed: Vec<(SessionId, BootInstant)>,
    /// The requests to the resource, in the resource's order.
    pub accesses: Vec<Access>,
    /// The requests to raise the token offset, by the instant of their call.
    pub raises: Vec<Raise>,
    /// Every token offset that the server ever had, by the revision that set it.
    pub offsets: Vec<(u64, u64)>,
    /// The faults and their targets.
    pub faults: Vec<Fault>,
    /// Revisions, each with an instant by which it was seen.
    pub seen: Vec<(u64, BootInstant)>,
    /// Ranges of revisions, both ends included, of which the store has no record.
    pub gaps: Vec<(u64, u64)>,
    /// The facts about the store that the rules need.
    pub store: Store,
    /// The end of the run.
    pub end: End,
}

/// An acquire, from the call to the end of the hold.
#[derive(Debug, Clone, PartialEq)]
pub struct Op {
    /// The id. It is also the note on the acquire's entry.
    pub id: OpId,
    /// The lock.
    pub lock: String,
    /// The mode of the hold.
    pub mode: Mode,
    /// What it is in the queue of the lock.
    pub role: Role,
    /// The instant of the call.
    pub called: BootInstant,
    /// The sessions in which it asked for a place, in order, with the first instant of each.
    pub asked: Vec<(SessionId, BootInstant)>,
    /// The place that was reported to it.
    pub placed: Option<(Token, BootInstant)>,
    /// The outcome of the call.
    pub outcome: Outcome,
    /// Every check of the hold's validity.
    pub shown: Vec<Shown>,
    /// Every signal of a loss.
    pub lost: Vec<BootInstant>,
    /// Every request for a value under the hold, in the order of the calls.
    pub data: Vec<DataAccess>,
    /// The instant at which its release was called.
    pub release: Option<BootInstant>,
    /// Every request to remove its entry.
    pub removals: Vec<Removal>,
    /// The instant at which its process is known to have died.
    pub died: Option<BootInstant>,
}

/// What an acquire is in the queue of its lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// It has an entry of its own.
    #[default]
    Contender,
    /// It is one turn of a sticky lock, with the entry of a place that its process has.
    Turn,
    /// It is such a place, from the request for an entry to its removal. The turns hold, not the place.
    Place,
}

/// The outcome of an acquire.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// None: its process died or the run ended before.
    Open,
    /// The lock, with this token.
    Granted(Token, BootInstant),
    /// Other clients have the lock, or an error occurred.
    Refused(String, BootInstant),
    /// The acquire was dropped before it returned.
    Cancelled(BootInstant),
}

/// A check whether a hold is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shown {
    /// The instant of the check.
    pub asked: BootInstant,
    /// Whether the lock was reported as held.
    pub valid: bool,
    /// The deadline that was reported with it, or `None` if there was none any more.
    pub until: Option<BootInstant>,
}

/// A request to remove an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Removal {
    /// The instant at which it was sent.
    pub called: BootInstant,
    /// The instant of the reply that there is no entry any more, if it came.
    pub answered: Option<BootInstant>,
    /// Whether the reply was that this request removed the entry.
    pub did: bool,
}

/// An incarnation of a key in a lock's queue, as the server reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key or path.
    pub key: String,
    /// The lock.
    pub lock: String,
    /// The requested mode of the hold.
    pub mode: Mode,
    /// The session that keeps it alive.
    pub session: SessionId,
    /// The acquire that the entry names as its own.
    pub op: Option<OpId>,
    /// The revision that made the entry.
    pub created: u64,
    /// The token of the entry: the revision and the token offset at that time.
    pub token: Token,
    /// The end of the entry, if it ended.
    pub deleted: Option<Deletion>,
}

/// The end of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deletion {
    /// The revision that deleted it, or the first possible one if that is not known.
    pub from: u64,
    /// The revision that deleted it, or the last possible one if that is not known.
    pub to: u64,
    /// The cause, as far as the store records it.
    pub cause: Cause,
    /// The instant at which the server decided on it, if the store records it.
    pub decided: Option<BootInstant>,
}

/// The cause of a deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The store does not record the cause.
    Unknown,
    /// A request of this session.
    Request(SessionId),
    /// The end of its own session.
    SessionEnd,
}

/// A request to the resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// The instant at which it was served.
    pub at: BootInstant,
    /// The hold under which it was sent.
    pub op: OpId,
    /// The lock.
    pub lock: String,
    /// The token shown.
    pub token: Token,
    /// Whether the resource accepted it.
    pub admitted: bool,
}

/// A fault of the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The instant at which it began.
    pub from: BootInstant,
    /// The instant at which it ended.
    pub to: BootInstant,
    /// The target of the fault.
    pub target: Target,
    /// The name of the fault.
    pub what: String,
}

/// The target of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// A contender's process, or its network.
    Contender(u32),
    /// A member of the cluster of servers.
    Member(u32),
}

/// The facts about the store that the rules need.
#[derive(Debug, Clone, Default)]
pub struct Store {
    /// Whether the store is a part of Turnlock. Then Turnlock is to blame for all of its
    /// violations.
    pub ours: bool,
    /// The time that the servers need to find each other again after a fault.
    pub recovery: std::time::Duration,
    /// The longest time to live of a session in the run.
    pub ttl: std::time::Duration,
    /// The longest time from the end of a hold until the next client is told of its turn, if the
    /// machine is never too busy for that.
    pub handoff: Option<std::time::Duration>,
}

/// The end of a run.
#[derive(Debug, Clone, Copy, Default)]
pub struct End {
    /// The instant after which no fault occurred, or `None` if the history is not a whole run.
    pub healed: Option<BootInstant>,
    /// The instant at which the last contender ended, or was no longer waited for.
    pub over: Option<BootInstant>,
}

impl Op {
    /// Returns the token, if the lock was granted, and the instant at which the grant was reported.
    pub fn grant(&self) -> Option<(Token, BootInstant)> {
        match self.outcome {
            Outcome::Granted(token, at) => Some((token, at)),
            Outcome::Open | Outcome::Refused(..) | Outcome::Cancelled(_) => None,
        }
    }

    /// Returns the instant until which the holder believed that it held the lock. That is the last
    /// deadline that was reported to it, unless it gave the lock back, learned of the loss, or died
    /// before.
    pub fn believed_until(&self) -> Option<BootInstant> {
        let valid = self.shown.iter().filter(|shown| shown.valid);
        let deadline = valid.filter_map(|shown| shown.until).max()?;
        let ends = [self.release, self.lost.first().copied(), self.died];
        Some(ends.into_iter().flatten().fold(deadline, BootInstant::min))
    }

    /// Returns the removal that the server reports to have carried out for it, if any.
    pub fn removal(&self) -> Option<Removal> {
        self.removals.iter().copied().find(|removal| removal.did)
    }

    /// Returns the instant at which its request for the lock ended: with a reply that is no grant,
    /// by a cancel, a release, a loss, or the death of its process.
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
    /// Returns the first revision at which the entry may be gone, or one past all others while the
    /// entry lives.
    pub fn first_absent_revision(&self) -> u64 {
        self.deleted.map_or(u64::MAX, |deletion| deletion.from)
    }
}

impl Fault {
    /// Returns whether the fault went on at any time between two instants.
    pub fn overlaps(&self, from: BootInstant, to: BootInstant) -> bool {
        self.from <= to && from <= self.to
    }
}
