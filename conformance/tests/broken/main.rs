//! A backend that breaks a promise fails the cases that show it.

mod backend;
#[path = "../fixture/mod.rs"]
mod fixture;
#[path = "../small/mod.rs"]
mod small;

use std::sync::Arc;
use std::time::Duration;

use backend::{Broken, Promise};
use conformance::{Outcome, cases};
use fixture::Small;
use lock_core::session::Admission;
use lock_core::{ErrorKind, LockName, LossReason, Metadata, Mode, Ticket, rule};
use small::store::Store;
use small::{client, store};

/// What does not come in this time does not come: nothing here waits for a disk or a network.
const TIME_LIMIT: Duration = Duration::from_secs(4);

/// Runs these cases on the backend that breaks this promise. Each must fail there, and pass on the
/// backend that breaks none.
fn caught(promise: Promise, by: &[&str]) {
    for name in by {
        let case = cases().iter().find(|case| case.name() == *name);
        let case = case.unwrap_or_else(|| panic!("no case {name}"));
        let whole = case.run(&Small, TIME_LIMIT);
        assert!(matches!(whole, Outcome::Passed), "{name}: {whole:?}");
        let outcome = case.run(&Broken(promise), TIME_LIMIT);
        let Outcome::Failed(message) = outcome else {
            panic!("{promise:?} is broken, and {name}: {outcome:?}")
        };
        println!("{promise:?} is broken, and {name}: {message}");
    }
}

#[test]
fn two_holders_at_once() {
    caught(
        Promise::Exclusion,
        &[
            "exclusion::tasks_that_share_a_session_exclude_each_other",
            "exclusion::processes_exclude_each_other",
            "sharing::readers_and_writers_exclude_each_other",
        ],
    );
}

#[test]
fn the_last_is_served_first() {
    caught(Promise::Order, &["order::first_come_first_served"]);
}

#[test]
fn tokens_begin_anew() {
    caught(
        Promise::TokensRise,
        &[
            "tokens::tokens_rise_over_sessions",
            "tokens::tokens_rise_within_a_session",
        ],
    );
}

#[test]
fn a_retry_makes_a_second_entry() {
    caught(
        Promise::Idempotence,
        &["lost_replies::an_enqueue_tried_again_finds_its_own_entry"],
    );
}

#[test]
fn a_removal_goes_by_name_alone() {
    caught(
        Promise::Incarnations,
        &["lost_replies::an_old_removal_leaves_the_next_entry_alone"],
    );
}

#[test]
fn no_change_is_reported() {
    caught(
        Promise::WakeUps,
        &[
            "order::first_come_first_served",
            "loss::a_removed_entry_is_a_loss_for_the_holder",
            "lost_replies::a_removal_tried_again_finds_nothing",
        ],
    );
}

#[test]
fn nobody_is_reported_behind() {
    caught(
        Promise::Recalls,
        &[
            "sticky::whoever_queues_behind_a_kept_lock_is_served",
            "sticky::a_kept_lock_that_was_evicted_is_not_taken_again",
        ],
    );
}

#[test]
fn a_session_that_was_ended_comes_back() {
    caught(
        Promise::SessionEnds,
        &["loss::a_session_that_ended_is_lost_for_ever"],
    );
}

#[test]
fn a_closed_session_leaves_its_entries() {
    caught(
        Promise::Closing,
        &[
            "cancel::closing_ends_every_hold",
            "lost_replies::closing_twice_is_closing_once",
            "limits::a_session_holds_many_locks",
        ],
    );
}

#[test]
fn a_dropped_session_is_renewed() {
    caught(
        Promise::Abandonment,
        &["liveness::a_session_dropped_without_a_close_ends_with_its_time_to_live"],
    );
}

/// The session could end between a check of its own and the put.
#[test]
fn the_small_store_takes_no_entry_of_a_session_that_ended() {
    let store = Store::new();
    let session = store.open(Duration::ZERO);
    let ticket = Ticket {
        name: LockName::new("a").expect("a valid name"),
        mode: Mode::Exclusive,
        serial: 1,
        metadata: Arc::new(Metadata::default()),
    };
    let ask = rule::ask(Mode::Exclusive);
    let error = store.enqueue(session, &ticket, ask, Admission::Always);
    let error = error.expect_err("the session is over");
    let reason = LossReason::SessionGone;
    assert_eq!(error.kind(), ErrorKind::SessionLost(reason));
    assert_eq!(store.queue(&ticket.name), []);
}

#[test]
fn readers_pass_a_writer_behind_another_reader() {
    caught(
        Promise::Sharing,
        &[
            "sharing::a_batch_of_readers_starts_together",
            "sharing::readers_and_writers_exclude_each_other",
        ],
    );
}

#[test]
fn a_lock_is_held_by_those_below_it() {
    caught(
        Promise::Names,
        &[
            "names::names_that_begin_alike_are_different_locks",
            "names::nested_names_are_handed_over_apart",
        ],
    );
}

#[test]
fn a_raw_lock_is_the_native_one() {
    caught(
        Promise::RawNames,
        &["names::raw_and_native_names_are_different_locks"],
    );
}

#[test]
fn a_former_holder_still_writes() {
    caught(
        Promise::Writes,
        &[
            "writes::a_put_without_the_entry_changes_nothing",
            "writes::a_stale_put_never_follows_the_next_holders",
        ],
    );
}

#[test]
fn an_eviction_removes_a_later_entry() {
    caught(Promise::Eviction, &["evict::another_incarnation_stays"]);
}

#[test]
fn the_offset_is_raised_under_a_holder() {
    caught(
        Promise::TokenOffset,
        &["token_offset::the_offset_is_not_raised_under_locks_in_use"],
    );
}

#[test]
fn an_entry_speaks_for_another_incarnation() {
    caught(
        Promise::Metadata,
        &["listing::a_waiter_reads_what_the_entry_ahead_says"],
    );
}
