//! Tests bad histories, at least one for each rule, and that the right rule finds each.

use std::time::Duration;

use lock_core::Mode::{Exclusive, Shared};
use lock_core::{SessionId, Token};

use super::scene::{Scene, TTL, at, op};
use crate::checker::{Blame, Rule};
use crate::history::{Cause, Deletion, Outcome, Removal, Target};

/// A deletion at an unknown time.
const UNKNOWN: Deletion = Deletion {
    from: 0,
    to: u64::MAX,
    cause: Cause::Unknown,
    decided: None,
};

/// Makes a history in which A holds until 100 and releases, and B queues behind A.
fn holder_and_waiter() -> Scene {
    let mut scene = Scene::new();
    let a = scene.hold(op(1, 1), Exclusive, 0, 10);
    scene.queue(op(2, 1), Exclusive, 20, 11);
    scene.release(a, 100, 12);
    scene
}

/// Makes a history in which A holds and releases.
fn holder() -> Scene {
    let mut scene = Scene::new();
    let a = scene.hold(op(1, 1), Exclusive, 0, 10);
    scene.release(a, 100, 12);
    scene
}

// S1: grants.

#[test]
fn granted_while_the_one_before_held() {
    let mut scene = holder_and_waiter();
    scene.op(op(1, 1)).shown.clear();
    scene.grant(op(2, 1), 99);
    scene.breaks(&[Rule::S1]);
}

#[test]
fn granted_while_the_one_before_held_and_believed_so() {
    let mut scene = holder_and_waiter();
    scene.grant(op(2, 1), 99);
    scene.breaks(&[Rule::S1, Rule::B1]);
}

/// etcd#9921: the waiter's lease expired while it waited.
#[test]
fn granted_after_its_own_entry_had_gone() {
    let mut scene = holder_and_waiter();
    scene.expire(op(2, 1), 5_000, 12);
    scene.grant(op(2, 1), 2_700);
    scene.op(op(2, 1)).shown.clear();
    scene.breaks(&[Rule::S1]);
}

#[test]
fn a_reader_granted_beside_a_writer() {
    let mut scene = Scene::new();
    let writer = scene.hold(op(1, 1), Exclusive, 0, 10);
    scene.op(writer).shown.clear();
    scene.hold(op(2, 1), Shared, 20, 11);
    scene.release(writer, 100, 12);
    scene.breaks(&[Rule::S1]);
}

#[test]
fn a_writer_granted_beside_a_reader_that_came_earlier() {
    let mut scene = Scene::new();
    let first = scene.hold(op(1, 1), Shared, 0, 10);
    let second = scene.hold(op(2, 1), Shared, 10, 11);
    scene.queue(op(3, 1), Exclusive, 20, 12);
    scene.release(second, 50, 13);
    scene.grant(op(3, 1), 60);
    scene.release(first, 100, 14);
    scene.op(first).shown.clear();
    scene.breaks(&[Rule::S1]);
}

#[test]
fn granted_although_the_one_before_never_went() {
    let mut scene = Scene::new();
    let a = scene.hold(op(1, 1), Exclusive, 0, 10);
    scene.op(a).shown.clear();
    scene.hold(op(2, 1), Exclusive, 5_000, 11);
    scene.breaks(&[Rule::S1]);
}

// S2: tokens.

#[test]
fn a_token_of_no_entry() {
    let mut scene = holder();
    scene.op(op(1, 1)).outcome = Outcome::Granted(Token(9), at(3));
    scene.breaks(&[Rule::S2]);
}

/// CURATOR-604: the recipe takes its old session's node for its own.
#[test]
fn a_token_of_an_entry_of_an_old_session() {
    let mut scene = holder();
    scene.op(op(1, 1)).asked = vec![(SessionId(77), at(0))];
    scene.breaks(&[Rule::S2]);
}

#[test]
fn a_token_of_another_acquires_entry() {
    let mut scene = holder_and_waiter();
    scene.op(op(2, 1)).outcome = Outcome::Granted(Token(10), at(110));
    scene.breaks(&[Rule::S2]);
}

