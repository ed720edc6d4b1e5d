//! The session's gate and key slots on etcd: the real protocol of a session and the real state machine
//! of a server, with requests that are executed late or never and replies that are lost.
//!
//! A request whose reply is lost may be executed long after its caller gave up. Two things keep such a
//! request from doing harm: each request compares the epoch of its session (the gate), and a key on
//! which such a request may lie is not used again.

mod fingerprint;
mod steps;

use std::hash::DefaultHasher;
use std::sync::Arc;

use backend_embedded::machine::op::Txn as MachineTxn;
use backend_etcd::Keyspace;
use backend_etcd::models::{
    AccessAttempt, EnqueueAttempt, Layout, Protocol, RemovalAttempt, Request,
};
use lock_core::{DataKey, EntryId, LockName, Metadata, Mode, Ticket};

use crate::explorer::{Model, Step};
use crate::ranks::Reply;
use crate::server::{SESSIONS, Server, incarnation};

/// The bounds of an exploration.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    pub tickets: u8,
    /// The tickets take turns in this many locks.
    pub locks: u8,
    /// Requests that are delayed or not sent, replies that are lost, and entries whose places are not
    /// learned, together.
    pub losses: u8,
    /// Changes of values, of all holders together.
    pub changes: u8,
    /// Whether the session may end at any time.
    pub session_ends: bool,
    /// Whether requests about two locks may be sent together.
    pub groups: bool,
}

/// A bug in the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    EnqueuesCompareNoEpoch,
    SlotsAreAlwaysFree,
    DoubtIsForgotten,
    ChangesMoveNoEpoch,
    ChangesCompareNoEpoch,
    ReadsMoveNoEpoch,
    EntriesHaveNoLease,
    OneLockGoesTogether,
}

impl Mutant {
    pub fn describe(self) -> &'static str {
        match self {
            Mutant::EnqueuesCompareNoEpoch => "an enqueue does not compare the epoch",
            Mutant::SlotsAreAlwaysFree => "a key is used again though a late request may lie on it",
            Mutant::DoubtIsForgotten => {
                "an entry is removed by its incarnation though another may be made"
            }
            Mutant::ChangesMoveNoEpoch => "a change after one in doubt does not move the epoch",
            Mutant::ChangesCompareNoEpoch => "a change does not compare the epoch",
            Mutant::ReadsMoveNoEpoch => "a read after a change in doubt does not move the epoch",
            Mutant::EntriesHaveNoLease => "an entry is not on the session's lease",
            Mutant::OneLockGoesTogether => "two requests about one lock are sent as one",
        }
    }
}

pub struct Gate {
    size: Size,
    mutant: Option<Mutant>,
    tickets: Vec<TicketInfo>,
}

/// What does not change about a ticket.
struct TicketInfo {
    ticket: Ticket,
    lock: u8,
    /// The value of the ticket's entries.
    metadata: Vec<u8>,
    /// The key of the values that the ticket's holder changes.
    data_key: String,
}

#[derive(Debug, Clone)]
pub struct State {
    server: Server,
    protocol: Protocol,
    contenders: Vec<Contender>,
    /// The requests that nobody waits for any more.
    strays: Vec<Flight>,
    losses_left: u8,
    changes_left: u8,
    /// What the step to this state showed; no part of what tells states apart.
    milestones: u32,
}

#[derive(Debug, Clone)]
struct Contender {
    phase: Phase,
    /// The values of a holder rise. This is the last that it began to write.
    begun: u8,
    /// The last one whose writing was acknowledged, or settled by a read.
    acknowledged: u8,
}

impl Contender {
    /// Notes that no change that was begun may be carried out any more.
    fn settle(&mut self) {
        self.acknowledged = self.begun;
    }
}

#[derive(Debug, Clone)]
enum Phase {
    Idle,
    Enqueues(Arc<EnqueueAttempt>, Wire),
    /// An attempt ended, and it is not known what it did. The acquire tries again or gives up.
    InDoubt,
    Placed(EntryId),
    /// Writes this value, or reads.
    Accesses(EntryId, Option<u8>, AccessAttempt, Wire),
    Removes(Option<EntryId>, RemovalAttempt, Wire),
    /// An attempt to remove failed. The janitor tries again.
    Unremoved(Option<EntryId>),
    Gone,
}

/// Where the request of an attempt is.
#[derive(Debug, Clone)]
enum Wire {
    Request(Flight),
    Reply(Arc<Reply>),
}

/// A request on its way.
#[derive(Debug, Clone)]
struct Flight {
    ticket: u8,
    content: Content,
    decoded: Arc<MachineTxn>,
    /// The same, if it may be sent together with others.
    request: Option<Arc<Request>>,
}

/// What tells the transactions of one ticket apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Content {
    Enqueue {
        slot: u64,
        epoch: u64,
    },
    Remove {
        incarnation: u64,
    },
    RemoveForGood {
        slot: u64,
    },
    Access {
        /// The value that is written; `None` for a read.
        value: Option<u8>,
        incarnation: u64,
        epoch: u64,
        moves_epoch: bool,
    },
}

