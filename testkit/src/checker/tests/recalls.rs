//! Histories of sticky locks that break a rule.

use lock_core::Mode::Exclusive;

use super::scene::{Scene, at, op};
use crate::checker::Rule;
use crate::history::Outcome;

/// Makes a history in which a place has a turn from 10 to 20, and B queues behind it at 30. The place
/// is given up at this time.
fn given_up_at(when: u64) -> Scene {
    let mut scene = Scene::new();
    let place = scene.queue(op(1, 1), Exclusive, 0, 10);
    scene.turn(op(1, 2), place, 10, 20);
    let waiter = scene.queue(op(2, 1), Exclusive, 30, 11);
    scene.release(place, when, 12);
    scene.grant(waiter, when + 10);
    scene.release(waiter, when + 20, 13);
    scene
}

#[test]
fn a_place_stays_though_nobody_uses_it() {
    given_up_at(29_500).breaks(&[Rule::F1]);
    // Whether or not somebody waits.
    let mut scene = Scene::new();
    let place = scene.queue(op(1, 1), Exclusive, 0, 10);
    scene.turn(op(1, 2), place, 10, 20);
    scene.release(place, 32_000, 12);
    scene.breaks(&[Rule::F1]);
}

#[test]
fn a_turn_begins_long_after_others_have_queued() {
    let mut scene = given_up_at(29_500);
    scene.turn(op(1, 3), op(1, 1), 28_000, 29_400);
    scene.breaks(&[Rule::F1]);
}

#[test]
fn a_turn_begins_long_after_others_have_queued_of_whom_the_first_gave_up() {
    let mut scene = Scene::new();
    let place = scene.queue(op(1, 1), Exclusive, 0, 10);
    scene.turn(op(1, 2), place, 10, 20);
    let first = scene.queue(op(2, 1), Exclusive, 30, 11);
    let second = scene.queue(op(3, 1), Exclusive, 40, 12);
    scene.op(first).outcome = Outcome::Cancelled(at(50));
    scene.remove(first, 50, 13);
    scene.turn(op(1, 3), place, 28_000, 29_400);
    scene.release(place, 29_500, 14);
    scene.grant(second, 29_510);
    scene.release(second, 29_520, 15);
    scene.breaks(&[Rule::F1]);
}

#[test]
fn a_place_is_held_by_another_process() {
    let mut scene = given_up_at(100);
    scene.turn(op(3, 1), op(1, 1), 40, 50);
    scene.breaks(&[Rule::S2]);
}

#[test]
fn two_turns_at_once() {
    let mut scene = given_up_at(100);
    scene.turn(op(1, 3), op(1, 1), 15, 60);
    scene.breaks(&[Rule::B1]);
}

#[test]
fn a_turn_after_its_place_was_given_up() {
    let mut scene = given_up_at(100);
    scene.turn(op(1, 3), op(1, 1), 105, 109);
    scene.breaks(&[Rule::F1]);
    let mut scene = given_up_at(100);
    scene.turn(op(1, 3), op(1, 1), 105, 115);
    scene.breaks(&[Rule::B1, Rule::F1]);
}