/// etcd's website#710: a lock `a` that counts the keys of `a/b`.
#[test]
fn a_token_of_another_locks_entry() {
    let mut scene = holder();
    scene.entry(op(1, 1)).lock = "a/b".into();
    scene.breaks(&[Rule::S2]);
}

#[test]
fn a_writers_grant_by_a_readers_entry() {
    let mut scene = holder();
    scene.entry(op(1, 1)).mode = Shared;
    scene.breaks(&[Rule::S2]);
}

/// ZooKeeper's sequence number, which starts again with its parent, is no token.
#[test]
fn tokens_that_start_again() {
    let mut scene = Scene::new();
    for (contender, called, revision) in [(1, 0, 20), (2, 500, 10)] {
        let id = scene.hold(op(contender, 1), Shared, called, revision);
        scene.op(id).placed = None;
    }
    // By the server's record the first was granted before the second's revision, which is lower.
    scene.breaks(&[Rule::S1, Rule::S2]);
}

// S3: deletions.

/// etcd#22082: a retried unlock deletes the session's next entry.
#[test]
fn removed_without_being_asked_while_its_session_lives() {
    let mut scene = Scene::new();
    let a = scene.hold(op(1, 1), Exclusive, 0, 10);
    scene.op(a).shown.clear();
    scene.delete(a, 11, Cause::Unknown);
    let next = scene.hold(op(1, 2), Exclusive, 50, 12);
    scene.release(next, 60, 13);
    scene.breaks(&[Rule::S3]);
}

/// zk-ruby#34: the old holder deletes the new one's node.
#[test]
fn removed_by_another_session() {
    let mut scene = Scene::new();
    let a = scene.hold(op(1, 1), Exclusive, 0, 10);
    scene.delete(a, 11, Cause::Request(SessionId(2)));
    scene.breaks(&[Rule::S3]);
}

#[test]
fn removed_before_it_asked_for_it() {
    let mut scene = holder();
    scene.entry(op(1, 1)).deleted = Some(Deletion {
        from: 12,
        to: 12,
        cause: Cause::Request(SessionId(1)),
        decided: None,
    });
    scene.0.seen.push((12, at(50)));
    scene.breaks(&[Rule::S3]);
}

// S4: one entry a request.

/// CURATOR-45: the create succeeded, its reply was lost, and it was sent again.
#[test]
fn a_ghost_of_a_retried_request() {
    let mut scene = holder();
    let mut ghost = scene.entry(op(1, 1)).clone();
    (ghost.created, ghost.token) = (11, Token(11));
    let end = ghost.deleted.as_mut().expect("released");
    (end.from, end.to) = (13, 13);
    scene.0.entries.push(ghost);
    scene.breaks(&[Rule::S4]);
}

/// kazoo#732: a `try` leaves its node.
#[test]
fn an_entry_that_outlives_its_refused_request() {
    let mut scene = Scene::new();
    let a = scene.queue(op(1, 1), Exclusive, 0, 10);
    scene.op(a).outcome = Outcome::Refused("others have it".into(), at(10));
    let far = scene.hold(op(2, 1), Shared, 60_000, 11);
    scene.release(far, 60_010, 12);
    scene.entry(far).lock = "b".into();
    scene.op(far).lock = "b".into();
    scene.remove(a, 60_020, 13);
    scene.breaks(&[Rule::S4]);
}

/// zk-ruby#51: a waiter that timed out leaves its node, and its session lives on.
#[test]
fn an_entry_that_is_never_removed_after_a_cancel() {
    let mut scene = Scene::new();
    let a = scene.queue(op(1, 1), Exclusive, 0, 10);
    scene.op(a).outcome = Outcome::Cancelled(at(10));
    scene.0.end.over = Some(at(60_000));
    scene.breaks(&[Rule::S4]);
}

