//! Checks that a loss is reported at once and for ever, and that nothing else is reported as a
//! loss.

use std::time::{Duration, Instant};

use lock_core::{ErrorKind, Guard, LossReason, Mode, OnSessionLoss, Release, State};

use crate::fixture::{Members, Skip};
use crate::test_bed::{TestBed, is_ours};

/// The limit for the report of a loss. It is well before the deadline, for which a blind holder
/// would wait.
const AT_ONCE: Duration = Duration::from_secs(5);

pub async fn a_removed_entry_is_a_loss_for_the_holder(bed: TestBed) -> Result<(), Skip> {
    let administrator = bed.administrator()?;
    let (_, guard) = bed.holder("a").await;
    let entry = bed.queue("a").await.entries[0].id.clone();
    administrator.remove(&entry).await;
    let removed = Instant::now();
    let reason = bed.soon("the holder is told", guard.lost()).await;
    assert_eq!(reason, LossReason::EntryGone);
    assert!(removed.elapsed() < AT_ONCE, "{:?}", removed.elapsed());
    assert_eq!(guard.state(), State::Lost(LossReason::EntryGone));
    assert_eq!(guard.remaining(), Duration::ZERO);
    assert_eq!(
        guard.release().await.expect("an answer"),
        Release::AlreadyGone
    );
    Ok(())
}

pub async fn a_removed_entry_evicts_the_waiter(bed: TestBed) -> Result<(), Skip> {
    let administrator = bed.administrator()?;
    let (_, guard) = bed.holder("a").await;
    let waiter = bed.waiter("a", Mode::Exclusive).await;
    let entry = bed.queue("a").await.entries[1].id.clone();
    administrator.remove(&entry).await;
    let error = waiter.outcome().await.expect_err("evicted");
    assert_eq!(error.kind(), ErrorKind::Evicted, "{error}");
    assert_eq!(guard.state(), State::Held);
    assert_eq!(guard.release().await.expect("an answer"), Release::Released);
    Ok(())
}

pub async fn a_session_that_ended_is_lost_for_ever(bed: TestBed) -> Result<(), Skip> {
    let administrator = bed.administrator()?;
    let (locks, guard) = bed.holder("a").await;
    let (id, old) = (locks.session_id().expect("open"), guard.token());
    administrator.end_session(id).await;
    let ended = Instant::now();
    let reason = bed.soon("the holder is told", guard.lost()).await;
    assert!(ended.elapsed() < AT_ONCE, "{:?}", ended.elapsed());
    assert!(
        matches!(reason, LossReason::SessionGone | LossReason::EntryGone),
        "{reason:?}"
    );
    bed.eventually("the session is known to be over", async || {
        locks.session_id() != Some(id)
    })
    .await;
    assert!(!is_ours(&guard));
    let next = locks.mutex("a").expect("a valid name").acquire().await;
    let next = next.expect("a new session takes it");
    assert!(next.token() > old);
    assert!(!is_ours(&guard), "the old guard stays lost");
    assert_eq!(
        guard.release().await.expect("an answer"),
        Release::AlreadyGone
    );
    assert_eq!(next.release().await.expect("an answer"), Release::Released);
    Ok(())
}

pub async fn a_session_that_ended_is_not_made_anew(bed: TestBed) -> Result<(), Skip> {
    let bed = bed.short_lived();
    let administrator = bed.administrator()?;
    let locks = bed.process();
    let lock = locks.mutex("a").expect("a valid name");
    // The session holds nothing, so only its renewals can detect the loss.
    let guard = lock.acquire().await.expect("the lock is free");
    assert_eq!(guard.release().await.expect("an answer"), Release::Released);
    let id = locks.session_id().expect("open");
    administrator.end_session(id).await;
    bed.eventually("the session is known to be over", async || {
        locks.session_id() != Some(id)
    })
    .await;
    assert!(!administrator.sessions().await.contains(&id));
    Ok(())
}

pub async fn a_waiters_session_that_ended_fails_the_wait(bed: TestBed) -> Result<(), Skip> {
    let administrator = bed.administrator()?;
    let (_, guard) = bed.holder("a").await;
    let waiter = bed.waiter("a", Mode::Exclusive).await;
    let session = waiter.locks.session_id().expect("open");
    administrator.end_session(session).await;
    let error = waiter.outcome().await.expect_err("its session is over");
    assert!(
        matches!(error.kind(), ErrorKind::SessionLost(_) | ErrorKind::Evicted),
        "{error}"
    );
    bed.depth("a", 1).await;
    assert_eq!(guard.release().await.expect("an answer"), Release::Released);
    Ok(())
}

