//! The steps of the network, of the server and of the session.

use std::sync::Arc;

use backend_embedded::machine::op::{KeyRange, Op, Txn as MachineTxn};
use backend_etcd::models::{AccessOutcome, Found, Request, combine, split_answer};
use etcd_client::{Txn, TxnOp};
use lock_core::session::Admission;
use lock_core::{Access, Effect, EntryId, Error, Mode, rule};

use super::{Contender, Content, Flight, Gate, Mutant, Phase, State, Wire, pairs};
use crate::explorer::{Step, Steps};
use crate::ranks::Reply;
use crate::server::{decode, incarnation, lost};

/// What a step does, and the ticket that it is about.
#[derive(Debug)]
#[expect(dead_code, reason = "shown on the path to a violation")]
pub enum Action {
    Enqueue(usize),
    Execute(usize),
    /// The caller stops waiting for the reply; the request may be executed later.
    Delay(usize),
    /// The request is not sent, and the caller knows.
    FailToSend(usize),
    LoseReply(usize),
    Receive(usize),
    Remove(usize),
    Change(usize),
    Read(usize),
    /// The acquire does not learn where its entry stands, and tries again.
    LosePlace(usize),
    ExecuteLate {
        ticket: u8,
    },
    ExecuteTogether {
        tickets: [u8; 2],
    },
    EndSession,
}

const EPOCH_MOVED: u32 = 1;
const FOUND_OWN: u32 = 1 << 1;
const LATE_AND_HARMLESS: u32 = 1 << 2;
const REMOVED_FOR_GOOD: u32 = 1 << 3;
const SLOT_USED_AGAIN: u32 = 1 << 4;

pub(super) fn next(model: &Gate, state: &State) -> Vec<Step<Gate>> {
    let mut steps = Steps::new(model, state);
    for number in 0..state.contenders.len() {
        steps.add_those_of(number);
    }
    steps.add_late_executions();
    if model.size.groups {
        steps.add_groups();
    }
    if model.size.session_ends && state.server.live[0] {
        steps.add(Action::EndSession, |after| {
            after.server.revoke(0);
            Ok(())
        });
    }
    steps.found
}

/// A request that can be executed: that of a contender, or a stray one.
#[derive(Clone, Copy)]
enum Source {
    Contender(usize),
    Stray(usize),
}