#[test]
fn an_entry_that_comes_after_its_removal_succeeded() {
    let mut scene = Scene::new();
    let a = scene.queue(op(1, 1), Exclusive, 0, 10);
    scene.op(a).placed = None;
    scene.op(a).outcome = Outcome::Cancelled(at(10));
    scene.op(a).removals = vec![Removal {
        called: at(11),
        answered: Some(at(15)),
        did: false,
    }];
    let other = scene.hold(op(2, 1), Exclusive, 100, 9);
    scene.release(other, 110, 11);
    scene.remove(a, 200, 12);
    scene.breaks(&[Rule::S4]);
}

// S5: the order of arrival.

#[test]
fn a_waiter_is_overtaken() {
    let mut scene = holder_and_waiter();
    scene.queue(op(3, 1), Exclusive, 30, 13);
    scene.entry(op(1, 1)).deleted = None;
    scene.release(op(1, 1), 100, 14);
    scene.grant(op(3, 1), 110);
    scene.remove(op(2, 1), 200, 15);
    scene.breaks(&[Rule::S5]);
}

#[test]
fn a_waiting_writer_is_overtaken_by_a_reader() {
    let mut scene = Scene::new();
    let reader = scene.hold(op(1, 1), Shared, 0, 10);
    let writer = scene.queue(op(2, 1), Exclusive, 10, 11);
    let late = scene.hold(op(3, 1), Shared, 20, 12);
    scene.release(late, 30, 13);
    scene.release(reader, 40, 14);
    scene.remove(writer, 200, 15);
    scene.breaks(&[Rule::S5]);
}

// S6: what was acknowledged.

#[test]
fn an_acknowledged_entry_that_was_forgotten() {
    let mut scene = holder();
    let b = scene.queue(op(2, 1), Exclusive, 200, 14);
    scene.op(b).outcome = Outcome::Cancelled(at(300));
    scene.0.entries.pop();
    assert_eq!(scene.verdict(), [(Rule::S6, Blame::Server)]);
    scene.0.store.ours = true;
    scene.breaks(&[Rule::S6]);
}

#[test]
fn revisions_that_fall_over_a_restart() {
    let mut scene = Scene::new();
    scene.0.store.ours = true;
    for (number, called, revision) in [(1, 0, 20), (2, 500, 18)] {
        let id = scene.queue(op(number, 1), Shared, called, revision);
        scene.op(id).outcome = Outcome::Cancelled(at(called + 5));
        scene.expire(id, 3_000, 30 + revision);
    }
    scene.breaks(&[Rule::S6]);
}

// S7: leases.

/// Makes a history with a session that was renewed at 500 and is over at 1,000.
fn cut_short() -> Scene {
    let mut scene = Scene::new();
    let a = scene.hold(op(1, 1), Exclusive, 0, 10);
    scene.show(a, 600, Some(500 + TTL));
    scene.expire(a, 1_000, 11);
    scene
}

#[test]
fn a_session_that_ends_early_on_servers_that_nothing_was_done_to() {
    cut_short().breaks(&[Rule::S7]);
}

/// etcd#15247: a leader that was paused revokes the leases that others have renewed.
#[test]
fn a_session_that_ends_early_after_its_leader_was_paused() {
    let mut scene = cut_short();
    scene.fault(Target::Member(0), 300, 900);
    assert_eq!(scene.verdict(), [(Rule::S7, Blame::Server)]);
}

#[test]
fn a_session_that_ends_early_after_our_own_coordinator_was_paused() {
    let mut scene = cut_short();
    scene.0.store.ours = true;
    scene.fault(Target::Member(0), 300, 900);
    scene.breaks(&[Rule::S7]);
}

#[test]
fn a_session_that_its_server_says_it_ended_early() {
    let mut scene = cut_short();
    scene.0.seen.clear();
    scene.op(op(1, 1)).removals.push(Removal {
        called: at(9_000),
        answered: None,
        did: false,
    });
    let deletion = scene.entry(op(1, 1)).deleted.as_mut();
    deletion.expect("expired").decided = Some(at(2_000));
    scene.breaks(&[Rule::S7]);
}

// R1: the resource.

