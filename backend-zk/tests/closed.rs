//! Sessions that the servers end while their clients are connected and work.

mod support;

use std::time::{Duration, Instant};

use lock_core::{ErrorKind, Locks, LossReason, OnSessionLoss, Options, Release, State};
use support::{acquire, depth, eventually, locks, name, soon, with_options};
use testkit::fixtures::zk::{Ensemble, Settings};

/// So long that nobody notices the loss by a deadline.
const TTL: Duration = Duration::from_secs(60);
/// The limit for a report of the server to a holder, also on a busy machine.
const AT_ONCE: Duration = Duration::from_secs(10);

fn process(ensemble: &Ensemble, on_session_loss: OnSessionLoss) -> Locks {
    let options = Options::default()
        .with_ttl(TTL)
        .with_on_session_loss(on_session_loss);
    with_options(&ensemble.url(), options)
}

fn close(ensemble: &Ensemble, locks: &Locks) {
    ensemble.close_session(locks.session_id().expect("open"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_holder_whose_session_is_closed_loses_at_once_and_the_next_one_holds() {
    let ensemble = Ensemble::start(Settings::default());
    let (holder, rival) = (locks(&ensemble.url(), TTL), locks(&ensemble.url(), TTL));
    let name = name("x");
    let guard = acquire(&holder, &name).await;
    let (old, token) = (holder.session_id(), guard.token());
    let mutex = rival.mutex(&name).expect("valid");
    let waiting = tokio::spawn(async move { mutex.acquire().await });
    depth(&rival, &name, 2).await;

    let closed = Instant::now();
    close(&ensemble, &holder);
    let reason = soon("the loss", guard.lost()).await;
    let told = closed.elapsed();
    assert!(told < AT_ONCE, "{told:?}");
    assert!(
        matches!(reason, LossReason::SessionGone | LossReason::EntryGone),
        "{reason:?}"
    );
    assert_eq!(guard.deadline(), None);
    let next = soon("the rival's turn", waiting).await.expect("no panic");
    let next = next.expect("granted");
    assert!(next.token() > token);

    // A lost lock stays lost, and the next acquire has a session of its own.
    eventually("the session is known to be over", async || {
        holder.session_id() != old
    })
    .await;
    let mutex = holder.mutex(&name).expect("valid");
    let again = tokio::spawn(async move { mutex.acquire().await });
    depth(&rival, &name, 2).await;
    assert!(matches!(guard.state(), State::Lost(_)), "{guard:?}");
    assert_eq!(
        guard.release().await.expect("an answer"),
        Release::AlreadyGone
    );
    depth(&rival, &name, 2).await;
    assert_eq!(next.release().await.expect("an answer"), Release::Released);
    let guard = soon("its turn", again).await.expect("no panic");
    assert_eq!(
        guard.expect("granted").release().await.expect("an answer"),
        Release::Released
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiters_whose_sessions_are_closed_fail_or_queue_again_as_they_chose() {
    let ensemble = Ensemble::start(Settings::default());
    let name = name("x");
    let observer = locks(&ensemble.url(), TTL);
    let holder = locks(&ensemble.url(), TTL);
    let guard = acquire(&holder, &name).await;
    let fails = process(&ensemble, OnSessionLoss::Fail);
    let queues_again = process(&ensemble, OnSessionLoss::Requeue);
    let patient = process(&ensemble, OnSessionLoss::Fail);
    let mut waits = vec![];
    for (behind, locks) in [&fails, &queues_again, &patient].into_iter().enumerate() {
        let mutex = locks.mutex(&name).expect("valid");
        waits.push(tokio::spawn(async move { mutex.acquire().await }));
        depth(&observer, &name, behind + 2).await;
    }
    let [failed, again, last] = waits.try_into().expect("three");

    let closed = Instant::now();
    close(&ensemble, &fails);
    let error = soon("the failure", failed).await.expect("no panic");
    let error = error.expect_err("its place is gone");
    assert!(closed.elapsed() < AT_ONCE, "{:?}", closed.elapsed());
    assert!(matches!(error.kind(), ErrorKind::SessionLost(_)), "{error}");
    depth(&observer, &name, 3).await;

    let old = queues_again.session_id();
    close(&ensemble, &queues_again);
    // At the end of the queue, in another session.
    eventually("its new place", async || {
        let queue = observer.queue(&name).await.expect("listed");
        let entries = queue.entries;
        let new = queues_again.session_id();
        new != old && entries.len() == 3 && entries[2].session == new
    })
    .await;
    assert!(!again.is_finished() && !last.is_finished(), "it is held");
    let token = guard.token();
    assert_eq!(guard.release().await.expect("an answer"), Release::Released);
    let second = soon("the next turn", last).await.expect("no panic");
    let second = second.expect("granted");
    assert!(!again.is_finished(), "others went first");
    assert!(second.token() > token);
    let token = second.token();
    assert_eq!(
        second.release().await.expect("an answer"),
        Release::Released
    );
    let third = soon("the last turn", again).await.expect("no panic");
    let third = third.expect("granted");
    assert!(third.token() > token);
    assert_eq!(third.release().await.expect("an answer"), Release::Released);
}
