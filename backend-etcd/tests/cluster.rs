//! A cluster of three nodes: what happens to a queue when the leader fails.

mod support;

use std::time::{Duration, Instant};

use lock_core::{ErrorKind, Guard, Locks, LossReason, Release, State, Token};
use support::{Node, backend, locks};
use testkit::waiting::{SOON, soon};
use tokio::sync::mpsc;

const TTL: Duration = Duration::from_secs(10);
const WAITERS: usize = 20;

/// The longest pause before a stream of watches is opened again (docs/operations.md).
const LONGEST_PAUSE: Duration = Duration::from_secs(4);

/// A cluster with a holder and a queue behind it. All clients are connected to the leader at first.
struct Scene {
    nodes: [Node; 3],
    leader: usize,
    guard: Option<Guard>,
    /// The waiters that were granted the lock, with their tokens and times.
    order: mpsc::UnboundedReceiver<(usize, Token, Instant)>,
    _clients: Vec<Locks>,
}

impl Scene {
    async fn set() -> Scene {
        let nodes = Node::start_three().await;
        let mut leader = None;
        for (index, node) in nodes.iter().enumerate() {
            if node.leads().await {
                leader = Some(index);
            }
        }
        let leader = leader.expect("a cluster that serves has a leader");
        let addresses = [0, 1, 2].map(|i| nodes[(leader + i) % 3].address());
        let url = format!("etcd://{}", addresses.join(","));
        let clients: Vec<Locks> = (0..=WAITERS).map(|_| locks(backend(&url), TTL)).collect();
        let mutex = |i: usize| clients[i].mutex("x").expect("valid");
        let guard = soon("acquire", mutex(WAITERS).acquire()).await;
        let (turns, order) = mpsc::unbounded_channel();
        for number in 0..WAITERS {
            let (mutex, turns) = (mutex(number), turns.clone());
            tokio::spawn(async move {
                let guard = mutex.acquire().await.expect("acquired");
                let turn = (number, guard.token(), Instant::now());
                turns.send(turn).expect("the test goes on");
                guard.release().await
            });
            nodes[(leader + 1) % 3]
                .wait_keys("turnlock/x/", number + 2)
                .await;
        }
        Scene {
            nodes,
            leader,
            guard: Some(guard.expect("acquired")),
            order,
            _clients: clients,
        }
    }

    fn healthy(&self) -> &Node {
        &self.nodes[(self.leader + 1) % 3]
    }

