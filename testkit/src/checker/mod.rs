//! Checks the rules that every run keeps, whatever its faults were, and decides who is to blame
//! where one is broken. Each rule costs O(n log n).
//!
//! Nothing is guessed. An acquire whose reply was lost is resolved by the server's own record, in
//! which every entry names the acquire that it belongs to. Of the time of a revision only bounds
//! are used. They are made from requests before which it cannot have come, and from replies after
//! which it cannot have come (`checker/timeline.rs`). So a violation that is reported is certain.

mod belief;
mod data;
mod entries;
mod handoff;
mod leases;
mod liveness;
mod offset;
mod order;
mod recalls;
mod resource;
mod slice;
mod timeline;
mod tokens;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use lock_core::clock::BootInstant;
use lock_core::{SessionId, Token};
use serde::Serialize;

pub use recalls::{IDLE, OVERTIME};

use crate::history::{Entry, Fault, History, Op, OpId, Target};
use timeline::Timeline;

/// The rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Rule {
    /// A grant needs an instant at which its entry existed and no entry ahead of it held the lock.
    S1,
    /// Tokens rise with the grants, and each token is that of its own entry.
    S2,
    /// An entry is removed by its own request, by the end of its session, or by nobody.
    S3,
    /// A request has one entry at most, and none when it is over.
    S4,
    /// First come, first served.
    S5,
    /// The changes that the store acknowledged stay, and its revisions never fall.
    S6,
    /// A session is not ended before the time that its last renewal gave it.
    S7,
    /// The resource accepts only tokens that were granted, and they never fall.
    R1,
    /// A request for a value is carried out once, under its hold, or never: a read returns what the
    /// last change before it left, in the order of the holds and their requests.
    D1,
    /// A token offset that was acknowledged never falls, and each later token is above it.
    O1,
    /// The token offset is raised only to what was asked for, and only while no lock has an entry.
    O2,
    /// No client believes that it holds the lock when another can have it.
    B1,
    /// A loss is reported once, in time, and for ever.
    B2,
    /// "Valid" is reported before the deadline only.
    B3,
    /// When all faults are over every client is served, and nothing is left behind.
    L1,
    /// While there is no fault, whoever is next is told of its turn at once.
    L2,
    /// Whoever waits behind the place of a sticky lock is served in time: the process that has the
    /// place begins no turn long after, and gives an unused place up.
    F1,
}

/// The party that broke a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Blame {
    /// Turnlock.
    Ours,
    /// The server broke its lease contract, or forgot what it had acknowledged.
    Server,
}

/// A broken rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// The rule.
    pub rule: Rule,
    /// The party that broke it.
    pub blame: Blame,
    /// A description of the violation.
    pub what: String,
    /// The part of the history that shows the violation, one event a line.
    pub slice: Vec<String>,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl fmt::Display for Blame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Blame::Ours => "ours",
            Blame::Server => "server broke its lease contract",
        })
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.rule, self.blame, self.what)?;
        for line in &self.slice {
            write!(f, "\n  {line}")?;
        }
        Ok(())
    }
}

/// Returns all violations of the rules in a history.
pub fn check(history: &History) -> Vec<Violation> {
    let mut case = Case::new(history);
    leases::check(&mut case);
    order::check(&mut case);
    tokens::check(&mut case);
    entries::check(&mut case);
    resource::check(&mut case);
    data::check(&mut case);
    offset::check(&mut case);
    belief::check(&mut case);
    liveness::check(&mut case);
    handoff::check(&mut case);
    recalls::check(&mut case);
    case.violations
}

/// A history that is being checked.
struct Case<'a> {
    history: &'a History,
    ops: HashMap<OpId, &'a Op>,
    /// Entries by their token. One revision may make an entry for each lock.
    entries: HashMap<Token, Vec<&'a Entry>>,
    /// The last revision at which each session is known to have lived on.
    lives: HashMap<SessionId, u64>,
    timeline: Timeline,
    /// The faults by the instant at which they began.
    faults: Vec<&'a Fault>,
    /// Sessions that the server ended too early, each with the party that is to blame.
    broken: HashMap<SessionId, Blame>,
    violations: Vec<Violation>,
}