impl Gate {
    pub fn new(size: Size, mutant: Option<Mutant>) -> Self {
        let keyspace = Keyspace::default();
        let tickets = (0..size.tickets).map(|number| {
            let metadata = Metadata::default().with_owner(number.to_string());
            let lock = number % size.locks;
            let name = |prefix, number: u8| format!("{prefix}{number}");
            let data_key = DataKey::new(name("data", number)).expect("a valid key");
            TicketInfo {
                lock,
                metadata: metadata.to_bytes(),
                data_key: keyspace.data_key(&data_key),
                ticket: Ticket {
                    name: LockName::new(name("lock", lock)).expect("a valid name"),
                    mode: Mode::Exclusive,
                    serial: number.into(),
                    metadata: Arc::new(metadata),
                },
            }
        });
        Gate {
            size,
            mutant,
            tickets: tickets.collect(),
        }
    }

    fn is_mutated(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    /// Returns the tickets and the incarnations of all entries in the store.
    fn entries<'a>(&'a self, server: &'a Server) -> impl Iterator<Item = (usize, u64)> + 'a {
        server.keys.iter().filter_map(|kv| {
            let is_its = |info: &TicketInfo| info.metadata == kv.value;
            Some((self.tickets.iter().position(is_its)?, kv.create_revision))
        })
    }

    fn check_ticket(&self, state: &State, number: usize) -> Result<(), String> {
        match &state.contenders[number].phase {
            Phase::Gone if self.entries(&state.server).any(|(of, _)| of == number) => {
                Err(format!("ticket {number} is removed, and has an entry"))
            }
            Phase::Placed(entry) | Phase::Accesses(entry, ..) if state.server.live[0] => {
                let own = (number, incarnation(entry));
                match self.entries(&state.server).any(|found| found == own) {
                    true => Ok(()),
                    false => Err(format!(
                        "the entry of ticket {number} is gone, or is another's"
                    )),
                }
            }
            _ => Ok(()),
        }
    }
}

impl Model for Gate {
    type State = State;
    type Action = steps::Action;

    const MILESTONES: &'static [&'static str] = &[
        "an enqueue is refused because the epoch moved",
        "an enqueue finds the entry that an earlier attempt made",
        "a late request changes nothing",
        "a removal for good deletes an entry",
        "a key is used again",
    ];

    fn initial(&self) -> State {
        let layout = Layout::new(Keyspace::default(), SESSIONS[0]);
        let contender = Contender {
            phase: Phase::Idle,
            begun: 0,
            acknowledged: 0,
        };
        State {
            server: Server::new(),
            protocol: Protocol::new(layout),
            contenders: vec![contender; self.tickets.len()],
            strays: Vec::new(),
            losses_left: self.size.losses,
            changes_left: self.size.changes,
            milestones: 0,
        }
    }

    fn forget_last_step(state: &mut State) {
        state.milestones = 0;
    }

    fn next(&self, state: &State) -> Vec<Step<Self>> {
        steps::next(self, state)
    }

    fn check(&self, _: &State, after: &State) -> Result<(), String> {
        let server = &after.server;
        for number in 0..self.tickets.len() {
            self.check_ticket(after, number)?;
        }
        let slots = after.protocol.key_slots();
        for (number, other) in pairs(self.tickets.len()) {
            let slot = |number: usize| slots.get(self.tickets[number].ticket.serial);
            if let (Some(one), Some(two)) = (slot(number), slot(other))
                && one.number == two.number
            {
                return Err(format!("tickets {number} and {other} have the same key"));
            }
        }
        let entries: Vec<_> = self.entries(server).collect();
        for (one, two) in pairs(entries.len()) {
            let [one, two] = [entries[one], entries[two]];
            let lock = |number: usize| self.tickets[number].lock;
            if one.1 == two.1 && lock(one.0) == lock(two.0) {
                return Err("two entries of a queue have the same place".to_owned());
            }
        }
        match server.live[0] || entries.is_empty() {
            true => Ok(()),
            false => Err("an entry outlives its session".to_owned()),
        }
    }

    fn check_end(&self, state: &State) -> Result<(), String> {
        let is_gone = |contender: &Contender| matches!(contender.phase, Phase::Gone);
        match state.contenders.iter().all(is_gone) {
            true => Ok(()),
            false => Err("a contender is stuck".to_owned()),
        }
    }

    fn hash(&self, state: &State, hasher: &mut DefaultHasher) {
        fingerprint::hash(state, hasher);
    }

    fn find_milestones(&self, _: &State, after: &State) -> u32 {
        after.milestones
    }
}

/// Returns all pairs of numbers below this one.
fn pairs(count: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..count).flat_map(move |one| (one + 1..count).map(move |two| (one, two)))
}
