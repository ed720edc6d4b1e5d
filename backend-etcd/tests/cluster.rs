//! Three nodes, and what happens to a queue when the leader goes.

mod support;

use std::time::{Duration, Instant};

use lock_core::{Release, State};
use support::{Node, backend, locks, soon};
use tokio::sync::mpsc;

const TTL: Duration = Duration::from_secs(10);
const WAITERS: usize = 20;

/// Holds with some waiting, does something to the leader, and lets the queue go on: nothing is
/// lost, nobody overtakes.
async fn survives(harm: impl FnOnce(&mut Node)) {
    let mut nodes = Node::start_three().await;
    let mut leader = None;
    for (index, node) in nodes.iter().enumerate() {
        if node.leads().await {
            leader = Some(index);
        }
    }
    let leader = leader.expect("a cluster that serves has a leader");
    // Everyone begins at the node that is about to go.
    let order = [leader, (leader + 1) % 3, (leader + 2) % 3];
    let url = format!("etcd://{}", order.map(|i| nodes[i].address()).join(","));
    let client = || locks(backend(&url), TTL);
    let healthy = order[1];

    let holder = client();
    let mutex = holder.mutex("x").expect("valid");
    let guard = soon("acquire", mutex.acquire()).await.expect("acquired");
    let token = guard.token();
    let (turns, mut order) = mpsc::unbounded_channel();
    let clients = [client(), client()];
    for number in 0..WAITERS {
        let mutex = clients[number % 2].mutex("x").expect("valid");
        let turns = turns.clone();
        tokio::spawn(async move {
            let guard = mutex.acquire().await.expect("acquired");
            turns
                .send((number, guard.token()))
                .expect("the test goes on");
            guard.release().await
        });
        nodes[healthy].wait_keys("turnlock/x/", number + 2).await;
    }

    harm(&mut nodes[leader]);
    let harmed = Instant::now();
    let recovered = async {
        // Jeopardy has to come first: the renewal before the harm still counts.
        tokio::time::sleep(TTL / 5).await;
        while guard.state() != State::Held {
            assert!(!matches!(guard.state(), State::Lost(_)), "{guard:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon("a renewal by another node", recovered).await;
    assert!(harmed.elapsed() < TTL, "the lock outlived its leader");
    assert_eq!(guard.token(), token);
    assert!(order.try_recv().is_err(), "nobody else holds");
    assert_eq!(soon("release", guard.release()).await, Release::Released);
    let mut last = token;
    for expected in 0..WAITERS {
        let turn = soon("the next turn", order.recv()).await;
        let (number, token) = turn.expect("all get a turn");
        assert_eq!(number, expected);
        assert!(token > last, "tokens rise");
        last = token;
    }
    nodes[healthy].wait_keys("turnlock/x/", 0).await;
}

#[tokio::test]
async fn a_killed_leader_costs_nobody_the_lock_or_the_place() {
    survives(Node::kill).await;
}

#[tokio::test]
async fn a_leader_that_stands_still_costs_nobody_the_lock_or_the_place() {
    survives(|leader| leader.signal("-STOP")).await;
}
