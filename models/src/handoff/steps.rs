//! The steps of the store, of the other processes and of the contenders.

use lock_core::Mode;
use lock_core::rule::{Ahead, View};

use super::{Contender, Entry, Handoff, Mutant, State};
use crate::explorer::{Step, Steps};

/// What a step does. A number is that of a contender; an entry of the queue is shown by its token.
#[derive(Debug)]
#[expect(dead_code, reason = "shown on the path to a violation")]
pub enum Action {
    ForeignEntryComes,
    ForeignEntryGoes {
        token: u8,
    },
    Evict {
        token: u8,
    },
    BeginEnqueue(usize),
    ExecuteEnqueue(usize),
    LoseEnqueue(usize),
    LoseEnqueueReply(usize),
    ExecuteEnqueueAgain(usize),
    ReceivePlace(usize),
    WakeByEvent(usize),
    /// The waiter looks although nothing has happened, as it does now and then.
    WakeForNothing(usize),
    Cancel(usize),
    ExecuteLook(usize),
    ReceiveView(usize),
    BeginRelease(usize),
    ExecuteRemoval(usize),
    LoseRemovalReply(usize),
    ReceiveRemoval(usize),
}

pub(super) fn next(model: &Handoff, state: &State) -> Vec<Step<Handoff>> {
    let mut steps = Steps::new(model, state);
    steps.add_those_of_others();
    for (number, contender) in state.contenders.iter().enumerate() {
        steps.add_those_of(number, contender);
    }
    // A step that happens for no reason must not be what everything waits for.
    if steps
        .found
        .iter()
        .all(|(action, _)| matches!(action, Action::WakeForNothing(_)))
    {
        steps.found.clear();
    }
    steps.found
}

