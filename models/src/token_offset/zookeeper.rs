//! The token offset on ZooKeeper: a model of its nodes alone, without the product's code, which cannot
//! be cut apart from its client.
//!
//! Every session has a node in one directory, which it creates before it reads the offset. A raise
//! deletes that directory and sets the offset in one step, which the servers refuse while the directory
//! has a node. Sessions open, read, make entries, remove them and end, two after one another in each of
//! two processes; replies to a raise are lost.

use std::hash::{DefaultHasher, Hash};

use crate::explorer::{Model, Step, Steps};

/// The bounds of an exploration.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    pub processes: u8,
    /// How many sessions each process opens, one after another.
    pub sessions: u8,
    /// How many entries each session makes.
    pub entries: u8,
    pub raises: u8,
    pub losses: u8,
}

/// A bug in the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    OffsetIsReadBeforeTheNodeIsMade,
    DirectoryIsOnlyLookedAt,
    RaisesCompareNoVersion,
}

impl Mutant {
    pub const ALL: [Mutant; 3] = [
        Mutant::OffsetIsReadBeforeTheNodeIsMade,
        Mutant::DirectoryIsOnlyLookedAt,
        Mutant::RaisesCompareNoVersion,
    ];

    pub fn describe(self) -> &'static str {
        match self {
            Mutant::OffsetIsReadBeforeTheNodeIsMade => {
                "a session reads the offset before it creates its node"
            }
            Mutant::DirectoryIsOnlyLookedAt => {
                "a raise looks whether there are sessions, and sets the offset in another step"
            }
            Mutant::RaisesCompareNoVersion => "a raise does not compare the version that it read",
        }
    }
}

pub struct ZooKeeperOffset {
    pub size: Size,
    pub mutant: Option<Mutant>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    has_directory: bool,
    /// The processes whose sessions have a node in the directory.
    nodes: Vec<u8>,
    /// The offset and the version of its node; none before the first raise.
    offset: Option<(u8, u8)>,
    processes: Vec<Process>,
    raisers: Vec<Raiser>,
    /// The highest offset in a token that was given out.
    highest: u8,
    losses_left: u8,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Process {
    phase: Phase,
    sessions_left: u8,
    entries_left: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Phase {
    Closed,
    /// Connected; it is about to create its node. The offset is known only to the mutant.
    Opens(Option<u8>),
    HasNode,
    Open(u8),
    /// Has an entry.
    Placed(u8),
}

/// A raise to the offset that is one higher than the number of the raiser.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Raiser {
    Begins,
    /// It has read this, and is about to create the directory.
    Read(Option<(u8, u8)>),
    /// The directory is there, and it is about to delete it and set the offset.
    Ready(Option<(u8, u8)>),
    Done,
}

/// What a step does, and the number of the process or of the raiser.
#[derive(Debug)]
#[expect(dead_code, reason = "shown on the path to a violation")]
pub enum Action {
    Connect(usize),
    CreateDirectory(usize),
    CreateNode(usize),
    ReadOffset(usize),
    MakeEntry(usize),
    RemoveEntry(usize),
    EndSession(usize),
    BeginRaise(usize),
    PrepareRaise(usize),
    Raise(usize),
    LoseReplyToRaise(usize),
}

impl ZooKeeperOffset {
    fn is_mutated(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    fn add_those_of(&self, number: usize, steps: &mut Steps<'_, Self>) {
        let state = steps.state;
        let process = &state.processes[number];
        let current = state.offset.map_or(0, |(offset, _)| offset);
        let mut become_phase = |action, phase| {
            steps.add(action, |after| {
                after.processes[number].phase = phase;
                Ok(())
            });
        };
        match process.phase {
            Phase::Closed if process.sessions_left > 0 => {
                let known = self
                    .is_mutated(Mutant::OffsetIsReadBeforeTheNodeIsMade)
                    .then_some(current);
                steps.add(Action::Connect(number), |after| {
                    let process = &mut after.processes[number];
                    process.sessions_left -= 1;
                    process.entries_left = self.size.entries;
                    process.phase = Phase::Opens(known);
                    Ok(())
                });
            }
            Phase::Closed => {}
            Phase::Opens(_) if !state.has_directory => {
                steps.add(Action::CreateDirectory(number), |after| {
                    after.has_directory = true;
                    Ok(())
                });
            }
            Phase::Opens(known) => steps.add(Action::CreateNode(number), |after| {
                after.nodes.push(number as u8);
                after.nodes.sort_unstable();
                after.processes[number].phase = known.map_or(Phase::HasNode, Phase::Open);
                Ok(())
            }),
            Phase::HasNode => become_phase(Action::ReadOffset(number), Phase::Open(current)),
            Phase::Open(offset) if process.entries_left > 0 => {
                steps.add(Action::MakeEntry(number), |after| {
                    after.processes[number].entries_left -= 1;
                    after.processes[number].phase = Phase::Placed(offset);
                    if offset < after.highest {
                        return Err(format!(
                            "a token with offset {offset} after {}",
                            after.highest
                        ));
                    }
                    after.highest = offset;
                    Ok(())
                });
            }
            Phase::Open(_) => {}
            Phase::Placed(offset) => {
                become_phase(Action::RemoveEntry(number), Phase::Open(offset));
            }
        }
        if process.phase != Phase::Closed {
            steps.add(Action::EndSession(number), |after| {
                after.nodes.retain(|node| *node != number as u8);
                after.processes[number].phase = Phase::Closed;
                Ok(())
            });
        }
    }

    fn add_those_of_raiser(&self, number: usize, steps: &mut Steps<'_, Self>) {
        let state = steps.state;
        let mut become_raiser = |action, raiser, creates_directory| {
            steps.add(action, |after| {
                after.has_directory |= creates_directory;
                after.raisers[number] = raiser;
                Ok(())
            });
        };
        match state.raisers[number] {
            Raiser::Begins => {
                let is_enough = state.offset.is_some_and(|(now, _)| now > number as u8);
                let next = match is_enough {
                    true => Raiser::Done,
                    false => Raiser::Read(state.offset),
                };
                become_raiser(Action::BeginRaise(number), next, false);
            }
            Raiser::Read(known) if self.is_mutated(Mutant::DirectoryIsOnlyLookedAt) => {
                let next = match state.nodes.is_empty() {
                    true => Raiser::Ready(known),
                    false => Raiser::Begins,
                };
                become_raiser(Action::PrepareRaise(number), next, true);
            }
            Raiser::Read(known) => {
                become_raiser(Action::PrepareRaise(number), Raiser::Ready(known), true);
            }
            Raiser::Ready(known) => {
                let raised = self.raise(state, number, known);
                let set = raised;
                steps.add(Action::Raise(number), |after| {
                    after.raisers[number] = match set {
                        Some(_) => Raiser::Done,
                        None => Raiser::Begins,
                    };
                    after.set(set)
                });
                if state.losses_left > 0 {
                    steps.add(Action::LoseReplyToRaise(number), |after| {
                        after.losses_left -= 1;
                        after.raisers[number] = Raiser::Begins;
                        after.set(raised)
                    });
                }
            }
            Raiser::Done => {}
        }
    }

    /// Returns the offset and its version after the transaction; none if the servers refuse it.
    fn raise(&self, state: &State, number: usize, known: Option<(u8, u8)>) -> Option<(u8, u8)> {
        let may_delete = state.has_directory && state.nodes.is_empty();
        let is_same = state.offset == known || self.is_mutated(Mutant::RaisesCompareNoVersion);
        if !(is_same && (may_delete || self.is_mutated(Mutant::DirectoryIsOnlyLookedAt))) {
            return None;
        }
        let version = state.offset.map_or(0, |(_, version)| version + 1);
        Some((number as u8 + 1, version))
    }
}

impl State {
    /// Deletes the directory and sets the offset, if that was not refused.
    fn set(&mut self, raised: Option<(u8, u8)>) -> Result<(), String> {
        let Some((offset, version)) = raised else {
            return Ok(());
        };
        let before = self.offset.map_or(0, |(offset, _)| offset);
        self.has_directory &= !self.nodes.is_empty();
        self.offset = Some((offset, version));
        if offset < before {
            return Err(format!("the offset falls from {before} to {offset}"));
        }
        let has_entry = |process: &Process| matches!(process.phase, Phase::Placed(_));
        match self.processes.iter().any(has_entry) {
            true => Err("the offset is raised over an entry".to_owned()),
            false => Ok(()),
        }
    }
}

impl Model for ZooKeeperOffset {
    type State = State;
    type Action = Action;

