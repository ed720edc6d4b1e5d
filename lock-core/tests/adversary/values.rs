//! Tests the values that only a holder can change.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use lock_core::{Effect, ErrorKind, LossReason, State};

use crate::session::Act;
use crate::{HOUR, eventually, mutex, mutex_of, script, soon};

#[tokio::test]
async fn a_put_is_retried_until_it_is_answered() {
    let script = script();
    let guard = mutex(&script).acquire().await.expect("granted");
    script.access.will(Act::FailTimes(3));
    guard.put("k", "v").await.expect("answered in the end");
    assert_eq!(script.access.count(), 4);
}

#[tokio::test]
async fn a_put_ends_with_the_lock_and_reports_an_unknown_effect() {
    let script = script();
    let locks = script.locks(HOUR);
    let lock = mutex_of(&locks);
    let guard = Arc::new(lock.acquire().await.expect("granted"));
    script.access.will(Act::Hang);
    let puts: Vec<_> = (0..3)
        .map(|_| {
            let guard = guard.clone();
            tokio::spawn(async move { guard.put("k", "v").await })
        })
        .collect();
    eventually("the first is sent", || script.access.count() > 0).await;
    locks.close().await.expect("closed");
    let mut effects = Vec::new();
    for put in puts {
        let error = soon("the put ends", put).await.expect("no panic");
        let error = error.expect_err("the lock is lost");
        assert_eq!(error.kind(), ErrorKind::SessionLost(LossReason::Closed));
        effects.push(error.effect());
    }
    assert_eq!(script.access.count(), 1, "one at a time");
    effects.sort_unstable_by_key(|effect| *effect == Effect::Unknown);
    assert_eq!(effects, [Effect::None, Effect::None, Effect::Unknown]);
}

#[tokio::test]
async fn a_put_that_finds_no_entry_marks_the_guard_lost() {
    let script = script();
    let guard = mutex(&script).acquire().await.expect("granted");
    script.gone.store(true, Ordering::SeqCst);
    for _ in 0..2 {
        let error = guard.put("k", "v").await.expect_err("not ours");
        assert_eq!(
            (error.kind(), error.effect()),
            (ErrorKind::Evicted, Effect::None)
        );
    }
    assert_eq!(guard.state(), State::Lost(LossReason::EntryGone));
    assert_eq!(script.access.count(), 1, "a lost guard asks nobody");
}

#[tokio::test]
async fn invalid_keys_and_values_are_refused_before_a_request_is_sent() {
    let script = script();
    let locks = script.locks(HOUR);
    let guard = mutex(&script).acquire().await.expect("granted");
    let shared = locks.rwlock("b").expect("a valid name").read().await;
    let shared = shared.expect("granted");
    let long = vec![0; lock_core::data::MAX_VALUE_BYTES + 1];
    let errors = [
        (guard.put("", "v").await, "it is empty"),
        (guard.put("k", long).await, "1000001 bytes"),
        (guard.delete("../k").await, "'..'"),
        (guard.get("k\n").await.map(drop), "control character"),
        (locks.get("a//b").await.map(drop), "segment is empty"),
    ];
    for (outcome, words) in errors {
        let error = outcome.expect_err(words);
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.to_string().contains(words), "{error}");
    }
    assert_eq!(script.access.count(), 0);
    shared.get("k").await.expect("readers read");
}