impl Steps<'_, Handoff> {
    /// Adds a step of a contender that makes it this one.
    fn add_turn(
        &mut self,
        action: Action,
        number: usize,
        change: impl FnOnce(&mut State) -> Contender,
    ) {
        self.add(action, |after| {
            after.contenders[number] = change(after);
            Ok(())
        });
    }

    fn add_those_of_others(&mut self) {
        let state = self.state;
        if state.left.foreign > 0 {
            self.add(Action::ForeignEntryComes, |after| {
                after.left.foreign -= 1;
                after.make(None);
                Ok(())
            });
        }
        for entry in &state.queue {
            let token = entry.token;
            if entry.maker.is_none() {
                self.add(Action::ForeignEntryGoes { token }, |after| {
                    after.remove(*entry);
                    Ok(())
                });
            } else if state.left.evictions > 0 {
                self.add(Action::Evict { token }, |after| {
                    after.left.evictions -= 1;
                    after.remove(*entry);
                    Ok(())
                });
            }
        }
    }

    fn add_those_of(&mut self, number: usize, contender: &Contender) {
        let (model, state) = (self.model, self.state);
        let maker = Some(number as u8);
        if state.left.cancels > 0 {
            self.add_cancel_of(number, contender);
        }
        match contender {
            Contender::Idle => {
                // Contenders are alike: of those that are idle, the first comes.
                let is_first = !state.contenders[..number].contains(&Contender::Idle);
                if is_first && state.left.acquires > 0 {
                    self.add_turn(Action::BeginEnqueue(number), number, |after| {
                        after.left.acquires -= 1;
                        let limit = after.order.plan_enqueue(&model.queue);
                        Contender::Sent { limit: limit as u8 }
                    });
                }
            }
            Contender::Sent { limit } => {
                let execute = |after: &mut State| {
                    let own = after.make(maker);
                    let read = after.ahead(own, *limit);
                    (own, read)
                };
                self.add_turn(Action::ExecuteEnqueue(number), number, |after| {
                    let (own, read) = execute(after);
                    Contender::Made {
                        own,
                        limit: *limit,
                        read,
                    }
                });
                if state.left.losses > 0 {
                    self.add_turn(Action::LoseEnqueue(number), number, |after| {
                        after.left.losses -= 1;
                        after.order.end_enqueue(&model.queue);
                        Contender::Again { own: None }
                    });
                }
            }
            Contender::Made { own, limit, read } => {
                self.add_turn(Action::ReceivePlace(number), number, |after| {
                    let next = model.place(after, *own, *limit, read);
                    after.order.end_enqueue(&model.queue);
                    next
                });
                if state.left.losses > 0 {
                    self.add_turn(Action::LoseEnqueueReply(number), number, |after| {
                        after.left.losses -= 1;
                        after.order.end_enqueue(&model.queue);
                        Contender::Again { own: Some(*own) }
                    });
                }
            }
            Contender::Again { own } => {
                self.add_turn(Action::ExecuteEnqueueAgain(number), number, |after| {
                    let found = own.filter(|own| after.has(*own));
                    let own = found.unwrap_or_else(|| after.make(maker));
                    Contender::FoundAgain {
                        own,
                        present: true,
                        near: after.nearest(own),
                    }
                });
            }
            Contender::FoundAgain { own, present, near } => {
                self.add_turn(Action::ReceivePlace(number), number, |after| {
                    model.note_view(after, *own, *present, *near)
                });
            }
            Contender::Waits { own, on } => {
                let wake = match state.has(*on) {
                    true => Action::WakeForNothing(number),
                    false => Action::WakeByEvent(number),
                };
                self.add_turn(wake, number, |_| Contender::Looks { own: *own });
            }
            Contender::Looks { own } => {
                self.add_turn(Action::ExecuteLook(number), number, |after| {
                    let present = after.has(*own);
                    Contender::Looked {
                        own: *own,
                        present,
                        near: after.nearest(*own).filter(|_| present),
                    }
                });
            }
            Contender::Looked { own, present, near } => {
                self.add_turn(Action::ReceiveView(number), number, |after| {
                    model.note_view(after, *own, *present, *near)
                });
            }
            Contender::Holds { own } => {
                self.add_turn(Action::BeginRelease(number), number, |after| {
                    let waiters = model.waiters(after, *own);
                    Contender::Leaves { own: *own, waiters }
                });
            }
            Contender::Leaves { own, waiters } => {
                let waiters = || waiters.clone();
                self.add(Action::ExecuteRemoval(number), |after| {
                    let there = model.execute_removal(after, *own, waiters())?;
                    after.contenders[number] = Contender::Left { own: *own, there };
                    Ok(())
                });
                if state.left.losses > 0 {
                    // The next attempt reads for the same waiters.
                    self.add(Action::LoseRemovalReply(number), |after| {
                        after.left.losses -= 1;
                        model.execute_removal(after, *own, waiters()).map(drop)
                    });
                }
            }
            Contender::Left { own, there } => {
                self.add_turn(Action::ReceiveRemoval(number), number, |after| {
                    model.hand_off(after, *own, there);
                    Contender::Idle
                });
            }
        }
    }

    /// Adds the end of an acquire by its caller.
    fn add_cancel_of(&mut self, number: usize, contender: &Contender) {
        let model = self.model;
        let (own, is_known) = match contender {
            // What the request may still do is the matter of another model: `gate`.
            Contender::Sent { .. } => (None, false),
            Contender::Made { own, .. } => (Some(*own), false),
            Contender::Waits { own, .. }
            | Contender::Looks { own }
            | Contender::Looked { own, .. } => (Some(*own), true),
            _ => return,
        };
        self.add_turn(Action::Cancel(number), number, |after| {
            after.left.cancels -= 1;
            let Some(own) = own else {
                after.order.end_enqueue(&model.queue);
                return Contender::Idle;
            };
            let waiters = match model.is_mutated(Mutant::AnyEntryHandsOff) {
                true => model.waiters(after, own),
                false => Vec::new(),
            };
            match is_known {
                true => model.forget(after, own),
                false => after.order.end_enqueue(&model.queue),
            }
            Contender::Leaves { own, waiters }
        });
    }
}

