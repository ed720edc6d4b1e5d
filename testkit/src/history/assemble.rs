//! Assembles one history from many journals.

use std::collections::BTreeMap;

use lock_core::SessionId;
use lock_core::clock::BootInstant;

use super::{
    Access, DataAccess, DataAnswer, Event, Fault, History, Op, OpId, Outcome, Raise, Record,
    Removal, Role, Shown,
};

/// Returns the history that the journals record: everything except for the server's part.
///
/// # Errors
/// The record of an event of an acquire, or of a raise, that was never called.
pub fn assemble(mut records: Vec<Record>) -> Result<History, String> {
    // The sort is stable: records of one journal with the same time stay in their order.
    records.sort_by_key(|record| record.at);
    let mut ops: BTreeMap<OpId, Op> = BTreeMap::new();
    let mut history = History::default();
    let mut deaths = vec![];
    for record in records {
        let at = record.at();
        match record.event {
            Event::Acquire {
                op,
                lock,
                mode,
                role,
            } => {
                let acquire = Op {
                    id: op,
                    lock,
                    mode,
                    role,
                    called: at,
                    asked: vec![],
                    placed: None,
                    outcome: Outcome::Open,
                    shown: vec![],
                    lost: vec![],
                    data: vec![],
                    release: None,
                    removals: vec![],
                    died: None,
                };
                if ops.insert(op, acquire).is_some() {
                    return Err(format!("{op} was called twice"));
                }
            }
            Event::Access {
                op,
                lock,
                token,
                admitted,
            } => history.accesses.push(Access {
                at,
                op,
                lock,
                token,
                admitted,
            }),
            Event::Close { session } => history.closed.push((SessionId(session), at)),
            Event::Raise { op, offset } => history.raises.push(Raise {
                id: op,
                offset,
                called: at,
                raised: None,
            }),
            Event::Raised { op, offset } => {
                let mut raises = history.raises.iter_mut();
                let raise = raises.find(|raise| raise.id == op);
                let raise = raise.ok_or_else(|| format!("{op} was to raise nothing"))?;
                raise.raised = Some((offset, at));
            }
            Event::Died { contender, life } => deaths.push((contender, life, at)),
            Event::Fault {
                lasted,
                target,
                what,
            } => history.faults.push(Fault {
                from: at,
                to: BootInstant::from_nanos(record.at + lasted),
                target,
                what,
            }),
            event => tell(&mut ops, at, event)?,
        }
    }
    for op in ops.values_mut() {
        let own = |(contender, life, _): &&(u32, u32, BootInstant)| {
            (*contender, *life) == (op.id.contender, op.id.life)
        };
        op.died = deaths.iter().find(own).map(|(_, _, at)| *at);
    }
    give_turns_to_places(&mut ops);
    history.ops = ops.into_values().collect();
    Ok(history)
}

/// Gives each place of a sticky lock what its turns have seen: it is granted with the first of them,
/// and what shows that a turn is valid shows that the place is.
fn give_turns_to_places(ops: &mut BTreeMap<OpId, Op>) {
    let mut places = BTreeMap::new();
    for place in ops.values_mut().filter(|op| op.role == Role::Place) {
        place.release = place.removals.first().map(|removal| removal.called);
        if let Some((token, _)) = place.placed {
            places.insert((place.lock.clone(), token), place.id);
        }
    }
    let is_turn = |op: &&Op| op.role == Role::Turn;
    let turns: Vec<Op> = ops.values().filter(is_turn).cloned().collect();
    for turn in turns {
        let granted = turn.grant().and_then(|(token, at)| {
            let place = places.get(&(turn.lock.clone(), token))?;
            Some((ops.get_mut(place)?, token, at))
        });
        if let Some((place, token, at)) = granted {
            let first = place.grant().map_or(at, |(_, first)| first.min(at));
            place.outcome = Outcome::Granted(token, first);
            place.shown.extend(turn.shown);
        }
    }
    for place in ops.values_mut().filter(|op| op.role == Role::Place) {
        if let (Outcome::Open, Some(at)) = (&place.outcome, place.release) {
            place.outcome = Outcome::Cancelled(at);
        }
    }
}

