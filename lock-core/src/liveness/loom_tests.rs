//! Every order of renewals, questions and losses. `tools/loom` runs these.

use std::sync::Arc;

use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;

use super::*;
use crate::sync::modelled::{Mutant, explore};

/// When the session ends unless it is renewed, in nanoseconds since boot.
const DEADLINE: u64 = 100;
const RENEWED: u64 = 200;

fn instant(nanos: u64) -> BootInstant {
    BootInstant::from_nanos(nanos)
}

/// A renewal is acknowledged while the clock passes the deadline, and one thread asks twice.
fn renew_at_the_deadline() {
    let word = Arc::new(Word::new(instant(DEADLINE)));
    let clock = Arc::new(AtomicU64::new(DEADLINE - 1));
    let now = |clock: &AtomicU64| instant(clock.load(Ordering::SeqCst));
    let time = thread::spawn({
        let clock = clock.clone();
        move || clock.store(DEADLINE, Ordering::SeqCst)
    });
    let renewer = thread::spawn({
        let (word, clock) = (word.clone(), clock.clone());
        move || {
            let moved = word.move_deadline(|| now(&clock), |old| old.max(instant(RENEWED)));
            moved.is_ok()
        }
    });
    let ask = || word.move_deadline(|| now(&clock), |same| same);
    let (first, second) = (ask(), ask());
    assert!(
        first.is_ok() || second.is_err(),
        "lost, and held after that"
    );
    let renewed = renewer.join().expect("no panic");
    time.join().expect("no panic");
    let last = ask();
    assert_eq!(last.is_ok(), renewed, "the renewal told the truth");
    assert!(second.is_ok() || last.is_err(), "lost, and held after that");
}

/// Two threads end the session, for reasons of their own, and a third renews it.
fn lose_twice() {
    let word = Arc::new(Word::new(instant(DEADLINE)));
    let lose = |reason| {
        let word = word.clone();
        thread::spawn(move || word.lose(reason))
    };
    let closed = lose(LossReason::Closed);
    let gone = lose(LossReason::SessionGone);
    let now = || instant(DEADLINE - 1);
    let renewed = word.move_deadline(now, |_| instant(RENEWED));
    let seen = word.move_deadline(now, |same| same);
    assert!(
        renewed.is_ok() || seen.is_err(),
        "lost, and held after that"
    );
    let firsts = [closed, gone].map(|thread| thread.join().expect("no panic"));
    assert_ne!(firsts[0], firsts[1], "one of them is the first");
    let first = match firsts[0] {
        true => LossReason::Closed,
        false => LossReason::SessionGone,
    };
    for loss in [seen, word.move_deadline(now, |same| same)] {
        let reason = loss.err().map(|loss| loss.reason);
        assert!(reason.is_none_or(|reason| reason == first), "{reason:?}");
    }
    let last = word.move_deadline(now, |same| same);
    assert!(last.is_err(), "lost for ever");
}

#[test]
fn a_loss_is_for_ever_whatever_a_renewal_does() {
    explore("renew at the deadline", None, renew_at_the_deadline);
}

#[test]
#[should_panic(expected = "lost, and held after that")]
fn a_renewal_that_compares_nothing_is_found() {
    let mutant = Some(Mutant::SwapsBlindly);
    explore("renew at the deadline", mutant, renew_at_the_deadline);
}

#[test]
fn the_first_reason_stays() {
    explore("lose twice", None, lose_twice);
}

#[test]
#[should_panic(expected = "one of them is the first")]
fn a_loss_that_compares_nothing_is_found() {
    explore("lose twice", Some(Mutant::SwapsBlindly), lose_twice);
}