impl Steps<'_, Gate> {
    fn add_those_of(&mut self, number: usize) {
        let model = self.model;
        let contender = &self.state.contenders[number];
        match &contender.phase {
            Phase::Idle => {
                if self.is_next_of_its_lock(number) {
                    self.add(Action::Enqueue(number), |after| {
                        model.enqueue(after, number);
                        Ok(())
                    });
                }
            }
            Phase::InDoubt => {
                self.add(Action::Enqueue(number), |after| {
                    model.enqueue(after, number);
                    Ok(())
                });
                self.add_removal(number, None);
            }
            Phase::Placed(entry) => {
                self.add_removal(number, Some(entry));
                if contender.begun == 0 && self.state.losses_left > 0 {
                    self.add(Action::LosePlace(number), |after| {
                        after.losses_left -= 1;
                        after.contenders[number].phase = Phase::InDoubt;
                        Ok(())
                    });
                }
                // The same value again, if its writing was not acknowledged, and the next one.
                let again = (contender.begun > contender.acknowledged).then_some(contender.begun);
                let next = (self.state.changes_left > 0).then_some(contender.begun + 1);
                for value in again.into_iter().chain(next) {
                    self.add(Action::Change(number), |after| {
                        after.changes_left -= u8::from(next == Some(value));
                        after.contenders[number].begun = value;
                        model.access(after, number, entry.clone(), Some(value));
                        Ok(())
                    });
                }
                if again.is_some() {
                    self.add(Action::Read(number), |after| {
                        model.read(after, number, entry.clone());
                        Ok(())
                    });
                }
            }
            Phase::Unremoved(entry) => self.add_removal(number, entry.as_ref()),
            Phase::Enqueues(_, wire) | Phase::Accesses(.., wire) | Phase::Removes(_, _, wire) => {
                self.add_those_of_wire(number, wire);
            }
            Phase::Gone => {}
        }
    }

    /// Returns whether no ticket before this one is idle. The tickets of a lock are alike.
    fn is_next_of_its_lock(&self, number: usize) -> bool {
        let tickets = &self.model.tickets;
        !(0..number).any(|other| {
            tickets[other].lock == tickets[number].lock
                && matches!(self.state.contenders[other].phase, Phase::Idle)
        })
    }

    fn add_removal(&mut self, number: usize, entry: Option<&EntryId>) {
        let model = self.model;
        self.add(Action::Remove(number), |after| {
            model.remove(after, number, entry.cloned());
            Ok(())
        });
    }

    fn add_those_of_wire(&mut self, number: usize, wire: &Wire) {
        let model = self.model;
        let may_lose = self.state.losses_left > 0;
        let mut lose = |action, error: Error, stray: Option<&Flight>| {
            self.add(action, |after| {
                after.losses_left -= 1;
                after.strays.extend(stray.cloned());
                after
                    .strays
                    .sort_by_key(|stray| (stray.ticket, stray.content));
                model.receive(after, number, Err(error))
            });
        };
        match wire {
            Wire::Request(flight) => {
                if may_lose {
                    lose(Action::Delay(number), lost(Effect::Unknown), Some(flight));
                    lose(Action::FailToSend(number), lost(Effect::None), None);
                }
                self.add(Action::Execute(number), |after| {
                    model.execute(after, Source::Contender(number))
                });
            }
            Wire::Reply(reply) => {
                if may_lose {
                    lose(Action::LoseReply(number), lost(Effect::Unknown), None);
                }
                self.add(Action::Receive(number), |after| {
                    model.receive(after, number, Reply::clone(reply))
                });
            }
        }
    }

    fn add_late_executions(&mut self) {
        let model = self.model;
        let strays = &self.state.strays;
        for (at, stray) in strays.iter().enumerate() {
            let like = |other: &Flight| (other.ticket, other.content);
            if at > 0 && like(&strays[at - 1]) == like(stray) {
                continue;
            }
            let ticket = stray.ticket;
            self.add(Action::ExecuteLate { ticket }, |after| {
                model.execute(after, Source::Stray(at))
            });
        }
    }

    fn add_groups(&mut self) {
        let (model, state) = (self.model, self.state);
        let contenders = (0..state.contenders.len()).map(Source::Contender);
        let strays = (0..state.strays.len()).map(Source::Stray);
        let sources: Vec<Source> = contenders.chain(strays).collect();
        for (one, two) in pairs(sources.len()) {
            let both = [sources[one], sources[two]];
            let [Some(one), Some(two)] = both.map(|source| state.flight(source)) else {
                continue;
            };
            let (Some(first), Some(second)) = (&one.request, &two.request) else {
                continue;
            };
            let lock = |flight: &Flight| model.tickets[usize::from(flight.ticket)].lock;
            if lock(one) == lock(two) && !model.is_mutated(Mutant::OneLockGoesTogether) {
                continue;
            }
            let tickets = [one.ticket, two.ticket];
            let together = [first.clone(), second.clone()];
            self.add(Action::ExecuteTogether { tickets }, |after| {
                model.execute_together(after, both, &together)
            });
        }
    }
}

impl State {
    fn flight(&self, source: Source) -> Option<&Flight> {
        match source {
            Source::Stray(at) => self.strays.get(at),
            Source::Contender(number) => match &self.contenders[number].phase {
                Phase::Enqueues(_, Wire::Request(flight))
                | Phase::Accesses(.., Wire::Request(flight))
                | Phase::Removes(_, _, Wire::Request(flight)) => Some(flight),
                _ => None,
            },
        }
    }

    /// Sends the reply to the contender that waits for it. Nobody waits for that of a stray request.
    fn reply(&mut self, source: Source, reply: Reply) {
        if let Source::Contender(number) = source
            && let Phase::Enqueues(_, wire) | Phase::Accesses(.., wire) | Phase::Removes(_, _, wire) =
                &mut self.contenders[number].phase
        {
            *wire = Wire::Reply(Arc::new(reply));
        }
    }
}

impl Gate {
    fn enqueue(&self, after: &mut State, number: usize) {
        let ticket = &self.tickets[number].ticket;
        let attempt = after.protocol.begin_enqueue(ticket);
        let slot = self.slot(after, number);
        let came = |contender: &&Contender| !matches!(contender.phase, Phase::Idle);
        let is_new = matches!(after.contenders[number].phase, Phase::Idle);
        if is_new && slot <= after.contenders.iter().filter(came).count() as u64 {
            after.milestones |= SLOT_USED_AGAIN;
        }
        let ask = rule::ask(Mode::Exclusive);
        let txn = (after.protocol).enqueue_txn(ticket, &attempt, ask, Admission::Always);
        let content = Content::Enqueue {
            slot,
            epoch: attempt.epoch.unsigned_abs(),
        };
        let change = TxnOp::put(attempt.key.as_bytes(), [], None);
        let wire = self.send(after, number, content, txn, Some(change));
        after.contenders[number].phase = Phase::Enqueues(Arc::new(attempt), wire);
    }

    fn slot(&self, state: &State, number: usize) -> u64 {
        let slot = state
            .protocol
            .key_slots()
            .get(self.tickets[number].ticket.serial);
        slot.map_or(0, |slot| slot.number)
    }

