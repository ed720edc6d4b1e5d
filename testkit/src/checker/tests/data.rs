//! Tests D1 with good and bad histories of the values of holders.

use lock_core::Mode::{Exclusive, Shared};

use super::scene::{Scene, TTL, at, op};
use crate::checker::Rule;
use crate::history::DataAnswer::{Done, Failed, InDoubt};
use crate::history::DataRequest;

#[test]
fn holders_read_what_those_before_them_left() {
    let mut scene = Scene::new();
    let a = scene.hold(op(1, 1), Exclusive, 0, 10);
    scene.get(a, None);
    scene.put(a, "1", Done(None));
    scene.get(a, Some("1"));
    scene.release(a, 50, 11);
    let reader = scene.hold(op(2, 1), Shared, 100, 12);
    scene.get(reader, Some("1"));
    scene.release(reader, 150, 13);
    let b = scene.hold(op(3, 1), Exclusive, 200, 14);
    scene.data(b, DataRequest::Delete, Done(None));
    scene.put(b, "2", Failed);
    scene.get(b, None);
    scene.release(b, 250, 15);
    scene.breaks(&[]);
}

/// The reply to the first change is lost. A read settles that it was made, and a second change in
/// doubt was not made: its holder is killed.
#[test]
fn a_change_in_doubt_may_have_been_made_or_not() {
    for left in ["1", "2"] {
        let mut scene = Scene::new();
        let a = scene.hold(op(1, 1), Exclusive, 0, 10);
        scene.put(a, "1", InDoubt);
        scene.get(a, Some("1"));
        scene.put(a, "2", InDoubt);
        scene.op(a).died = Some(at(50));
        scene.expire(a, TTL + 10, 11);
        let b = scene.hold(op(2, 1), Exclusive, 3_000, 12);
        scene.get(b, Some(left));
        scene.release(b, 3_050, 13);
        scene.breaks(&[]);
    }
}

/// Makes a history in which A sets "1" and then "2", and B holds after A.
fn two_changes() -> Scene {
    let mut scene = Scene::new();
    let a = scene.hold(op(1, 1), Exclusive, 0, 10);
    scene.put(a, "1", Done(None));
    scene.put(a, "2", Done(None));
    scene.release(a, 50, 11);
    let b = scene.hold(op(2, 1), Exclusive, 100, 12);
    scene.release(b, 150, 13);
    scene
}

#[test]
fn a_change_that_was_acknowledged_is_forgotten() {
    let mut scene = two_changes();
    scene.get(op(2, 1), Some("1"));
    scene.breaks(&[Rule::D1]);
}

#[test]
fn a_removed_value_is_read() {
    let mut scene = two_changes();
    scene.data(op(1, 1), DataRequest::Delete, Done(None));
    scene.get(op(1, 1), Some("2"));
    scene.breaks(&[Rule::D1]);
}

/// A holder that was paused sets a value after it has lost the lock.
#[test]
fn a_change_of_an_earlier_hold_comes_late() {
    let mut scene = two_changes();
    scene.put(op(1, 1), "3", InDoubt);
    scene.put(op(2, 1), "4", Done(None));
    scene.get(op(2, 1), Some("3"));
    scene.breaks(&[Rule::D1]);
}

/// A late copy of a request comes after a later request of the same hold.
#[test]
fn a_change_in_doubt_comes_after_a_later_read() {
    let mut scene = two_changes();
    scene.put(op(2, 1), "3", InDoubt);
    scene.get(op(2, 1), Some("2"));
    scene.get(op(2, 1), Some("3"));
    scene.breaks(&[Rule::D1]);
}

#[test]
fn a_change_was_made_although_it_is_said_to_have_failed() {
    let mut scene = two_changes();
    scene.put(op(2, 1), "3", Failed);
    scene.get(op(2, 1), Some("3"));
    scene.breaks(&[Rule::D1]);
}
