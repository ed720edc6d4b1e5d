//! Tests O1 and O2 with good and bad histories of the token offset.

use lock_core::Mode::Exclusive;
use lock_core::Token;

use super::scene::{Scene, at, op};
use crate::checker::Rule;
use crate::history::Outcome;

/// A raise whose reply was lost has raised the offset, and a lower one finds it so.
#[test]
fn tokens_go_on_above_a_raised_offset() {
    let mut scene = Scene::new();
    let a = scene.hold(op(1, 1), Exclusive, 0, 10);
    scene.release(a, 50, 11);
    scene.raise(op(3, 1), 100, 1_000);
    scene.0.raises[0].raised = None;
    scene.0.offsets = vec![(12, 1_000)];
    scene.raise(op(3, 2), 200, 500);
    scene.0.raises[1].raised = Some((1_000, at(202)));
    let b = scene.hold(op(2, 1), Exclusive, 300, 13);
    scene.add_offset(b, 1_000);
    scene.release(b, 350, 14);
    // The store has no record of this one.
    let forgotten = scene.hold(op(1, 2), Exclusive, 400, 15);
    scene.add_offset(forgotten, 1_000);
    scene.op(forgotten).release = Some(at(410));
    scene.0.entries.pop();
    scene.0.gaps = vec![(15, 16)];
    scene.breaks(&[]);
}

/// Makes a history in which A held, somebody raised the offset, and B held after that.
fn raised() -> Scene {
    let mut scene = Scene::new();
    let a = scene.hold(op(1, 1), Exclusive, 0, 10);
    scene.release(a, 100, 12);
    scene.raise(op(3, 1), 200, 1_000);
    scene.0.offsets = vec![(13, 1_000)];
    let b = scene.hold(op(2, 1), Exclusive, 300, 14);
    scene.add_offset(b, 1_000);
    scene.release(b, 350, 15);
    scene
}

#[test]
fn a_token_is_not_above_an_offset_that_was_acknowledged() {
    let mut scene = raised();
    scene.0.offsets.clear();
    let b = scene.entry(op(2, 1));
    b.token = Token(14);
    scene.add_offset(op(2, 1), 0);
    scene.breaks(&[Rule::O1]);
}

#[test]
fn a_client_goes_on_with_an_old_offset() {
    let mut scene = raised();
    let token = Token(14);
    scene.op(op(2, 1)).placed = Some((token, at(302)));
    scene.op(op(2, 1)).outcome = Outcome::Granted(token, at(303));
    scene.0.store.ours = true;
    scene.breaks(&[Rule::S2, Rule::S6, Rule::O1]);
}

#[test]
fn an_offset_falls() {
    let mut scene = raised();
    scene.raise(op(3, 2), 400, 500);
    scene.breaks(&[Rule::O1]);
    scene.0.raises[1].raised = None;
    scene.0.offsets.push((16, 500));
    scene.breaks(&[Rule::O1]);
}

#[test]
fn an_offset_is_not_what_was_asked_for() {
    for told in [999, 2_000] {
        let mut scene = raised();
        scene.0.raises[0].raised = Some((told, at(202)));
        // Tokens are judged by another test.
        scene.op(op(2, 1)).placed = None;
        scene.breaks(&[Rule::O2]);
    }
}

#[test]
fn an_offset_is_raised_while_a_lock_is_held() {
    let mut scene = raised();
    scene.0.offsets = vec![(11, 1_000)];
    scene.breaks(&[Rule::O2]);
}
