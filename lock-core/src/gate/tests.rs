//! Tests the gate on instants that a test chooses, and its outcomes on the real clock.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use futures_util::FutureExt;

use super::breaker::FAILURES;
use super::*;
use crate::backoff::Backoff;
use crate::error::LossReason;

const LONGEST_PAUSE: Duration = Duration::from_secs(3);

fn start() -> BootInstant {
    BootInstant::from_nanos(1_000_000_000)
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn unreachable() -> Error {
    Error::new(ErrorKind::Unreachable, "no route")
}

/// Returns a gate's parts with a breaker alone.
fn closed_breaker() -> Parts {
    Parts {
        breaker: Some(Breaker::default()),
        ..Parts::default()
    }
}

/// Returns a breaker that opened at [`start`].
fn open_breaker() -> Parts {
    let mut parts = closed_breaker();
    for failure in 1..=FAILURES {
        let changed = note(&mut parts, Answer::Missing(&unreachable()), None, start());
        let is_open = matches!(changed, Some(Change::Opened { .. }));
        assert_eq!(is_open, failure == FAILURES, "{failure}");
    }
    parts
}

fn note(
    parts: &mut Parts,
    answer: Answer<'_>,
    probe: Option<Probe>,
    now: BootInstant,
) -> Option<Change> {
    parts.note(answer, Tally::Neither, probe, now)
}

/// Returns how long an open breaker lets nobody pass, and why.
fn check(parts: &Parts, now: BootInstant) -> Result<(), Open> {
    parts.breaker.as_ref().expect("a breaker").check(now)
}

/// Returns the probe that an open breaker lets pass after its pause.
fn probe(parts: &mut Parts, now: BootInstant) -> Probe {
    let passed = parts.enter(Try::First, now);
    passed.expect("after the pause").expect("open")
}

#[test]
fn only_failures_in_a_row_open_the_breaker() {
    let mut parts = closed_breaker();
    for _ in 0..10 {
        for _ in 1..FAILURES {
            let changed = note(&mut parts, Answer::Missing(&unreachable()), None, start());
            assert!(changed.is_none(), "{changed:?}");
            note(&mut parts, Answer::Unknown, None, start());
        }
        let passed = parts.enter(Try::First, start());
        assert!(passed.expect("closed").is_none());
        note(&mut parts, Answer::Came, None, start());
        assert!(parts.is_calm());
    }
    let open = check(&open_breaker(), start()).expect_err("open");
    assert!(open.rest <= Duration::from_millis(100), "{:?}", open.rest);
    assert_eq!(open.cause.to_string(), "no route");
}

#[test]
fn one_of_a_hundred_is_the_probe_and_its_answer_lets_all_pass() {
    let mut parts = open_breaker();
    let now = start() + seconds(1);
    let passed = (0..100).filter_map(|_| parts.enter(Try::First, now).ok());
    let passed: Vec<_> = passed.collect();
    let [Some(probe)] = passed[..] else {
        panic!("{passed:?}");
    };
    let changed = note(&mut parts, Answer::Came, Some(probe), now);
    assert!(matches!(changed, Some(Change::Closed)), "{changed:?}");
    let passed = parts.enter(Try::First, now);
    assert!(passed.expect("closed").is_none());
}

#[test]
fn a_probe_that_fails_opens_it_again_for_longer_up_to_a_bound() {
    let mut parts = open_breaker();
    let mut now = start();
    let mut longest = Duration::ZERO;
    for _ in 0..200 {
        let rest = check(&parts, now).map_or_else(|open| open.rest, |()| Duration::ZERO);
        longest = longest.max(rest);
        now = now + rest;
        let probe = probe(&mut parts, now);
        let answer = Answer::Missing(&unreachable());
        let changed = note(&mut parts, answer, Some(probe), now);
        assert!(changed.is_none(), "it was open");
    }
    assert!(
        longest > LONGEST_PAUSE / 2 && longest <= LONGEST_PAUSE,
        "{longest:?}"
    );
    let asked = unreachable().with_retry_after(seconds(7));
    now = now + LONGEST_PAUSE;
    let probe = probe(&mut parts, now);
    note(&mut parts, Answer::Missing(&asked), Some(probe), now);
    let rest = check(&parts, now).expect_err("open").rest;
    assert_eq!(rest, seconds(7), "the coordinator asked for it");
}

#[test]
fn late_outcomes_neither_prolong_nor_disturb() {
    let mut parts = open_breaker();
    for _ in 0..100 {
        note(&mut parts, Answer::Missing(&unreachable()), None, start());
    }
    let rest = check(&parts, start()).expect_err("open").rest;
    assert!(rest <= Duration::from_millis(100), "{rest:?}");
    let now = start() + seconds(1);
    let old = probe(&mut parts, now);
    note(&mut parts, Answer::Came, None, now).expect("a renewal was answered");
    for _ in 0..FAILURES {
        note(&mut parts, Answer::Missing(&unreachable()), None, now);
    }
    let later = now + seconds(1);
    let current = probe(&mut parts, later);
    note(
        &mut parts,
        Answer::Missing(&unreachable()),
        Some(old),
        later,
    );
    note(&mut parts, Answer::Unknown, Some(old), later);
    let refused = parts.enter(Try::First, later);
    refused.expect_err("the probe is still under way");
    note(&mut parts, Answer::Came, Some(current), later);
    assert!(parts.is_calm());
}

#[test]
fn the_budget_drains_and_keeps_a_reserve_and_recovers() {
    let mut budget = RetryBudget::default();
    let now = start();
    for _ in 0..4 {
        budget.note_failure();
        budget
            .take(Try::Again, now)
            .expect("more than half is left");
    }
    for _ in 0..20 {
        budget.note_failure();
    }
    budget.take(Try::Again, now).expect("the reserve");
    let rest = budget
        .take(Try::Again, now)
        .expect_err("the reserve is used up");
    assert_eq!(rest, seconds(1));
    budget
        .take(Try::Again, now + seconds(1))
        .expect("the reserve again");
    budget.note_success(Try::First, now);
    budget
        .take(Try::Again, now + seconds(1))
        .expect("at once after a success");
    for _ in 0..50 {
        budget.note_success(Try::First, now);
    }
    for _ in 0..1000 {
        budget.take(Try::Again, now).expect("more than half");
    }
    assert!(!budget.is_full());
    for _ in 0..50 {
        budget.note_success(Try::First, now);
    }
    assert!(budget.is_full());
}

#[test]
fn a_success_gives_all_back_once_requests_have_succeeded_for_a_while() {
    let mut budget = RetryBudget::default();
    for _ in 0..20 {
        budget.note_failure();
    }
    // However long ago the failures are: while nothing was sent, nothing was learned.
    let mut now = start() + seconds(60);
    budget.note_success(Try::First, now);
    budget.take(Try::Again, now).expect("the reserve");
    budget
        .take(Try::Again, now)
        .expect_err("one success is not enough");
    now = now + seconds(2);
    budget.end_calm();
    budget.note_success(Try::First, now);
    assert!(!budget.is_full(), "a failure in between");
    budget.note_success(Try::First, now + seconds(2));
    assert!(budget.is_full());
}

#[test]
fn only_a_success_after_a_refusal_hurries_what_was_refused() {
    let mut budget = RetryBudget::default();
    for _ in 0..20 {
        budget.note_failure();
    }
    let now = start();
    budget.take(Try::AfterRefusal, now).expect("the reserve");
    budget.take(Try::Again, now).expect("a reserve of its own");
    assert!(budget.note_success(Try::First, now));
    budget.take(Try::Again, now).expect("others are served");
    let rest = budget.take(Try::AfterRefusal, now);
    assert_eq!(rest.expect_err("these are not"), seconds(1));
    assert!(budget.note_success(Try::AfterRefusal, now));
    budget.take(Try::AfterRefusal, now).expect("now they are");
    // A time in which nothing is refused says the same.
    assert!(budget.note_success(Try::First, now + seconds(2)));
    assert!(budget.is_full());
}

/// What becomes of many callers that wait without a limit, while no coordinator is reached for a
/// time, or it refuses everything. Returns when each request was sent, and when the last caller was
/// served.
fn outage(
    callers: usize,
    lasts: Duration,
    refuses: bool,
    parts: &mut Parts,
) -> (Vec<Duration>, Duration) {
    let end = start() + lasts;
    let mut sent = Vec::new();
    let mut last = start();
    let mut backoffs: Vec<_> = (0..callers).map(|_| Backoff::default()).collect();
    let all = (0..callers).map(|caller| Reverse((start(), caller, true)));
    let mut due: BinaryHeap<_> = all.collect();
    while let Some(Reverse((now, caller, is_first))) = due.pop() {
        let which = match (is_first, refuses) {
            (true, _) => Try::First,
            (false, true) => Try::AfterRefusal,
            (false, false) => Try::Again,
        };
        let asked = match parts.enter(which, now) {
            Err(refusal) => refusal.retry_after(),
            Ok(probe) => {
                sent.push(now.saturating_since(start()));
                if now >= end {
                    parts.note(Answer::Came, Tally::Success(which), probe, now);
                    last = now;
                    continue;
                }
                let error = unreachable();
                let answer = match refuses {
                    true => Answer::Came,
                    false => Answer::Missing(&error),
                };
                parts.note(answer, Tally::Failure, probe, now);
                Duration::ZERO
            }
        };
        let next = now + asked + backoffs[caller].next_pause();
        due.push(Reverse((next, caller, false)));
    }
    (sent, last.saturating_since(end))
}

/// Returns the most of these that are within one second.
fn most_in_a_second(sent: &[Duration]) -> usize {
    let within = |first: &Duration| {
        let from = sent.partition_point(|at| at < first);
        sent.partition_point(|at| *at < *first + seconds(1)) - from
    };
    sent.iter().map(within).max().unwrap_or_default()
}

#[test]
fn an_outage_of_a_minute_costs_a_request_or_two_a_second() {
    fastrand::seed(7);
    let lasts = seconds(60);
    let mut parts = Parts {
        breaker: Some(Breaker::default()),
        budget: Some(RetryBudget::default()),
        ..Parts::default()
    };
    let (sent, late) = outage(500, lasts, false, &mut parts);
    let steady: Vec<_> = sent.iter().copied().filter(|at| *at < lasts).collect();
    assert!(steady.len() < 90, "{} requests", steady.len());
    // The first seconds find out what is going on, by failures and by short pauses.
    let most = most_in_a_second(&steady[steady.partition_point(|at| *at < seconds(5))..]);
    assert!(most <= 5, "{most} in one second");
    assert!(late < seconds(10), "the last one was served after {late:?}");
}

#[test]
fn the_budget_alone_bounds_the_retries_and_lets_nobody_wait_for_ever() {
    fastrand::seed(7);
    let lasts = seconds(60);
    let mut parts = Parts {
        budget: Some(RetryBudget::default()),
        ..Parts::default()
    };
    let (sent, late) = outage(500, lasts, false, &mut parts);
    let first_tries = sent.partition_point(|at| at.is_zero());
    assert_eq!(first_tries, 500, "no retry");
    let retries = sent.partition_point(|at| *at < lasts) - first_tries;
    assert!((50..=62).contains(&retries), "{retries} in a minute");
    assert!(late < seconds(10), "the last one was served after {late:?}");
}

#[test]
fn what_was_refused_for_a_moment_is_served_soon_after() {
    fastrand::seed(7);
    let mut parts = Parts {
        breaker: Some(Breaker::default()),
        budget: Some(RetryBudget::default()),
        ..Parts::default()
    };
    let (sent, late) = outage(20, seconds(2), true, &mut parts);
    assert!(sent.len() < 45, "{} requests", sent.len());
    // An acquire that is refused gives up after five seconds.
    assert!(late < seconds(3), "the last one was served after {late:?}");
}

fn gate() -> Gate {
    Gate::new(true, true, Observed::default())
}

/// Lets a request pass that ends like this.
fn pass(gate: &Gate, error: Error) {
    let passage = gate.enter(Try::First).expect("it may pass");
    passage.end(&Err::<(), _>(error));
}

#[tokio::test]
async fn only_requests_that_reach_nobody_open_the_gate_s_breaker() {
    let gate = gate();
    for kind in [
        ErrorKind::Exhausted,
        ErrorKind::Refused,
        ErrorKind::SessionLost(LossReason::Expired),
        ErrorKind::InvalidArgument,
    ] {
        for _ in 0..2 * FAILURES {
            pass(&gate, Error::new(kind, "for a test"));
        }
        gate.check().expect("closed");
    }
    let mut failures = 0;
    let refused = loop {
        if let Err(refused) = gate.check() {
            break refused;
        }
        pass(&gate, unreachable());
        failures += 1;
    };
    assert!(failures >= FAILURES);
    assert_eq!(refused.kind(), ErrorKind::Unreachable);
    assert_eq!(refused.effect(), crate::error::Effect::None);
    assert!(refused.retry_after().is_some());
    gate.note_answer();
    gate.check().expect("the renewal has closed it");
}

/// As when the connection breaks that all of them use.
#[tokio::test]
async fn requests_that_fail_together_hold_back_no_retry() {
    const REQUESTS: usize = 20;
    let gate = gate();
    for _ in 0..3 {
        let under_way: Vec<_> = (0..REQUESTS)
            .map(|_| gate.enter(Try::First).expect("it may pass"))
            .collect();
        for passage in under_way {
            passage.end(&Err::<(), _>(unreachable()));
        }
        let retries: Vec<_> = (0..REQUESTS)
            .map(|_| gate.enter(Try::Again).expect("it may be sent again"))
            .collect();
        for passage in retries {
            passage.end(&Ok(()));
        }
        // Other requests succeed until the next connection breaks.
        for _ in 0..1_000 {
            gate.enter(Try::First).expect("it may pass").end(&Ok(()));
        }
    }
    let under_way = gate.enter(Try::First).expect("it may pass");
    for _ in 0..FAILURES {
        pass_if_closed(&gate);
    }
    gate.check().expect_err("one after the other, they open it");
    under_way.end(&Ok(()));
    gate.check().expect("an answer closes it");
}

#[test]
fn a_success_lets_the_next_retry_pass_before_the_reserve_does() {
    let gate = Gate::new(false, true, Observed::default());
    for _ in 0..20 {
        pass(&gate, unreachable());
    }
    drop(gate.enter(Try::Again).expect("the reserve"));
    gate.enter(Try::Again).expect_err("it is used up");
    let recovery = gate.recovery();
    let is_told = || recovery.0.has_changed().expect("there is a gate");
    assert!(!is_told());
    gate.enter(Try::First).expect("a first try").end(&Ok(()));
    assert!(is_told());
    gate.enter(Try::Again).expect("the reserve again");
}

fn pass_if_closed(gate: &Gate) {
    if gate.check().is_ok() {
        pass(gate, unreachable());
    }
}

#[tokio::test]
async fn a_probe_that_is_dropped_leaves_its_place_to_another() {
    let gate = gate();
    for _ in 0..FAILURES {
        pass(&gate, unreachable());
    }
    for _ in 0..3 {
        let passage = loop {
            match gate.enter(Try::Again) {
                Ok(passage) => break passage,
                Err(refusal) => tokio::time::sleep(refusal.retry_after()).await,
            }
        };
        gate.check().expect_err("the probe is under way");
        let probing = async move {
            let outcome = std::future::pending::<Result<(), Error>>().await;
            passage.end(&outcome);
        };
        assert!(probing.now_or_never().is_none());
    }
}

#[test]
fn a_gate_without_parts_lets_all_pass() {
    let gate = Gate::new(false, false, Observed::default());
    for _ in 0..100 {
        pass(&gate, unreachable());
        gate.enter(Try::Again).expect("nothing holds it back");
    }
    gate.check().expect("nothing holds it back");
}
