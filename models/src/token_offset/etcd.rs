//! The token offset on etcd: the real protocols of two sessions, the real transactions of two raises,
//! and the real state machine of a server.
//!
//! The sessions make and remove entries of one lock. Replies are lost, and requests are executed late.

use std::hash::{DefaultHasher, Hash};
use std::sync::Arc;

use backend_embedded::machine::op::{KeyRange, Txn as MachineTxn};
use backend_etcd::Keyspace;
use backend_etcd::models::{
    EnqueueAttempt, Found, Layout, Protocol, RaiseAttempt, RemovalAttempt, end_raise, raise_txn,
};
use etcd_client::Txn;
use lock_core::session::Admission;
use lock_core::{
    Effect, EntryId, KnownTokenOffset, LockName, Mode, Raised, Ticket, TokenOffset, rule,
};

use crate::explorer::{Model, Step, Steps};
use crate::ranks::{Ranks, Reply};
use crate::server::{SESSIONS, Server, decode, incarnation, lost};

/// The bounds of an exploration.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// How often each of the two sessions acquires the lock.
    pub acquires: u8,
    /// Requests that are delayed and replies that are lost, together.
    pub losses: u8,
}

/// A bug in the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    EnqueuesCompareNoOffset,
    RaisesCompareNoOffset,
    RaisesCompareNoEntries,
}

impl Mutant {
    pub const ALL: [Mutant; 3] = [
        Mutant::EnqueuesCompareNoOffset,
        Mutant::RaisesCompareNoOffset,
        Mutant::RaisesCompareNoEntries,
    ];

    pub fn describe(self) -> &'static str {
        match self {
            Mutant::EnqueuesCompareNoOffset => "an enqueue does not compare the offset",
            Mutant::RaisesCompareNoOffset => "a raise does not compare the offset that it read",
            Mutant::RaisesCompareNoEntries => "a raise does not compare that there is no entry",
        }
    }
}

/// What the two raises ask for.
const RAISES: [u64; 2] = [1000, 2000];

pub struct EtcdOffset {
    size: Size,
    mutant: Option<Mutant>,
    keyspace: Keyspace,
    name: LockName,
}

#[derive(Debug, Clone)]
pub struct State {
    server: Server,
    sessions: Vec<Session>,
    /// What each raiser knows of the offset; none if it is done.
    raisers: Vec<Option<KnownTokenOffset>>,
    /// Requests that nobody waits for any more.
    strays: Vec<Stray>,
    /// The highest offset in a token that was given out.
    highest: TokenOffset,
    losses_left: u8,
    milestones: u32,
}

#[derive(Debug, Clone)]
struct Session {
    protocol: Protocol,
    phase: Phase,
    /// The number of its acquires so far, and the serial number of its ticket.
    acquires: u8,
}

#[derive(Debug, Clone)]
enum Phase {
    Idle,
    Enqueues(Arc<EnqueueAttempt>),
    InDoubt,
    Placed(EntryId, TokenOffset),
    Removes(Option<EntryId>, RemovalAttempt, Arc<Txn>),
    Unremoved(Option<EntryId>),
}

/// A request that is executed late or never.
#[derive(Debug, Clone)]
struct Stray {
    what: What,
    decoded: Arc<MachineTxn>,
}

/// What tells a request apart from others: whose it is, and the revisions that it compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Enqueue {
        session: usize,
        acquire: u8,
        epoch: u64,
        offset: u64,
    },
    Remove {
        session: usize,
        acquire: u8,
        incarnation: u64,
    },
    Raise {
        raiser: usize,
        offset: u64,
    },
}

/// What a step does, and the number of the session or of the raiser.
#[derive(Debug)]
#[expect(dead_code, reason = "shown on the path to a violation")]
pub enum Action {
    Enqueue(usize),
    Remove(usize),
    Execute(usize),
    LoseReply(usize),
    Delay(usize),
    Raise(usize),
    LoseReplyToRaise(usize),
    DelayRaise(usize),
    ExecuteLate,
}

const RAISED: u32 = 1;
const IN_USE: u32 = 1 << 1;
const ENQUEUE_LEARNS: u32 = 1 << 2;
const LATE_AND_HARMLESS: u32 = 1 << 3;

impl EtcdOffset {
    pub fn new(size: Size, mutant: Option<Mutant>) -> Self {
        EtcdOffset {
            size,
            mutant,
            keyspace: Keyspace::default(),
            name: LockName::new("lock").expect("a valid name"),
        }
    }

    fn ticket(&self, session: &Session) -> Ticket {
        Ticket {
            name: self.name.clone(),
            mode: Mode::Exclusive,
            serial: session.acquires.into(),
            metadata: Arc::default(),
        }
    }