#[test]
fn a_stale_token_is_let_in() {
    let mut scene = holder_and_waiter();
    scene.grant(op(2, 1), 110);
    scene.access(op(1, 1), 50, 10, true);
    scene.access(op(2, 1), 120, 11, true);
    scene.access(op(1, 1), 130, 10, true);
    scene.breaks(&[Rule::R1]);
}

#[test]
fn a_good_token_is_refused() {
    let mut scene = holder_and_waiter();
    scene.grant(op(2, 1), 110);
    scene.access(op(1, 1), 50, 10, true);
    scene.access(op(2, 1), 120, 11, false);
    scene.breaks(&[Rule::R1]);
}

#[test]
fn a_token_is_let_in_that_was_never_granted() {
    let mut scene = holder_and_waiter();
    scene.access(op(2, 1), 50, 11, true);
    scene.breaks(&[Rule::R1]);
}

#[test]
fn a_reader_is_let_in_to_write() {
    let mut scene = Scene::new();
    let reader = scene.hold(op(1, 1), Shared, 0, 10);
    scene.access(reader, 10, 10, true);
    scene.breaks(&[Rule::R1]);
}

// B1: belief.

/// Makes a history with two holders, as with a deadline that counts from the reply to a renewal, or
/// with servers that break their contract.
fn two_believers() -> Scene {
    let mut scene = Scene::new();
    let a = scene.hold(op(1, 1), Exclusive, 0, 10);
    scene.show(a, 900, Some(3_500));
    scene.expire(a, 2_000, 11);
    scene.hold(op(2, 1), Exclusive, 2_010, 12);
    scene
}

#[test]
fn a_deadline_beyond_the_next_ones_grant() {
    two_believers().breaks(&[Rule::S7, Rule::B1]);
}

#[test]
fn a_deadline_beyond_the_next_ones_grant_that_the_server_is_to_blame_for() {
    let mut scene = two_believers();
    scene.fault(Target::Member(1), 1_000, 1_900);
    let server = [(Rule::S7, Blame::Server), (Rule::B1, Blame::Server)];
    assert_eq!(scene.verdict(), server);
}

#[test]
fn a_holder_whose_entry_was_removed_believes_on() {
    let mut scene = Scene::new();
    let a = scene.hold(op(1, 1), Exclusive, 0, 10);
    scene.delete(a, 11, Cause::Request(SessionId(2)));
    scene.hold(op(2, 1), Exclusive, 50, 12);
    scene.breaks(&[Rule::S3, Rule::B1]);
}

#[test]
fn a_reader_believes_while_a_writer_holds() {
    let mut scene = two_believers();
    scene.op(op(1, 1)).mode = Shared;
    scene.entry(op(1, 1)).mode = Shared;
    scene.breaks(&[Rule::S7, Rule::B1]);
}

/// A hold between the two shows the violation, although it did not last.
#[test]
fn a_reader_is_granted_before_the_readers_that_a_writer_waited_for_were_done() {
    let mut scene = Scene::new();
    let first = scene.hold(op(1, 1), Shared, 0, 10);
    let writer = scene.queue(op(2, 1), Exclusive, 10, 11);
    scene.op(writer).outcome = Outcome::Granted(Token(11), at(900));
    let late = scene.hold(op(3, 1), Shared, 20, 12);
    for id in [first, writer, late] {
        scene.op(id).release = Some(at(800));
        scene.entry(id).deleted = Some(UNKNOWN);
    }
    scene.breaks(&[Rule::B1]);
}

// B2: losses.

#[test]
fn a_loss_is_reported_twice() {
    let mut scene = cut_short();
    scene.op(op(1, 1)).shown.clear();
    scene.op(op(1, 1)).lost = vec![at(1_010), at(1_020)];
    scene.breaks(&[Rule::B2]);
}

/// redis-semaphore#175: a renewal that finds the lock gone makes it anew.
#[test]
fn a_lost_lock_is_valid_again() {
    let mut scene = cut_short();
    scene.op(op(1, 1)).shown.clear();
    scene.op(op(1, 1)).lost = vec![at(700)];
    scene.show(op(1, 1), 800, Some(900));
    scene.breaks(&[Rule::B2]);
}