    fn remove(&self, after: &mut State, number: usize, entry: Option<EntryId>) {
        let ticket = &self.tickets[number].ticket;
        if self.is_mutated(Mutant::DoubtIsForgotten) && entry.is_some() {
            after.protocol.key_slots().resolve(ticket.serial);
        }
        let attempt = after.protocol.begin_removal(ticket, entry.as_ref(), &[]);
        let Some((txn, attempt)) = attempt else {
            after.contenders[number].phase = Phase::Gone;
            return;
        };
        let (content, change) = match &entry {
            Some(entry) if !attempt.is_for_good => {
                let incarnation = incarnation(entry);
                let change = TxnOp::delete(&*entry.key, None);
                (Content::Remove { incarnation }, Some(change))
            }
            _ => {
                let slot = self.slot(after, number);
                (Content::RemoveForGood { slot }, None)
            }
        };
        let wire = self.send(after, number, content, txn, change);
        after.contenders[number].phase = Phase::Removes(entry, attempt, wire);
    }

    /// Reads the value. Unless a change may still be carried out, that takes no step of its own.
    fn read(&self, after: &mut State, number: usize, entry: EntryId) {
        match after.protocol.is_in_doubt(&self.tickets[number].ticket) {
            true => self.access(after, number, entry, None),
            false => after.contenders[number].settle(),
        }
    }

    /// Writes a value, or reads it.
    fn access(&self, after: &mut State, number: usize, entry: EntryId, value: Option<u8>) {
        let info = &self.tickets[number];
        let epoch = after.protocol.epoch().unsigned_abs();
        let access = value.map_or(Access::Get, |value| Access::Put(Arc::from([value])));
        let (txn, attempt) =
            (after.protocol).begin_access(&info.ticket, &entry, &info.data_key, &access);
        let content = Content::Access {
            value,
            incarnation: incarnation(&entry),
            epoch,
            moves_epoch: !attempt.was_certain,
        };
        let wire = self.send(after, number, content, txn, None);
        after.contenders[number].phase = Phase::Accesses(entry, value, attempt, wire);
    }

    /// Sends a transaction. With `change`, it may be sent together with others.
    fn send(
        &self,
        state: &State,
        number: usize,
        content: Content,
        txn: Txn,
        change: Option<TxnOp>,
    ) -> Wire {
        let mut decoded = decode(&txn);
        self.mutate(state, content, &mut decoded);
        let request = change.filter(|_| self.size.groups).map(|change| {
            let txn = Arc::new(txn);
            Arc::new(Request { txn, change })
        });
        Wire::Request(Flight {
            ticket: number as u8,
            content,
            decoded: Arc::new(decoded),
            request,
        })
    }

    /// Puts a bug into a transaction.
    fn mutate(&self, state: &State, content: Content, txn: &mut MachineTxn) {
        let epoch = state.protocol.layout().epoch();
        let is_epoch =
            |keys: &KeyRange| matches!(keys, KeyRange::One(key) if key == epoch.as_bytes());
        match (self.mutant, content) {
            (Some(Mutant::EnqueuesCompareNoEpoch), Content::Enqueue { .. })
            | (Some(Mutant::ChangesCompareNoEpoch), Content::Access { value: Some(_), .. }) => {
                txn.compare.retain(|compare| !is_epoch(&compare.keys));
            }
            (Some(Mutant::ChangesMoveNoEpoch), Content::Access { value: Some(_), .. })
            | (Some(Mutant::ReadsMoveNoEpoch), Content::Access { value: None, .. }) => {
                txn.then
                    .retain(|op| !matches!(op, Op::Put(put) if put.key == epoch.as_bytes()));
            }
            (Some(Mutant::EntriesHaveNoLease), Content::Enqueue { .. }) => {
                for op in &mut txn.then {
                    if let Op::Put(put) = op {
                        put.lease = Some(0);
                    }
                }
            }
            _ => {}
        }
    }

    fn execute(&self, after: &mut State, source: Source) -> Result<(), String> {
        let flight = after.flight(source).cloned();
        let flight = flight.expect("a request is there");
        let before: Vec<_> = self.entries(&after.server).collect();
        let reply = after.server.execute(&flight.decoded);
        self.check_execution(after, &before, &[&flight], &reply)?;
        if let Source::Stray(at) = source {
            after.strays.remove(at);
            let harmless = reply.as_ref().is_ok_and(|reply| !reply.succeeded());
            after.milestones |= if harmless { LATE_AND_HARMLESS } else { 0 };
        }
        after.reply(source, reply);
        Ok(())
    }