    fn has_entry(&self, server: &Server) -> bool {
        let span = self.keyspace.lock(&self.name);
        let mut keys = server.keys.iter();
        keys.any(|kv| kv.key >= span.start && kv.key < span.end)
    }

    fn offset(&self, server: &Server) -> TokenOffset {
        let key = self.keyspace.token_offset_key();
        let found = server.keys.iter().find(|kv| kv.key == key.as_bytes());
        found.map_or(TokenOffset::default(), |kv| {
            TokenOffset::from_bytes(&kv.value, &key).expect("what a raise wrote")
        })
    }

    /// Returns a request as the server decodes it, with the bug.
    fn stray(&self, what: What, txn: &Txn) -> Stray {
        let mut decoded = decode(txn);
        let offset = self.keyspace.token_offset_key();
        let is_offset =
            |keys: &KeyRange| matches!(keys, KeyRange::One(key) if key == offset.as_bytes());
        match (self.mutant, what) {
            (Some(Mutant::EnqueuesCompareNoOffset), What::Enqueue { .. })
            | (Some(Mutant::RaisesCompareNoOffset), What::Raise { .. }) => {
                decoded.compare.retain(|compare| !is_offset(&compare.keys));
            }
            (Some(Mutant::RaisesCompareNoEntries), What::Raise { .. }) => {
                decoded.compare.retain(|compare| is_offset(&compare.keys));
            }
            _ => {}
        }
        Stray {
            what,
            decoded: Arc::new(decoded),
        }
    }

    /// Returns the request that a session has under way.
    fn request_of(&self, session: &Session, number: usize) -> Option<Stray> {
        let ticket = self.ticket(session);
        let acquire = session.acquires;
        let (what, txn) = match &session.phase {
            Phase::Enqueues(attempt) => {
                let what = What::Enqueue {
                    session: number,
                    acquire,
                    epoch: attempt.epoch.unsigned_abs(),
                    offset: attempt.offset.revision,
                };
                let ask = rule::ask(Mode::Exclusive);
                let txn = (session.protocol).enqueue_txn(&ticket, attempt, ask, Admission::Always);
                (what, txn)
            }
            Phase::Removes(entry, attempt, txn) => {
                let known = entry.as_ref().filter(|_| !attempt.is_for_good);
                let what = What::Remove {
                    session: number,
                    acquire,
                    incarnation: known.map_or(0, incarnation),
                };
                return Some(self.stray(what, txn));
            }
            _ => return None,
        };
        Some(self.stray(what, &txn))
    }

    fn request_of_raiser(&self, known: KnownTokenOffset, number: usize) -> Stray {
        let what = What::Raise {
            raiser: number,
            offset: known.revision,
        };
        let txn = raise_txn(&self.keyspace, known, raised_to(number));
        self.stray(what, &txn)
    }

    /// Executes a request, and checks that a raise finds no entry.
    fn execute(&self, after: &mut State, request: &Stray) -> Result<Reply, String> {
        let before = self.offset(&after.server);
        let reply = after.server.execute(&request.decoded);
        let now = self.offset(&after.server);
        if now < before {
            return Err(format!("the offset falls from {before:?} to {now:?}"));
        }
        match now != before && self.has_entry(&after.server) {
            true => Err("the offset is raised over an entry".to_owned()),
            false => Ok(reply),
        }
    }

    fn enqueue(&self, after: &mut State, number: usize) {
        let session = &mut after.sessions[number];
        let ticket = self.ticket(session);
        let attempt = session.protocol.begin_enqueue(&ticket);
        session.phase = Phase::Enqueues(Arc::new(attempt));
    }

    fn remove(&self, after: &mut State, number: usize, entry: Option<EntryId>) {
        let session = &mut after.sessions[number];
        let ticket = self.ticket(session);
        let attempt = session.protocol.begin_removal(&ticket, entry.as_ref(), &[]);
        session.phase = match attempt {
            Some((txn, attempt)) => Phase::Removes(entry, attempt, Arc::new(txn)),
            None => Phase::Idle,
        };
    }

    /// Ends the attempt that a session has under way.
    fn receive(&self, after: &mut State, number: usize, outcome: Reply) -> Result<(), String> {
        let session = &mut after.sessions[number];
        let ticket = self.ticket(session);
        let protocol = &session.protocol;
        match std::mem::replace(&mut session.phase, Phase::Idle) {
            Phase::Enqueues(attempt) => {
                let ask = rule::ask(Mode::Exclusive);
                match protocol.end_enqueue(&ticket, &attempt, ask, outcome) {
                    Ok(Found::Made(made, _) | Found::Own(made)) => {
                        let key = attempt.key.as_bytes().into();
                        let incarnation = Some(made);
                        let offset = attempt.offset.offset;
                        session.phase = Phase::Placed(EntryId { key, incarnation }, offset);
                        if offset < after.highest {
                            return Err(format!(
                                "a token with {offset:?} after {:?}",
                                after.highest
                            ));
                        }
                        after.highest = offset;
                    }
                    Ok(Found::Shut(_)) => self.enqueue(after, number),
                    Ok(Found::Raised(_)) => {
                        after.milestones |= ENQUEUE_LEARNS;
                        self.enqueue(after, number);
                    }
                    Ok(other) => return Err(format!("an enqueue is answered by {other:?}")),
                    Err(_) => session.phase = Phase::InDoubt,
                }
            }
            Phase::Removes(entry, attempt, _) => {
                let ended = protocol.end_removal(&ticket, entry.as_ref(), &[], attempt, outcome);
                if ended.is_err() {
                    session.phase = Phase::Unremoved(entry);
                }
            }
            other => unreachable!("{other:?} waits for no reply"),
        }
        Ok(())
    }

