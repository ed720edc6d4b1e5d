//! A lock that only one client uses is taken without a listing. The first other client is noticed
//! all the same.

mod support;

use std::time::Duration;

use lock_core::{LockName, Locks, Release};
use support::{acquire, locks, requests};
use testkit::fixtures::zk::{Ensemble, Settings};
use zookeeper_client::{Acls, Client, CreateMode};

/// So long that no ping and no renewal comes in between.
const TTL: Duration = Duration::from_secs(600);
const DIRECTORY: &str = "/jobs";
const MUTEX: CreateMode = CreateMode::EphemeralSequential;

async fn turns(locks: &Locks, turns: u32) {
    let name = LockName::raw(DIRECTORY).expect("valid");
    for _ in 0..turns {
        let guard = acquire(locks, &name).await;
        assert_eq!(guard.release().await.expect("an answer"), Release::Released);
    }
}

async fn client(ensemble: &Ensemble) -> Client {
    let client = Client::connect(&ensemble.connection_string()).await;
    client.expect("ZooKeeper serves")
}

/// Creates another client's node at the end of the queue. Returns its path.
async fn enter(client: &Client) -> String {
    let (path, options) = (
        format!("{DIRECTORY}/other-lock-"),
        MUTEX.with_acls(Acls::anyone_all()),
    );
    let (_, number) = client.create(&path, b"", &options).await.expect("created");
    format!("{path}{number}")
}

/// Checks that an acquire waits for the owner of this node, and for nobody else.
async fn waits_for(locks: &Locks, client: &Client, node: &str) {
    let name = LockName::raw(DIRECTORY).expect("valid");
    let mutex = locks.mutex(&name).expect("valid");
    let taken = mutex.acquire_timeout(Duration::from_millis(300)).await;
    assert!(taken.expect("no failure").is_none(), "somebody else has it");
    client.delete(node, None).await.expect("still there");
    let guard = acquire(locks, &name).await;
    assert_eq!(guard.release().await.expect("an answer"), Release::Released);
}

#[tokio::test]
async fn two_requests_are_a_turn() {
    let ensemble = Ensemble::start(Settings::default());
    let locks = locks(&ensemble.url(), TTL);
    turns(&locks, 5).await;
    let mut least = usize::MAX;
    for _ in 0..20 {
        let before = requests(&ensemble);
        turns(&locks, 5).await;
        // On a slow machine there are also pings, and watches on locks that are held for long.
        least = least.min(requests(&ensemble) - before);
    }
    // Two for each turn, and the question itself.
    assert_eq!(least, 11);
}

#[tokio::test]
async fn a_new_contender_is_seen() {
    let ensemble = Ensemble::start(Settings::default());
    let (locks, client) = (locks(&ensemble.url(), TTL), client(&ensemble).await);
    for _ in 0..3 {
        turns(&locks, 5).await;
        let node = enter(&client).await;
        waits_for(&locks, &client, &node).await;
        // A client that has left again is no reason to wait.
        turns(&locks, 5).await;
        let node = enter(&client).await;
        client.delete(&node, None).await.expect("still there");
    }
}

#[tokio::test]
async fn a_contender_in_a_new_directory_of_the_same_count_is_seen() {
    const TURNS: u32 = 5;
    let ensemble = Ensemble::start(Settings::default());
    let (locks, client) = (locks(&ensemble.url(), TTL), client(&ensemble).await);
    turns(&locks, TURNS).await;
    client.delete(DIRECTORY, None).await.expect("empty");
    let options = CreateMode::Persistent.with_acls(Acls::anyone_all());
    let made = client.create(DIRECTORY, b"", &options).await;
    made.expect("made anew");
    let mut node = String::new();
    for turn in 0..TURNS {
        if turn > 0 {
            client.delete(&node, None).await.expect("still there");
        }
        node = enter(&client).await;
    }
    // Our entry gets the number after that of our last one.
    assert!(node.ends_with(&format!("{:010}", TURNS - 1)), "{node}");
    waits_for(&locks, &client, &node).await;
}