/// Neither a renewal nor a retry makes the removed entry anew, because others may have held the
/// lock in between.
pub async fn a_removed_entry_is_never_made_anew(bed: TestBed) -> Result<(), Skip> {
    let bed = bed.short_lived();
    let administrator = bed.administrator()?;
    let (locks, guard) = bed.holder("a").await;
    let entry = bed.queue("a").await.entries[0].id.clone();
    administrator.remove(&entry).await;
    bed.soon("the holder is told", guard.lost()).await;
    // Several renewals of the session pass, and the session lives on.
    let session = locks.session_id().expect("open");
    tokio::time::sleep(bed.ttl()).await;
    assert_eq!(locks.session_id(), Some(session));
    assert_eq!(bed.queue("a").await.entries, []);
    assert_eq!(guard.state(), State::Lost(LossReason::EntryGone));
    Ok(())
}

/// Waits until the guard is in doubt, which comes before the loss.
async fn jeopardy(bed: &TestBed, guard: &Guard) {
    let doubted = async {
        while guard.state() == State::Held {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(guard.state(), State::Jeopardy, "before it is lost");
    };
    bed.soon("jeopardy", doubted).await;
}

async fn held_again(bed: &TestBed, guard: &Guard) {
    let held = async || {
        assert!(is_ours(guard), "{guard:?}");
        guard.state() == State::Held
    };
    bed.eventually("it is held again", held).await;
}

pub async fn a_silent_network_is_a_loss_by_the_deadline(bed: TestBed) -> Result<(), Skip> {
    let bed = bed.short_lived();
    let (link, locks) = bed.distant_process()?;
    let lock = locks.mutex("a").expect("a valid name");
    let guard = lock.acquire().await.expect("the lock is free");
    link.silence();
    jeopardy(&bed, &guard).await;
    let reason = bed.soon("the loss", guard.lost()).await;
    assert_eq!(reason, LossReason::Expired);
    assert_eq!(
        (guard.deadline(), guard.remaining()),
        (None, Duration::ZERO)
    );
    // The requests under way arrive now: late replies revive nothing.
    link.resume();
    let next = bed.soon("a new session", lock.acquire()).await;
    assert!(next.expect("its turn comes").token() > guard.token());
    assert_eq!(guard.state(), State::Lost(LossReason::Expired));
    Ok(())
}

pub async fn a_cut_connection_is_no_loss(bed: TestBed) -> Result<(), Skip> {
    let (link, locks) = bed.distant_process()?;
    let lock = locks.mutex("a").expect("a valid name");
    let guard = lock.acquire().await.expect("the lock is free");
    let token = guard.token();
    for _ in 0..3 {
        let before = guard.deadline().expect("held");
        link.cut();
        bed.eventually("a renewal", async || {
            guard.deadline().expect("not lost") > before
        })
        .await;
    }
    held_again(&bed, &guard).await;
    assert_eq!(bed.queue("a").await.entries[0].token, token);
    assert_eq!(guard.release().await.expect("an answer"), Release::Released);
    Ok(())
}

/// The server runs on, but its replies are lost on the existing connections.
pub async fn a_connection_gone_silent_is_no_loss(bed: TestBed) -> Result<(), Skip> {
    let bed = bed.with_ttl(Duration::from_secs(20));
    let (link, locks) = bed.distant_process()?;
    let lock = locks.mutex("a").expect("a valid name");
    let guard = lock.acquire().await.expect("the lock is free");
    let before = guard.deadline().expect("held");
    link.mute();
    bed.eventually("a renewal by another connection", async || {
        let renewed = guard.deadline().expect("not lost") > before + Duration::from_secs(2);
        renewed && link.muted_bytes() > 0
    })
    .await;
    held_again(&bed, &guard).await;
    assert_eq!(guard.release().await.expect("an answer"), Release::Released);
    Ok(())
}

/// The circuit breaker of the holder's process is open: no new request was answered.
pub async fn a_holder_goes_on_while_requests_are_held_back(bed: TestBed) -> Result<(), Skip> {
    let bed = bed.with_ttl(Duration::from_secs(60));
    let administrator = bed.administrator()?;
    let (link, locks) = bed.distant_process()?;
    let hold = async |name| {
        let lock = locks.mutex(name).expect("a valid name");
        lock.acquire().await.expect("the lock is free")
    };
    let (kept, removed) = (hold("a").await, hold("b").await);
    let lost = bed.queue("b").await.entries[0].id.clone();
    link.silence();
    let held_back = || async {
        let error = locks.get("k").await.expect_err("no network");
        error.retry_after().is_some()
    };
    bed.eventually("requests are held back", async || {
        // Each takes as long as a request may, so they are made together.
        let reads = tokio::join!(
            held_back(),
            held_back(),
            held_back(),
            held_back(),
            held_back()
        );
        reads.0
    })
    .await;
    let next = locks.mutex("c").expect("a valid name");
    let error = next.try_acquire().await.expect_err("no network");
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
    link.resume();
    administrator.remove(&lost).await;
    let put = bed.soon("it stores its result", kept.put("k", "v")).await;
    put.expect("stored");
    let value = bed.soon("it reads it", kept.get("k")).await;
    assert_eq!(value.expect("an answer").as_deref(), Some(b"v".as_slice()));
    let released = bed.soon("it gives the lock back", kept.release()).await;
    assert_eq!(released.expect("an answer"), Release::Released);
    let reason = bed.soon("the loss", removed.lost()).await;
    assert_eq!(reason, LossReason::EntryGone);
    let next = bed.soon("the others go on", next.acquire()).await;
    drop(next.expect("the lock is free"));
    Ok(())
}

async fn pause_all(members: &dyn Members) {
    for member in 0..members.count() {
        members.pause(member).await;
    }
}

async fn resume_all(members: &dyn Members) {
    for member in 0..members.count() {
        members.resume(member).await;
    }
}

/// The servers do not count the time in which they stood still against any session.
pub async fn servers_that_stand_still_for_a_moment_cost_no_lock(bed: TestBed) -> Result<(), Skip> {
    let bed = bed.with_ttl(Duration::from_secs(30));
    let members = bed.members()?;
    let (_, guard) = bed.holder("a").await;
    let waiter = bed.waiter("a", Mode::Exclusive).await;
    let token = guard.token();
    pause_all(members).await;
    jeopardy(&bed, &guard).await;
    resume_all(members).await;
    held_again(&bed, &guard).await;
    assert_eq!(bed.queue("a").await.entries[0].token, token);
    assert!(waiter.waits());
    assert_eq!(guard.release().await.expect("an answer"), Release::Released);
    assert_eq!(
        waiter.turn().await.release().await.expect("an answer"),
        Release::Released
    );
    Ok(())
}

pub async fn servers_that_stand_still_for_too_long_cost_the_lock(bed: TestBed) -> Result<(), Skip> {
    let bed = bed.short_lived();
    let members = bed.members()?;
    let (locks, guard) = bed.holder("a").await;
    pause_all(members).await;
    let reason = bed.soon("the loss", guard.lost()).await;
    assert_eq!(reason, LossReason::Expired);
    resume_all(members).await;
    let lock = locks.mutex("a").expect("a valid name");
    let next = bed.soon("a new session", async {
        // No session can be opened until the servers are back.
        loop {
            match lock.acquire().await {
                Ok(guard) => return guard,
                Err(error) => assert!(
                    matches!(error.kind(), ErrorKind::Unreachable | ErrorKind::Exhausted),
                    "{error}"
                ),
            }
        }
    });
    assert!(next.await.token() > guard.token());
    assert_eq!(guard.state(), State::Lost(LossReason::Expired));
    Ok(())
}

/// The waiter enqueues again, as often and as long as the outage takes.
pub async fn a_waiter_without_a_limit_outlives_an_outage(bed: TestBed) -> Result<(), Skip> {
    let bed = bed.short_lived();
    let members = bed.members()?;
    let (_, guard) = bed.holder("a").await;
    let locks = bed.process_with(bed.options().with_on_session_loss(OnSessionLoss::Requeue));
    let waiter = bed.waiter_of(locks, "a", Mode::Exclusive).await;
    let session = waiter.locks.session_id().expect("open");
    pause_all(members).await;
    bed.eventually("its session is lost", async || {
        waiter.locks.session_id() != Some(session)
    })
    .await;
    // The outage goes on.
    tokio::time::sleep(bed.ttl()).await;
    assert!(waiter.waits());
    resume_all(members).await;
    let token = guard.token();
    drop(guard);
    let turn = waiter.turn().await;
    assert!(turn.token() > token);
    assert_eq!(turn.release().await.expect("an answer"), Release::Released);
    Ok(())
}
