//! Tests histories that look odd and are right.

use lock_core::Mode::{Exclusive, Shared};
use lock_core::{SessionId, Token};

use super::scene::{Scene, TTL, at, op};
use crate::history::{Cause, Deletion, Outcome, Removal, Target};

#[test]
fn locks_change_hands() {
    let mut scene = Scene::new();
    for turn in 0..50_u64 {
        let number = u32::try_from(turn).expect("few");
        let id = scene.hold(op(number % 3, number), Exclusive, turn * 100, turn * 2);
        scene.access(id, turn * 100 + 20, turn * 2, true);
        scene.release(id, turn * 100 + 50, turn * 2 + 1);
    }
    scene.breaks(&[]);
}

/// Requests of one client for several locks reach the server as one transaction.
#[test]
fn one_revision_makes_entries_of_several_locks() {
    let mut scene = Scene::new();
    let a = scene.hold(op(1, 1), Exclusive, 0, 10);
    let b = scene.hold(op(2, 1), Exclusive, 0, 10);
    scene.op(b).lock = "b".into();
    scene.entry(b).lock = "b".into();
    scene.entry(b).key = "b/2-10".into();
    scene.release(a, 100, 11);
    scene.release(b, 100, 11);
    scene.breaks(&[]);
}

/// The session expired while the holder stood still. The holder wakes, is refused, and learns of
/// its loss.
#[test]
fn a_paused_holder_overlaps_with_the_next_in_real_time_but_not_by_its_deadline() {
    let mut scene = Scene::new();
    let a = scene.hold(op(1, 1), Exclusive, 0, 10);
    scene.fault(Target::Contender(1), 10, 9_000);
    scene.expire(a, TTL + 400, 11);
    let b = scene.hold(op(2, 1), Exclusive, 3_000, 12);
    scene.access(b, 3_100, 12, true);
    scene.release(b, 3_200, 13);
    scene.access(a, 9_001, 10, false);
    scene.show(a, 9_002, None);
    scene.op(a).lost = vec![at(9_003)];
    scene.breaks(&[]);
}

#[test]
fn a_release_whose_reply_was_lost_ends_the_section_at_the_call() {
    let mut scene = Scene::new();
    let a = scene.hold(op(1, 1), Exclusive, 0, 10);
    scene.release(a, 100, 11);
    scene.op(a).removals[0].answered = None;
    scene.op(a).removals[0].did = false;
    scene.op(a).removals.push(Removal {
        called: at(700),
        answered: Some(at(710)),
        did: false,
    });
    scene.hold(op(2, 1), Exclusive, 110, 12);
    scene.breaks(&[]);
}

#[test]
fn an_acquire_whose_reply_was_lost_and_whose_process_died_leaves_an_entry_until_its_session_ends() {
    let mut scene = Scene::new();
    let a = scene.queue(op(1, 1), Exclusive, 0, 10);
    scene.op(a).placed = None;
    scene.op(a).died = Some(at(50));
    scene.expire(a, 2_500, 11);
    scene.queue(op(2, 1), Exclusive, 100, 9);
    scene.remove(op(2, 1), 110, 12);
    scene.hold(op(3, 1), Exclusive, 2_600, 13);
    scene.breaks(&[]);
}

#[test]
fn waiters_that_leave_let_the_next_one_through() {
    let mut scene = Scene::new();
    let holder = scene.hold(op(1, 1), Exclusive, 0, 10);
    let quitter = scene.queue(op(2, 1), Exclusive, 10, 11);
    let patient = scene.queue(op(3, 1), Exclusive, 20, 12);
    scene.op(quitter).outcome = Outcome::Cancelled(at(50));
    scene.remove(quitter, 51, 13);
    scene.release(holder, 100, 14);
    scene.grant(patient, 101);
    scene.release(patient, 200, 15);
    scene.breaks(&[]);
}

#[test]
fn readers_share_and_a_writer_has_the_lock_alone() {
    let mut scene = Scene::new();
    let first = scene.hold(op(1, 1), Shared, 0, 10);
    let second = scene.hold(op(2, 1), Shared, 5, 11);
    let writer = scene.queue(op(3, 1), Exclusive, 10, 12);
    scene.release(second, 100, 13);
    scene.release(first, 150, 14);
    scene.grant(writer, 151);
    let third = scene.queue(op(1, 2), Shared, 160, 15);
    scene.release(writer, 200, 16);
    scene.grant(third, 201);
    scene.release(third, 210, 17);
    scene.breaks(&[]);
}