impl Handoff {
    /// Records the place of an entry that was just made, as `EnqueuePlan::place` does, and returns
    /// what the contender does next.
    fn place(&self, state: &mut State, own: Entry, limit: u8, read: &[Entry]) -> Contender {
        let id = self.name_own(own);
        if limit > 0 {
            let ahead: Vec<Ahead> = read.iter().map(|entry| self.to_ahead(*entry)).collect();
            state.order.read(&self.queue, &id, &ahead);
            return self.note_view(state, own, true, read.first().copied());
        }
        let assumed = state.order.assume(&self.queue, &id, Mode::Exclusive);
        let Some(assumed) = assumed else {
            return Contender::Looks { own };
        };
        if self.is_mutated(Mutant::GuessesAreRecordedAsSeen) {
            let view = View {
                present: true,
                ahead: vec![assumed.clone()],
            };
            state.order.saw(&self.queue, &id, Mode::Exclusive, &view);
        }
        Contender::Waits {
            own,
            on: Entry {
                token: assumed
                    .id
                    .incarnation
                    .map_or(0, |number| number.get() as u8),
                maker: self.find_maker(state, &assumed.id),
            },
        }
    }

    /// Returns the contender of this process that has the entry with this name.
    fn find_maker(&self, state: &State, id: &lock_core::EntryId) -> Option<u8> {
        let number = state.contenders.iter().position(|contender| {
            let own = match contender {
                Contender::Waits { own, .. }
                | Contender::Looks { own }
                | Contender::Looked { own, .. } => own,
                _ => return false,
            };
            self.name_own(*own) == *id
        });
        number.map(|number| number as u8)
    }

    /// Records a view that was read, as `SessionHandoff::note_view` does, and returns what the
    /// contender does next.
    fn note_view(
        &self,
        state: &mut State,
        own: Entry,
        present: bool,
        near: Option<Entry>,
    ) -> Contender {
        let view = View {
            present,
            ahead: near.map(|near| self.to_ahead(near)).into_iter().collect(),
        };
        if present || !self.is_mutated(Mutant::NothingIsForgotten) {
            let id = self.name_own(own);
            state.order.saw(&self.queue, &id, Mode::Exclusive, &view);
        }
        match (present, near) {
            (false, _) => Contender::Idle,
            (true, None) => Contender::Holds { own },
            (true, Some(on)) => Contender::Waits { own, on },
        }
    }

    fn to_ahead(&self, entry: Entry) -> Ahead {
        Ahead {
            id: self.name_listed(entry),
            mode: Mode::Exclusive,
        }
    }

    fn forget(&self, state: &mut State, own: Entry) {
        if !self.is_mutated(Mutant::NothingIsForgotten) {
            state.order.forget(&self.queue, &self.name_own(own));
        }
    }

    pub(super) fn is_confirmed(&self, state: &State, own: Entry, blocker: Entry) -> bool {
        let (own, blocker) = (self.name_own(own), self.name_own(blocker));
        state.order.stands_right_behind(&self.queue, &own, &blocker)
    }

    /// Returns the entries that the removal of this one reads, as `HandoffRegistry::begin` does.
    fn waiters(&self, state: &State, leaving: Entry) -> Vec<Entry> {
        let waits_for_it = |contender: &Contender| match contender {
            Contender::Waits { own, on }
                if *on == leaving
                    && (self.is_mutated(Mutant::GuessesAreTrusted)
                        || self.is_confirmed(state, *own, leaving)) =>
            {
                Some(*own)
            }
            _ => None,
        };
        state.contenders.iter().filter_map(waits_for_it).collect()
    }

    /// Removes an entry in the store, and returns the waiters whose entries exist.
    fn execute_removal(
        &self,
        state: &mut State,
        own: Entry,
        waiters: Vec<Entry>,
    ) -> Result<Vec<Entry>, String> {
        if !state.has(own) {
            // The transaction compares the incarnation, and reads nothing.
            return Ok(Vec::new());
        }
        state.remove(own);
        let mut there = waiters;
        if !self.is_mutated(Mutant::PresenceIsNotRead) {
            there.retain(|waiter| state.has(*waiter));
        }
        match there.iter().find(|waiter| !state.has(**waiter)) {
            Some(absent) => Err(format!("{} is handed the lock, and is gone", absent.token)),
            None => Ok(there),
        }
    }

    /// Wakes the waiters that still wait, as `Departure::hand_off_to` and `wait_for_change` do.
    fn hand_off(&self, state: &mut State, left: Entry, there: &[Entry]) {
        for waiter in there {
            let waits = Contender::Waits {
                own: *waiter,
                on: left,
            };
            if let Some(number) = state.contenders.iter().position(|c| *c == waits) {
                state.contenders[number] = self.note_view(state, *waiter, true, None);
            }
        }
    }
}