    fn add_those_of(&self, number: usize, steps: &mut Steps<'_, Self>) {
        let session = &steps.state.sessions[number];
        match &session.phase {
            Phase::Idle => {
                if session.acquires < self.size.acquires {
                    steps.add(Action::Enqueue(number), |after| {
                        after.sessions[number].acquires += 1;
                        self.enqueue(after, number);
                        Ok(())
                    });
                }
            }
            Phase::InDoubt => {
                steps.add(Action::Enqueue(number), |after| {
                    self.enqueue(after, number);
                    Ok(())
                });
                steps.add(Action::Remove(number), |after| {
                    self.remove(after, number, None);
                    Ok(())
                });
            }
            Phase::Placed(entry, _) => steps.add(Action::Remove(number), |after| {
                self.remove(after, number, Some(entry.clone()));
                Ok(())
            }),
            Phase::Unremoved(entry) => steps.add(Action::Remove(number), |after| {
                self.remove(after, number, entry.clone());
                Ok(())
            }),
            Phase::Enqueues(_) | Phase::Removes(..) => {
                let request = self.request_of(session, number);
                let request = &request.expect("a request is under way");
                steps.add(Action::Execute(number), |after| {
                    let reply = self.execute(after, request)?;
                    self.receive(after, number, reply)
                });
                if steps.state.losses_left > 0 {
                    steps.add(Action::LoseReply(number), |after| {
                        after.losses_left -= 1;
                        drop(self.execute(after, request)?);
                        self.receive(after, number, Err(lost(Effect::Unknown)))
                    });
                    steps.add(Action::Delay(number), |after| {
                        after.losses_left -= 1;
                        after.delay(request.clone());
                        self.receive(after, number, Err(lost(Effect::Unknown)))
                    });
                }
            }
        }
    }

    fn add_those_of_raiser(&self, number: usize, steps: &mut Steps<'_, Self>) {
        let Some(known) = steps.state.raisers[number] else {
            return;
        };
        let request = &self.request_of_raiser(known, number);
        steps.add(Action::Raise(number), |after| {
            let reply = self.execute(after, request)?.map_err(|e| e.to_string())?;
            let raised = end_raise(&self.keyspace, known, raised_to(number), &reply);
            match raised.map_err(|error| error.to_string())? {
                RaiseAttempt::Done(Raised::InUse) => {
                    after.milestones |= IN_USE;
                    // Its user tries again later, from the beginning.
                    after.raisers[number] = Some(KnownTokenOffset::default());
                }
                RaiseAttempt::Done(_) => {
                    after.milestones |= RAISED;
                    after.raisers[number] = None;
                }
                RaiseAttempt::Changed(now) => after.raisers[number] = Some(now),
            }
            Ok(())
        });
        if steps.state.losses_left > 0 {
            let again = Some(KnownTokenOffset::default());
            steps.add(Action::LoseReplyToRaise(number), |after| {
                after.losses_left -= 1;
                after.raisers[number] = again;
                self.execute(after, request).map(drop)
            });
            steps.add(Action::DelayRaise(number), |after| {
                after.losses_left -= 1;
                after.raisers[number] = again;
                after.delay(request.clone());
                Ok(())
            });
        }
    }
}

fn raised_to(raiser: usize) -> TokenOffset {
    TokenOffset::new(RAISES[raiser]).expect("not too high")
}

impl State {
    fn delay(&mut self, request: Stray) {
        self.strays.push(request);
        self.strays.sort_by_key(|stray| stray.what);
    }
}

impl Model for EtcdOffset {
    type State = State;
    type Action = Action;