impl<'a> Case<'a> {
    fn new(history: &'a History) -> Self {
        let ops: HashMap<_, _> = history.ops.iter().map(|op| (op.id, op)).collect();
        let mut lives: HashMap<SessionId, u64> = HashMap::new();
        let mut entries: HashMap<Token, Vec<&Entry>> = HashMap::new();
        for entry in &history.entries {
            entries.entry(entry.token).or_default().push(entry);
            let last = lives.entry(entry.session).or_default();
            *last = (*last)
                .max(entry.created)
                .max(entry.first_absent_revision());
        }
        let mut faults: Vec<_> = history.faults.iter().collect();
        faults.sort_by_key(|fault| fault.from);
        let mut case = Case {
            history,
            faults,
            ops,
            entries,
            lives,
            timeline: Timeline::default(),
            broken: HashMap::new(),
            violations: vec![],
        };
        case.timeline = Timeline::of(&case);
        case
    }

    fn op_of(&self, entry: &Entry) -> Option<&'a Op> {
        self.ops.get(&entry.op?).copied()
    }

    /// Returns the entry by which an acquire was granted the lock. Returns an entry of another
    /// lock, if no entry of its own lock has that token.
    fn entry_of(&self, op: &Op) -> Option<&'a Entry> {
        let (token, _) = op.grant()?;
        let made = self.entries.get(&token)?;
        let own = made.iter().find(|entry| entry.lock == op.lock);
        own.or(made.first()).copied()
    }

    /// Returns whether a session lived on after a revision at which an entry of it was deleted.
    /// Then the deletion was not the end of the session.
    fn lived_on(&self, session: SessionId, revision: u64) -> bool {
        self.lives
            .get(&session)
            .is_some_and(|last| *last > revision)
    }

    /// Returns whether the store has no record of the revisions that may have given this token.
    fn in_gap(&self, token: Token) -> bool {
        let first = |revision: u64| revision + self.offset_before(revision);
        let mut gaps = self.history.gaps.iter();
        gaps.any(|(from, to)| (first(*from)..=first(*to)).contains(&token.0))
    }

    /// Returns the token offset of an entry that is made by this revision.
    fn offset_before(&self, revision: u64) -> u64 {
        let offsets = &self.history.offsets;
        let end = offsets.partition_point(|(set, _)| *set < revision);
        end.checked_sub(1).map_or(0, |last| offsets[last].1)
    }

    /// Returns the time that an entry may remain after its request is over, if there is no fault.
    fn linger(&self) -> Duration {
        self.history.store.ttl + self.history.store.recovery + SLACK
    }

    /// Returns the end of the first time of this length, from an instant on, in which no fault hits
    /// the servers or this contender.
    fn calm_after(&self, contender: u32, from: BootInstant, length: Duration) -> BootInstant {
        let touches = |fault: &&&Fault| match fault.target {
            Target::Contender(hit) => hit == contender,
            Target::Member(_) => true,
        };
        let calm = self
            .faults
            .iter()
            .filter(touches)
            .fold(from, |calm, fault| {
                match fault.overlaps(calm, calm + length) {
                    true => fault.to,
                    false => calm,
                }
            });
        calm + length
    }

    fn violate(&mut self, rule: Rule, blame: Blame, what: String, ops: &[OpId]) {
        let slice = slice::of(self, ops);
        self.violations.push(Violation {
            rule,
            blame,
            what,
            slice,
        });
    }
}

/// The time that a busy machine may add to a limit.
const SLACK: Duration = Duration::from_secs(5);

/// Returns the instant that is this long before another.
fn before(at: BootInstant, by: Duration) -> BootInstant {
    let by = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
    BootInstant::from_nanos(at.as_nanos().saturating_sub(by))
}