/// Records an event of an acquire that was called before.
fn tell(ops: &mut BTreeMap<OpId, Op>, at: BootInstant, event: Event) -> Result<(), String> {
    let id = match event {
        Event::Ask { op, .. }
        | Event::Placed { op, .. }
        | Event::Granted { op, .. }
        | Event::Refused { op, .. }
        | Event::Cancelled { op }
        | Event::Shown { op, .. }
        | Event::Lost { op, .. }
        | Event::Data { op, .. }
        | Event::DataDone { op, .. }
        | Event::DataFailed { op, .. }
        | Event::Release { op }
        | Event::Remove { op }
        | Event::Removed { op, .. } => op,
        other => return Err(format!("{other:?} is of no acquire")),
    };
    let op = ops
        .get_mut(&id)
        .ok_or_else(|| format!("{id} was never called, but there is {event:?}"))?;
    match event {
        Event::Ask { session, .. } => {
            let session = SessionId(session);
            if op.asked.iter().all(|(known, _)| *known != session) {
                op.asked.push((session, at));
            }
        }
        Event::Placed { token, .. } => {
            op.placed.get_or_insert((token, at));
        }
        Event::Granted { token, .. } => op.outcome = Outcome::Granted(token, at),
        Event::Refused { why, .. } => op.outcome = Outcome::Refused(why, at),
        Event::Cancelled { .. } => op.outcome = Outcome::Cancelled(at),
        Event::Shown {
            asked,
            valid,
            until,
            ..
        } => op.shown.push(Shown {
            asked: BootInstant::from_nanos(asked),
            valid,
            until: until.map(BootInstant::from_nanos),
        }),
        Event::Lost { .. } => op.lost.push(at),
        Event::Data { key, request, .. } => op.data.push(DataAccess {
            key,
            request,
            called: at,
            answer: DataAnswer::InDoubt,
        }),
        Event::DataDone { value, .. } => answer(op, DataAnswer::Done(value)),
        Event::DataFailed {
            in_doubt: false, ..
        } => answer(op, DataAnswer::Failed),
        Event::Release { .. } => op.release = Some(at),
        Event::Remove { .. } => op.removals.push(Removal {
            called: at,
            answered: None,
            did: false,
        }),
        Event::Removed { did, .. } => {
            // The entry is gone by now, whichever request this reply belongs to.
            if let Some(last) = op.removals.last_mut() {
                last.answered = Some(at);
                last.did |= did;
            }
        }
        _ => {}
    }
    Ok(())
}

/// Records the answer to the last request for a value: a hold makes one at a time.
fn answer(op: &mut Op, answer: DataAnswer) {
    if let Some(last) = op.data.last_mut() {
        last.answer = answer;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lock_core::{Mode, Token};

    fn record(at: u64, event: Event) -> Record {
        Record { at, event }
    }

    #[test]
    fn journals_are_merged_by_time_and_by_acquire() {
        let op: OpId = "1.1.1".parse().expect("an id");
        let token = Token(7);
        let history = assemble(vec![
            record(30, Event::Granted { op, token }),
            record(20, Event::Placed { op, token }),
            record(11, Event::ask(op, SessionId(5))),
            record(15, Event::ask(op, SessionId(5))),
            record(
                10,
                Event::Acquire {
                    op,
                    lock: "a".into(),
                    mode: Mode::Exclusive,
                    role: Role::Contender,
                },
            ),
            record(
                50,
                Event::Died {
                    contender: 1,
                    life: 1,
                },
            ),
        ])
        .expect("it is whole");
        let at = BootInstant::from_nanos;
        let acquire = &history.ops[0];
        assert_eq!(acquire.called, at(10));
        assert_eq!(acquire.asked, [(SessionId(5), at(11))]);
        assert_eq!(acquire.grant(), Some((token, at(30))));
        assert_eq!(acquire.over(), Some(at(50)));
        let orphan = assemble(vec![record(1, Event::Release { op })]);
        assert!(orphan.expect_err("no acquire").contains("1.1.1"));
    }
}
