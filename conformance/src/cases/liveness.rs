//! Checks that sessions live on whatever the user's threads and single servers do.

use std::time::Duration;

use lock_core::{Admission, Enqueued, Mode, Release, rule};

use crate::fixture::Skip;
use crate::test_bed::{TestBed, is_ours, ticket, to_result};

/// Runs this on a thread outside of any executor, and fails as it does.
async fn run_on_thread(work: impl FnOnce() + Send + 'static) {
    let user = std::thread::spawn(work);
    let join = || {
        user.join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    };
    to_result(tokio::task::spawn_blocking(join).await);
}

pub async fn renewal_goes_on_while_the_executor_is_blocked(bed: TestBed) {
    let bed = bed.short_lived();
    let (lock, ttl) = (bed.mutex("a"), bed.ttl());
    run_on_thread(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.expect("a runtime").block_on(async {
            let guard = lock.acquire().await.expect("the lock is free");
            // The thread sleeps for longer than any server stretches a time to live.
            std::thread::sleep(2 * ttl + Duration::from_secs(1));
            assert!(is_ours(&guard), "{guard:?}");
            assert!(guard.remaining() > Duration::ZERO);
            assert_eq!(guard.release().await.expect("an answer"), Release::Released);
        });
    })
    .await;
}

pub async fn any_executor_will_do(bed: TestBed) {
    let lock = bed.mutex("a");
    run_on_thread(move || {
        let guard = futures_executor::block_on(lock.acquire()).expect("the lock is free");
        let nobody = lock.acquire_timeout(Duration::from_millis(50));
        let nobody = futures_executor::block_on(nobody).expect("an answer");
        assert!(nobody.is_none());
        let release = futures_executor::block_on(guard.release()).expect("an answer");
        assert_eq!(release, Release::Released);
    })
    .await;
}

/// A process may forget a session, or end without a word.
pub async fn a_session_dropped_without_a_close_ends_with_its_time_to_live(
    bed: TestBed,
) -> Result<(), Skip> {
    let bed = bed.short_lived();
    bed.whole_store()?;
    let session = bed.session().await;
    let ticket = ticket("a", Mode::Exclusive, 1);
    let ask = rule::ask(Mode::Exclusive);
    let enqueued = session.enqueue(&ticket, ask, Admission::Always).await;
    assert!(
        matches!(enqueued, Ok(Enqueued::Placed(_))),
        "a place is expected: {enqueued:?}"
    );
    bed.depth("a", 1).await;
    drop(session);
    bed.eventually(
        "a session that is dropped ends with its time to live, and its entries with it: stop its renewal in `Drop`",
        async || bed.queue("a").await.entries.is_empty(),
    )
    .await;
    Ok(())
}

pub async fn a_wait_goes_on_while_a_member_stands_still(bed: TestBed) -> Result<(), Skip> {
    // An election takes a while on a busy machine.
    let bed = bed.with_ttl(Duration::from_secs(30));
    let members = bed.cluster()?;
    for member in 0..members.count() {
        let (_, guard) = bed.holder("a").await;
        let waiter = bed.waiter("a", Mode::Exclusive).await;
        members.pause(member).await;
        // The holder may have to find another member, too.
        let released = bed.soon("an answer", guard.release()).await;
        assert!(
            !matches!(released, Ok(Release::AlreadyGone)),
            "{released:?}"
        );
        let turn = waiter.turn().await;
        members.resume(member).await;
        drop(turn);
        bed.depth("a", 0).await;
    }
    Ok(())
}

pub async fn holders_survive_a_rolling_restart(bed: TestBed) -> Result<(), Skip> {
    let bed = bed.with_ttl(Duration::from_secs(60));
    let members = bed.cluster()?;
    let (_, guard) = bed.holder("a").await;
    let token = guard.token();
    for member in 0..members.count() {
        members.kill(member).await;
        assert!(is_ours(&guard), "{guard:?}");
        members.start(member).await;
        bed.eventually("it serves again", async || members.serves(member).await)
            .await;
    }
    assert!(is_ours(&guard) && guard.token() == token, "{guard:?}");
    assert_eq!(guard.release().await.expect("an answer"), Release::Released);
    Ok(())
}
