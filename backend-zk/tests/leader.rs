//! An ensemble of three nodes: what happens to a queue when the leader fails.

mod support;

use std::time::Duration;

use lock_core::{Release, State};
use support::{acquire, depth, eventually, locks_that_know_the_tick, name, soon};
use testkit::fixtures::zk::{Ensemble, Settings};
use tokio::sync::mpsc;

/// Leaves ten seconds for an election, which takes less on an idle machine.
const TTL: Duration = Duration::from_secs(20);
/// Followers notice a silent leader after five of these.
const TICK: Duration = Duration::from_secs(1);
const WAITERS: usize = 20;

/// Harms the leader while a lock is held and waited for, and then releases. Checks that all waiters
/// are granted the lock, in order.
async fn survives(harm: impl FnOnce(&mut Ensemble, usize)) {
    let mut ensemble = Ensemble::start(Settings {
        nodes: 3,
        tick: TICK,
        ..Settings::default()
    });
    let leader = ensemble.wait_leader();
    let locks = |url: &str, ttl| locks_that_know_the_tick(url, TICK, ttl);
    let name = name("x");
    let url = ensemble.url();
    let survivors = [(leader + 1) % 3, (leader + 2) % 3].map(|node| ensemble.address(node));
    let observer = locks(&format!("zk://{}", survivors.join(",")), TTL);

    let holder = locks(&url, TTL);
    let guard = acquire(&holder, &name).await;
    let (token, session) = (guard.token(), holder.session_id());
    let (turns, mut order) = mpsc::unbounded_channel();
    // Their sessions choose a node at random: some choose the one that is about to fail.
    let clients: Vec<_> = (0..WAITERS).map(|_| locks(&url, TTL)).collect();
    for (number, client) in clients.iter().enumerate() {
        let mutex = client.mutex(&name).expect("valid");
        let turns = turns.clone();
        tokio::spawn(async move {
            let guard = mutex.acquire().await.expect("acquired");
            let turn = (number, guard.token());
            turns.send(turn).expect("the test goes on");
            guard.release().await.expect("an answer")
        });
        depth(&observer, &name, number + 2).await;
    }

    harm(&mut ensemble, leader);
    let renewed = guard.deadline().expect("held");
    eventually("a renewal by another leader", async || {
        assert!(!matches!(guard.state(), State::Lost(_)), "{guard:?}");
        // All renewals but the one that was under way when the leader failed.
        guard.state() == State::Held && guard.deadline().is_some_and(|now| now > renewed + TTL / 5)
    })
    .await;
    assert_eq!((guard.token(), holder.session_id()), (token, session));
    assert!(order.try_recv().is_err(), "nobody else holds");
    assert_eq!(
        soon("release", guard.release()).await.expect("an answer"),
        Release::Released
    );
    let mut last = token;
    for expected in 0..WAITERS {
        let turn = soon("the next turn", order.recv()).await;
        let (number, token) = turn.expect("all get a turn");
        assert_eq!(number, expected);
        assert!(token > last, "tokens rise");
        last = token;
    }
    depth(&observer, &name, 0).await;
}

#[tokio::test]
async fn a_killed_leader_costs_nobody_the_lock_or_the_place() {
    survives(Ensemble::kill).await;
}

#[tokio::test]
async fn a_leader_that_stands_still_costs_nobody_the_lock_or_the_place() {
    survives(|ensemble, leader| ensemble.pause(leader)).await;
}