    const MILESTONES: &'static [&'static str] = &[
        "the offset is raised",
        "an entry is made on a raised offset",
        "a raise finds a session",
    ];

    fn initial(&self) -> State {
        let size = self.size;
        let process = Process {
            phase: Phase::Closed,
            sessions_left: size.sessions,
            entries_left: 0,
        };
        State {
            has_directory: false,
            nodes: Vec::new(),
            offset: None,
            processes: vec![process; size.processes.into()],
            raisers: vec![Raiser::Begins; size.raises.into()],
            highest: 0,
            losses_left: size.losses,
        }
    }

    fn next(&self, state: &State) -> Vec<Step<Self>> {
        let mut steps = Steps::new(self, state);
        for number in 0..state.processes.len() {
            self.add_those_of(number, &mut steps);
        }
        for number in 0..state.raisers.len() {
            self.add_those_of_raiser(number, &mut steps);
        }
        steps.found
    }

    fn check(&self, _: &State, after: &State) -> Result<(), String> {
        let current = after.offset.map_or(0, |(offset, _)| offset);
        for process in &after.processes {
            if let Phase::Placed(offset) = process.phase
                && offset != current
            {
                return Err(format!(
                    "an entry has the offset {offset}, and the store {current}"
                ));
            }
        }
        Ok(())
    }

    fn check_end(&self, state: &State) -> Result<(), String> {
        match state.raisers.iter().all(|raiser| *raiser == Raiser::Done) {
            true => Ok(()),
            false => Err("a raiser is stuck".to_owned()),
        }
    }

    fn hash(&self, state: &State, hasher: &mut DefaultHasher) {
        state.hash(hasher);
    }

    fn find_milestones(&self, before: &State, after: &State) -> u32 {
        let raised = u32::from(before.offset != after.offset);
        let is_high = |process: &Process| matches!(process.phase, Phase::Placed(1..));
        let made = u32::from(after.processes.iter().any(is_high)) << 1;
        let refused = before.raisers.iter().zip(&after.raisers).any(|(was, is)| {
            matches!((was, is), (Raiser::Ready(_), Raiser::Begins)) && !before.nodes.is_empty()
        });
        raised | made | u32::from(refused) << 2
    }
}
