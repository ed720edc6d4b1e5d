//! What tells two states of the gate apart.

use std::hash::{DefaultHasher, Hash};
use std::mem::discriminant;

use super::{Content, Phase, State, Wire};
use crate::ranks::Ranks;
use crate::server::incarnation;

pub(super) fn hash(state: &State, hasher: &mut DefaultHasher) {
    let ranks = rank(state);
    for kv in &state.server.keys {
        ranks.hash_key(kv, hasher);
    }
    state.server.live.hash(hasher);
    state.protocol.key_slots().hash(hasher);
    ranks.get(epoch(state)).hash(hasher);
    for contender in &state.contenders {
        (contender.begun, contender.acknowledged).hash(hasher);
        hash_phase(&contender.phase, &ranks, hasher);
    }
    state.strays.len().hash(hasher);
    for stray in &state.strays {
        stray.ticket.hash(hasher);
        hash_content(stray.content, &ranks, hasher);
    }
    (state.losses_left, state.changes_left).hash(hasher);
}

fn epoch(state: &State) -> u64 {
    state.protocol.epoch().unsigned_abs()
}

/// Returns the revisions of the phase: those that its attempt and its entry know.
fn revisions(phase: &Phase) -> [u64; 2] {
    match phase {
        Phase::Enqueues(attempt, _) => [attempt.epoch.unsigned_abs(), 0],
        Phase::Placed(entry) | Phase::Accesses(entry, ..) => [incarnation(entry), 0],
        Phase::Removes(entry, ..) | Phase::Unremoved(entry) => {
            [entry.as_ref().map_or(0, incarnation), 0]
        }
        Phase::Idle | Phase::InDoubt | Phase::Gone => [0, 0],
    }
}

fn wire(phase: &Phase) -> Option<&Wire> {
    match phase {
        Phase::Enqueues(_, wire) | Phase::Accesses(.., wire) | Phase::Removes(_, _, wire) => {
            Some(wire)
        }
        _ => None,
    }
}

fn rank(state: &State) -> Ranks {
    let mut ranks = Ranks::default();
    state.server.keys.iter().for_each(|kv| ranks.add_key(kv));
    ranks.add(epoch(state));
    for contender in &state.contenders {
        let known = revisions(&contender.phase);
        known.into_iter().for_each(|revision| ranks.add(revision));
        match wire(&contender.phase) {
            Some(Wire::Request(flight)) => add_content(flight.content, &mut ranks),
            Some(Wire::Reply(reply)) => ranks.add_reply(reply),
            None => {}
        }
    }
    for stray in &state.strays {
        add_content(stray.content, &mut ranks);
    }
    ranks.sort();
    ranks
}

fn add_content(content: Content, ranks: &mut Ranks) {
    match content {
        Content::Enqueue { epoch, .. } => ranks.add(epoch),
        Content::Remove { incarnation } => ranks.add(incarnation),
        Content::RemoveForGood { .. } => {}
        Content::Access {
            incarnation, epoch, ..
        } => {
            ranks.add(incarnation);
            ranks.add(epoch);
        }
    }
}

fn hash_phase(phase: &Phase, ranks: &Ranks, hasher: &mut DefaultHasher) {
    discriminant(phase).hash(hasher);
    revisions(phase)
        .map(|revision| ranks.get(revision))
        .hash(hasher);
    match phase {
        Phase::Enqueues(attempt, _) => (attempt.was_certain, attempt.is_first).hash(hasher),
        Phase::Accesses(_, value, attempt, _) => (value, attempt.was_certain).hash(hasher),
        Phase::Removes(_, attempt, _) => attempt.is_for_good.hash(hasher),
        _ => {}
    }
    // Its key: a contender may meet its entry under a key that is not the slot's any more.
    if let Phase::Placed(entry)
    | Phase::Accesses(entry, ..)
    | Phase::Removes(Some(entry), ..)
    | Phase::Unremoved(Some(entry)) = phase
    {
        entry.key.hash(hasher);
    }
    match wire(phase) {
        Some(Wire::Request(flight)) => hash_content(flight.content, ranks, hasher),
        Some(Wire::Reply(reply)) => ranks.hash_reply(reply, hasher),
        None => {}
    }
}

fn hash_content(content: Content, ranks: &Ranks, hasher: &mut DefaultHasher) {
    discriminant(&content).hash(hasher);
    match content {
        Content::Enqueue { slot, epoch } => (slot, ranks.get(epoch)).hash(hasher),
        Content::Remove { incarnation } => ranks.get(incarnation).hash(hasher),
        Content::RemoveForGood { slot } => slot.hash(hasher),
        Content::Access {
            value,
            incarnation,
            epoch,
            moves_epoch,
        } => {
            let ranked = (ranks.get(incarnation), ranks.get(epoch));
            (value, ranked, moves_epoch).hash(hasher);
        }
    }
}
