//! Every order of the end of a hold and of waits for it. `tools/loom` runs these.

use std::future::pending;

use loom::future::block_on;
use loom::thread;

use super::*;
use crate::sync::modelled::{Mutant, explore};

/// A hold ends while a first wait for its end begins.
fn end_and_wait() {
    let hold = Hold::sample(1);
    let ender = thread::spawn({
        let hold = hold.clone();
        move || hold.end(HoldEnd::Released)
    });
    block_on(hold.wait_for_end());
    assert!(hold.is_over());
    ender.join().expect("no panic");
}

/// A hold ends while the janitor begins to watch its entry.
fn end_and_watch() {
    let hold = Hold::sample(1);
    let ender = thread::spawn({
        let hold = hold.clone();
        move || hold.end(HoldEnd::Released)
    });
    let watch = Box::pin(pending::<()>());
    assert_eq!(block_on(hold.watch_until_end(watch)), None);
    ender.join().expect("no panic");
}

/// A hold ends for two reasons at once, while somebody waits.
fn end_twice() {
    let hold = Hold::sample(1);
    let loser = thread::spawn({
        let hold = hold.clone();
        move || hold.lose(LossReason::EntryGone)
    });
    let releaser = thread::spawn({
        let hold = hold.clone();
        move || hold.end(HoldEnd::Released)
    });
    block_on(hold.wait_for_end());
    let seen = hold.loss();
    let lost = loser.join().expect("no panic");
    let ended = releaser.join().expect("no panic");
    assert_eq!(hold.loss(), seen, "the first reason stays");
    match ended {
        HoldEnd::Released => assert_eq!((seen, lost), (None, LossReason::Closed)),
        HoldEnd::Lost(reason) => assert_eq!((seen, lost), (Some(reason), reason)),
        other => panic!("nobody ended it as {other:?}"),
    }
}

#[test]
fn a_wait_and_the_end_never_miss_each_other() {
    explore("end and wait", None, end_and_wait);
}

#[test]
#[should_panic(expected = "deadlock")]
fn an_end_without_fences_is_found() {
    explore("end and wait", Some(Mutant::NoFences), end_and_wait);
}

#[test]
fn a_watch_and_the_end_never_miss_each_other() {
    explore("end and watch", None, end_and_watch);
}

#[test]
fn of_two_ends_the_first_stays() {
    explore("end twice", None, end_twice);
}