    /// Executes two requests as one. If the server refuses the whole, each is sent alone, which is a
    /// step of its own.
    fn execute_together(
        &self,
        after: &mut State,
        sources: [Source; 2],
        requests: &[Arc<Request>],
    ) -> Result<(), String> {
        let flights = sources.map(|source| after.flight(source).cloned().expect("it is there"));
        let before: Vec<_> = self.entries(&after.server).collect();
        let Ok(reply) = after.server.execute(&decode(&combine(requests))) else {
            return Ok(());
        };
        let replies = split_answer(reply, requests.len()).map_err(|error| error.to_string())?;
        for (source, reply) in sources.into_iter().zip(replies) {
            let reply = Ok(reply);
            self.check_execution(after, &before, &[&flights[0], &flights[1]], &reply)?;
            after.reply(source, reply);
        }
        let mut strays: Vec<usize> = sources
            .iter()
            .filter_map(|source| match source {
                Source::Stray(at) => Some(*at),
                Source::Contender(_) => None,
            })
            .collect();
        strays.sort_unstable();
        for at in strays.into_iter().rev() {
            after.strays.remove(at);
        }
        Ok(())
    }

    /// Checks what the execution of these requests did to entries and values.
    fn check_execution(
        &self,
        after: &State,
        before: &[(usize, u64)],
        flights: &[&Flight],
        reply: &Reply,
    ) -> Result<(), String> {
        let is_its = |number: usize| flights.iter().any(|f| usize::from(f.ticket) == number);
        let is_gone = |entry: &&(usize, u64)| !self.entries(&after.server).any(|e| e == **entry);
        if let Some((other, _)) = before.iter().filter(is_gone).find(|entry| !is_its(entry.0)) {
            return Err(format!(
                "a request of another ticket deletes the entry of {other}"
            ));
        }
        let content = flights[0].content;
        let (
            Content::Access {
                value: Some(value), ..
            },
            Ok(reply),
        ) = (content, reply)
        else {
            return Ok(());
        };
        let contender = &after.contenders[usize::from(flights[0].ticket)];
        let is_late = value <= contender.acknowledged || matches!(contender.phase, Phase::Gone);
        match reply.succeeded() && is_late {
            true => Err(format!(
                "the value {value} is written after a later access, or a release"
            )),
            false => Ok(()),
        }
    }

    /// Ends the attempt of a contender with this outcome.
    fn receive(&self, after: &mut State, number: usize, outcome: Reply) -> Result<(), String> {
        let ticket = &self.tickets[number].ticket;
        let State {
            protocol,
            contenders,
            ..
        } = after;
        let contender = &mut contenders[number];
        match std::mem::replace(&mut contender.phase, Phase::Gone) {
            Phase::Enqueues(attempt, _) => {
                let ask = rule::ask(Mode::Exclusive);
                let entry = |incarnation| EntryId {
                    key: attempt.key.as_bytes().into(),
                    incarnation: Some(incarnation),
                };
                match protocol.end_enqueue(ticket, &attempt, ask, outcome) {
                    Ok(Found::Made(incarnation, _)) => {
                        contender.phase = Phase::Placed(entry(incarnation));
                    }
                    Ok(Found::Own(_)) if attempt.is_first => {
                        return Err("a first attempt finds an entry".to_owned());
                    }
                    Ok(Found::Own(incarnation)) => {
                        contender.phase = Phase::Placed(entry(incarnation));
                        after.milestones |= FOUND_OWN;
                    }
                    Ok(Found::Shut(_)) => {
                        after.milestones |= EPOCH_MOVED;
                        self.enqueue(after, number);
                    }
                    Ok(other) => return Err(format!("an enqueue is answered by {other:?}")),
                    Err(_) => contender.phase = Phase::InDoubt,
                }
            }
            Phase::Accesses(entry, value, attempt, _) => {
                match protocol.end_access(ticket, &entry, attempt, outcome) {
                    Ok(AccessOutcome::Done(_)) => {
                        contender.settle();
                        contender.phase = Phase::Placed(entry);
                    }
                    Ok(AccessOutcome::NotOurs) => contender.phase = Phase::Unremoved(Some(entry)),
                    Ok(AccessOutcome::EpochMoved) => self.access(after, number, entry, value),
                    Err(_) => contender.phase = Phase::Placed(entry),
                }
            }
            Phase::Removes(entry, attempt, _) => {
                if self.is_mutated(Mutant::SlotsAreAlwaysFree) && outcome.is_ok() {
                    protocol.key_slots().resolve(ticket.serial);
                }
                let ended = protocol.end_removal(ticket, entry.as_ref(), &[], attempt, outcome);
                match ended {
                    Ok(removal) => {
                        let deleted = removal.removed == lock_core::Removed::Removed;
                        if attempt.is_for_good && deleted {
                            after.milestones |= REMOVED_FOR_GOOD;
                        }
                    }
                    Err(_) => contender.phase = Phase::Unremoved(entry),
                }
            }
            other => unreachable!("{other:?} waits for no reply"),
        }
        Ok(())
    }
}