    /// Waits until both other nodes report another leader. Returns when they did.
    async fn elected(&self) -> Instant {
        let survivors = [1, 2].map(|i| &self.nodes[(self.leader + i) % 3]);
        loop {
            for node in survivors {
                if node.leads().await {
                    return Instant::now();
                }
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Checks that all waiters are granted the lock, in order. Returns when the first one was.
    async fn all_have_their_turns(&mut self, mut last: Token) -> Instant {
        let mut first = None;
        for expected in 0..WAITERS {
            let turn = soon("the next turn", self.order.recv()).await;
            let (number, token, at) = turn.expect("all get a turn");
            assert_eq!(number, expected);
            assert!(token > last, "tokens rise");
            last = token;
            first.get_or_insert(at);
        }
        self.healthy().wait_keys("turnlock/x/", 0).await;
        first.expect("there are waiters")
    }
}

/// Checks that a holder that continues to hold keeps its lock, and that nobody else gets it.
async fn survives(harm: impl FnOnce(&mut Node)) {
    let mut scene = Scene::set().await;
    let guard = scene.guard.take().expect("held");
    let token = guard.token();
    harm(&mut scene.nodes[scene.leader]);
    let harmed = Instant::now();
    let recovered = async {
        // Jeopardy has to come first: the last renewal before the failure still counts.
        tokio::time::sleep(TTL / 5).await;
        while guard.state() != State::Held {
            assert!(!matches!(guard.state(), State::Lost(_)), "{guard:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon("a renewal by another node", recovered).await;
    assert!(harmed.elapsed() < TTL, "the lock outlived its leader");
    assert_eq!(guard.token(), token);
    assert!(scene.order.try_recv().is_err(), "nobody else holds");
    assert_eq!(
        soon("release", guard.release()).await.expect("an answer"),
        Release::Released
    );
    scene.all_have_their_turns(token).await;
}

/// Checks that the queue goes on soon after the election when the holder releases during it. 0.3 to
/// 2.1 s were measured. The release has to be tried again, and the waiter's stream of watches to be
/// opened again, after pauses that have grown with the time without a leader.
async fn goes_on(harm: impl FnOnce(&mut Node)) {
    let mut scene = Scene::set().await;
    let guard = scene.guard.take().expect("held");
    let token = guard.token();
    harm(&mut scene.nodes[scene.leader]);
    let harmed = Instant::now();
    // The outcome of the release may not be known in time. Then the janitor continues.
    let release = tokio::spawn(guard.release());
    let elected = soon("an election", scene.elected()).await;
    let first = scene.all_have_their_turns(token).await;
    println!(
        "elected after {:?}, the next turn {:?} after that",
        elected - harmed,
        first.saturating_duration_since(elected)
    );
    assert!(first.saturating_duration_since(elected) < LONGEST_PAUSE);
    let _ = soon("release", release).await.expect("no panic");
}

#[tokio::test]
async fn a_killed_leader_costs_nobody_the_lock_or_the_place() {
    survives(Node::kill).await;
}

#[tokio::test]
async fn a_leader_that_stands_still_costs_nobody_the_lock_or_the_place() {
    survives(|leader| leader.signal("-STOP")).await;
}

#[tokio::test]
async fn the_queue_goes_on_when_a_killed_leader_was_replaced() {
    goes_on(Node::kill).await;
}

#[tokio::test]
async fn the_queue_goes_on_when_a_leader_that_stands_still_was_replaced() {
    goes_on(|leader| leader.signal("-STOP")).await;
}

#[tokio::test]
async fn a_cluster_without_a_quorum_is_a_clear_error_and_a_loss_and_comes_back() {
    let mut nodes = Node::start_three().await;
    let url = format!("etcd://{}", nodes.each_ref().map(Node::address).join(","));
    let ttl = Duration::from_secs(4);
    let client = || locks(backend(&url), ttl);
    let holder = client();
    let mutex = holder.mutex("x").expect("valid");
    let guard = soon("acquire", mutex.acquire()).await.expect("acquired");
    let other = client();
    let theirs = other.mutex("y").expect("valid");
    drop(soon("acquire", theirs.acquire()).await.expect("acquired"));

    nodes[0].kill();
    nodes[1].kill();
    let killed = Instant::now();
    let (tried, (reason, lost)) = tokio::join!(
        soon("a try", theirs.try_acquire()),
        soon("the loss", async { (guard.lost().await, Instant::now()) })
    );
    let error = tried.expect_err("nobody can decide");
    assert!(
        matches!(
            error.kind(),
            ErrorKind::Unreachable | ErrorKind::Exhausted | ErrorKind::SessionLost(_)
        ),
        "{error}"
    );
    assert_eq!(reason, LossReason::Expired);
    // A leader without followers acknowledges renewals for up to two more election timeouts.
    assert!(lost - killed < ttl + Duration::from_secs(3));
    let error = soon("a listing", client().list("", None, 1)).await;
    let error = error.expect_err("nobody can decide");
    for node in &nodes {
        assert!(error.to_string().contains(&node.address()), "{error}");
    }

    assert!(nodes[0].resume().await, "etcd starts on its old data");
    drop(guard);
    let guard = soon("acquire", mutex.acquire_timeout(SOON)).await;
    assert!(guard.expect("no failure").is_some(), "it is free again");
}