/// The server granted the lock, but the process stood still. When it woke, its session was over.
#[test]
fn a_grant_that_comes_after_its_deadline_is_no_belief() {
    let mut scene = Scene::new();
    let a = scene.queue(op(1, 1), Exclusive, 0, 10);
    scene.fault(Target::Contender(1), 5, 8_000);
    scene.expire(a, 2_500, 11);
    let b = scene.hold(op(2, 1), Exclusive, 3_000, 12);
    scene.release(b, 3_100, 13);
    scene.op(a).outcome = Outcome::Granted(Token(10), at(8_000));
    scene.show(a, 8_001, None);
    scene.op(a).lost = vec![at(8_002)];
    scene.breaks(&[]);
}

#[test]
fn an_unrecorded_event_of_the_store_blames_no_client() {
    let mut scene = Scene::new();
    let a = scene.hold(op(1, 1), Exclusive, 0, 10);
    scene.op(a).release = Some(at(100));
    scene.entry(a).deleted = Some(Deletion {
        from: 11,
        to: 15,
        cause: Cause::Unknown,
        decided: None,
    });
    let b = scene.hold(op(2, 1), Exclusive, 120, 13);
    scene.release(b, 130, 14);
    scene.0.entries.pop();
    scene.0.gaps = vec![(11, 15)];
    let c = scene.hold(op(1, 2), Exclusive, 200, 16);
    scene.release(c, 210, 17);
    scene.breaks(&[]);
}

#[test]
fn a_session_that_is_cut_off_ends_all_its_entries_at_one_revision() {
    let mut scene = Scene::new();
    let holder = scene.hold(op(1, 1), Exclusive, 0, 10);
    let waiter = scene.queue(op(1, 2), Exclusive, 10, 11);
    scene.fault(Target::Contender(1), 20, 6_000);
    for id in [holder, waiter] {
        scene.delete(id, 12, Cause::Unknown);
    }
    scene.0.seen.push((12, at(2_300)));
    scene.op(holder).lost = vec![at(2_002)];
    scene.op(waiter).outcome = Outcome::Refused("SessionLost".into(), at(2_002));
    scene.breaks(&[]);
}

#[test]
fn a_server_that_ends_a_session_late_breaks_nothing() {
    let mut scene = Scene::new();
    let a = scene.hold(op(1, 1), Exclusive, 0, 10);
    scene.op(a).died = Some(at(100));
    scene.fault(Target::Member(0), 100, 20_000);
    scene.expire(a, 21_000, 11);
    scene.breaks(&[]);
}

#[test]
fn an_entry_made_anew_under_the_same_key_is_another_one() {
    let mut scene = Scene::new();
    for (number, called, revision) in [(1, 0, 10), (2, 200, 20)] {
        let id = scene.hold(op(1, number), Exclusive, called, revision);
        scene.entry(id).key = "a/1".into();
        scene.release(id, called + 100, revision + 1);
    }
    scene.breaks(&[]);
}

#[test]
fn a_run_that_ends_as_it_should() {
    let mut scene = Scene::new();
    let a = scene.hold(op(1, 1), Exclusive, 0, 10);
    let b = scene.queue(op(2, 1), Exclusive, 10, 11);
    let dead = scene.queue(op(3, 1), Exclusive, 20, 12);
    scene.op(dead).died = Some(at(500));
    scene.delete(dead, 13, Cause::Request(SessionId(3)));
    scene.op(dead).removals = vec![Removal {
        called: at(450),
        answered: None,
        did: false,
    }];
    scene.release(a, 1_500, 14);
    scene.grant(b, 1_501);
    scene.release(b, 1_600, 15);
    scene.0.end.healed = Some(at(1_000));
    scene.0.end.over = Some(at(2_000));
    scene.breaks(&[]);
}

#[test]
fn turns_with_one_place_share_its_token() {
    let mut scene = Scene::new();
    let place = scene.queue(op(1, 1), Exclusive, 0, 10);
    scene.turn(op(1, 2), place, 10, 20);
    scene.turn(op(1, 3), place, 25, 40);
    let waiter = scene.queue(op(2, 1), Exclusive, 30, 11);
    scene.release(place, 45, 12);
    scene.grant(waiter, 46);
    scene.release(waiter, 50, 13);
    for (id, token) in [(op(1, 2), 10), (op(1, 3), 10), (waiter, 11)] {
        scene.access(id, token + 20, token, true);
    }
    scene.breaks(&[]);
}