#[test]
fn a_lock_that_was_said_to_be_lost_is_valid_again() {
    let mut scene = holder();
    scene.show(op(1, 1), 50, None);
    scene.show(op(1, 1), 60, Some(1_000));
    scene.breaks(&[Rule::B2]);
}

/// CURATOR-206: the holder does not learn that its session is over.
#[test]
fn a_holder_never_learns_of_its_loss() {
    let mut scene = cut_short();
    scene.op(op(1, 1)).shown.clear();
    scene.op(op(1, 1)).release = Some(at(60_000));
    scene.breaks(&[Rule::B2]);
}

// B3: validity.

#[test]
fn valid_after_the_deadline() {
    let mut scene = holder();
    scene.show(op(1, 1), 90, Some(89));
    scene.breaks(&[Rule::B3]);
}

#[test]
fn valid_at_the_deadline() {
    let mut scene = holder();
    scene.show(op(1, 1), 90, Some(90));
    scene.breaks(&[Rule::B3]);
}

// L1: the end.

/// Sets the end of a history's faults to 1,000.
fn healed(mut scene: Scene) -> Scene {
    scene.0.end.healed = Some(at(1_000));
    scene.0.end.over = Some(at(40_000));
    scene
}

/// etcd#14641 and kazoo#282: a waiter hangs for ever.
#[test]
fn a_waiter_that_is_never_served() {
    let mut scene = holder_and_waiter();
    scene.expire(op(2, 1), 30_000, 13);
    healed(scene).breaks(&[Rule::L1]);
}

#[test]
fn a_waiter_that_is_served_far_too_late() {
    let mut scene = holder_and_waiter();
    scene.grant(op(2, 1), 30_000);
    scene.release(op(2, 1), 30_010, 13);
    healed(scene).breaks(&[Rule::L1]);
}

#[test]
fn a_holder_that_never_ends() {
    let mut scene = holder_and_waiter();
    scene.grant(op(2, 1), 110);
    scene.op(op(2, 1)).shown.clear();
    scene.expire(op(2, 1), 39_999, 13);
    healed(scene).breaks(&[Rule::L1]);
}

#[test]
fn an_entry_that_is_left_behind() {
    let mut scene = holder_and_waiter();
    scene.op(op(2, 1)).outcome = Outcome::Refused("no answer".into(), at(39_000));
    healed(scene).breaks(&[Rule::L1]);
}

// L2: handoffs.

/// Makes a history in which A goes at 100, and B is told of its turn at this time. The limit is 3 s.
fn told_of_its_turn(when: u64) -> Scene {
    let mut scene = holder_and_waiter();
    scene.0.store.handoff = Some(Duration::from_secs(3));
    scene.grant(op(2, 1), when);
    scene.release(op(2, 1), when + 10, 13);
    scene
}

/// CURATOR-527: the event was lost, and the waiter has to look by itself.
#[test]
fn a_waiter_hears_late_of_its_turn() {
    told_of_its_turn(5_100).breaks(&[Rule::L2]);
}

#[test]
fn a_waiter_hears_late_of_its_turn_when_a_fault_is_over() {
    for (when, broken) in [(5_100, vec![]), (6_100, vec![Rule::L2])] {
        let mut scene = told_of_its_turn(when);
        scene.fault(Target::Contender(2), 50, 1_000);
        scene.breaks(&broken);
    }
}

#[test]
fn a_reader_hears_late_of_its_turn_while_others_read() {
    let mut scene = Scene::new();
    scene.0.store.handoff = Some(Duration::from_secs(3));
    let first = scene.hold(op(1, 1), Shared, 0, 10);
    let second = scene.queue(op(2, 1), Shared, 10, 11);
    scene.grant(second, 5_100);
    for (id, revision) in [(first, 12), (second, 13)] {
        scene.release(id, 5_200, revision);
    }
    scene.breaks(&[Rule::L2]);
}