    const MILESTONES: &'static [&'static str] = &[
        "the offset is raised",
        "a raise finds an entry",
        "an enqueue learns of a raise",
        "a late request changes nothing",
    ];

    fn initial(&self) -> State {
        let session = |session| Session {
            protocol: Protocol::new(Layout::new(self.keyspace.clone(), session)),
            phase: Phase::Idle,
            acquires: 0,
        };
        State {
            server: Server::new(),
            sessions: SESSIONS.map(session).into(),
            raisers: RAISES.map(|_| Some(KnownTokenOffset::default())).into(),
            strays: Vec::new(),
            highest: TokenOffset::default(),
            losses_left: self.size.losses,
            milestones: 0,
        }
    }

    fn forget_last_step(state: &mut State) {
        state.milestones = 0;
    }

    fn next(&self, state: &State) -> Vec<Step<Self>> {
        let mut steps = Steps::new(self, state);
        for number in 0..state.sessions.len() {
            self.add_those_of(number, &mut steps);
        }
        for number in 0..state.raisers.len() {
            self.add_those_of_raiser(number, &mut steps);
        }
        for (at, stray) in state.strays.iter().enumerate() {
            steps.add(Action::ExecuteLate, |after| {
                after.strays.remove(at);
                let reply = self.execute(after, stray)?;
                if reply.is_ok_and(|reply| !reply.succeeded()) {
                    after.milestones |= LATE_AND_HARMLESS;
                }
                Ok(())
            });
        }
        steps.found
    }

    fn check(&self, _: &State, after: &State) -> Result<(), String> {
        let now = self.offset(&after.server);
        for session in &after.sessions {
            if let Phase::Placed(_, offset) = session.phase
                && offset != now
            {
                return Err(format!("an entry has {offset:?}, and the store {now:?}"));
            }
        }
        Ok(())
    }

    fn check_end(&self, state: &State) -> Result<(), String> {
        match state.raisers.iter().all(Option::is_none) {
            true => Ok(()),
            false => Err("a raiser is stuck".to_owned()),
        }
    }

    fn hash(&self, state: &State, hasher: &mut DefaultHasher) {
        let mut ranks = Ranks::default();
        state.server.keys.iter().for_each(|kv| ranks.add_key(kv));
        let (sessions, strays): (Vec<_>, Vec<_>) = (
            state.sessions.iter().map(revisions).collect(),
            state
                .strays
                .iter()
                .map(|stray| stray.what.split())
                .collect(),
        );
        let known = (state.raisers.iter()).map(|known| known.map_or(0, |known| known.revision));
        let known: Vec<u64> = known.collect();
        let all = sessions.iter().flatten().chain(&known);
        let all = all.chain(strays.iter().flat_map(|(_, revisions)| revisions));
        all.for_each(|revision| ranks.add(*revision));
        ranks.sort();
        for kv in &state.server.keys {
            ranks.hash_key(kv, hasher);
        }
        for (session, revisions) in state.sessions.iter().zip(sessions) {
            session.protocol.key_slots().hash(hasher);
            session.acquires.hash(hasher);
            revisions.map(|revision| ranks.get(revision)).hash(hasher);
            std::mem::discriminant(&session.phase).hash(hasher);
            match &session.phase {
                Phase::Enqueues(attempt) => {
                    (&attempt.key, attempt.was_certain).hash(hasher);
                }
                Phase::Placed(entry, offset) => (&entry.key, offset.get()).hash(hasher),
                Phase::Removes(_, attempt, _) => attempt.is_for_good.hash(hasher),
                _ => {}
            }
        }
        for (raiser, known) in state.raisers.iter().zip(known) {
            (raiser.is_some(), ranks.get(known)).hash(hasher);
        }
        for (plain, revisions) in strays {
            (plain, revisions.map(|revision| ranks.get(revision))).hash(hasher);
        }
        (state.highest.get(), state.losses_left).hash(hasher);
    }

    fn find_milestones(&self, _: &State, after: &State) -> u32 {
        after.milestones
    }
}

impl What {
    /// Splits what it is from the revisions that it compares.
    fn split(self) -> ((u8, usize, u8), [u64; 2]) {
        match self {
            What::Enqueue {
                session,
                acquire,
                epoch,
                offset,
            } => ((0, session, acquire), [epoch, offset]),
            What::Remove {
                session,
                acquire,
                incarnation,
            } => ((1, session, acquire), [incarnation, 0]),
            What::Raise { raiser, offset } => ((2, raiser, 0), [offset, 0]),
        }
    }
}

/// Returns the revisions that a session knows: of its epoch, of the offset, and in its phase.
fn revisions(session: &Session) -> [u64; 4] {
    let known = session.protocol.known_offset().revision;
    let epoch = session.protocol.epoch().unsigned_abs();
    let [one, two] = match &session.phase {
        Phase::Enqueues(attempt) => [attempt.epoch.unsigned_abs(), attempt.offset.revision],
        Phase::Placed(entry, _)
        | Phase::Removes(Some(entry), ..)
        | Phase::Unremoved(Some(entry)) => [incarnation(entry), 0],
        _ => [0, 0],
    };
    [epoch, known, one, two]
}
