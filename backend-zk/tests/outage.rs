//! While no server works, the clients that wait must not keep the servers from recovering.

mod support;

use std::time::Duration;

use support::{eventually, locks, name};
use testkit::fixtures::zk::{Ensemble, Settings};

#[tokio::test]
async fn servers_without_a_quorum_are_not_overrun() {
    let mut ensemble = Ensemble::start(Settings {
        nodes: 3,
        ..Settings::default()
    });
    let lone = ensemble.wait_leader();
    for node in 0..ensemble.size() {
        if node != lone {
            ensemble.kill(node);
        }
    }
    eventually("it notices", async || !ensemble.serves(lone)).await;
    let turned_away = || {
        let log = ensemble.log(lone);
        log.matches("ZooKeeperServer not running").count()
    };
    let before = turned_away();
    let url = format!("zk://{}", ensemble.address(lone));
    let mutex = locks(&url, Duration::from_secs(10))
        .mutex(name("a"))
        .expect("valid");
    let limit = Duration::from_secs(5);
    let error = mutex.acquire_timeout(limit).await;
    error.expect_err("nobody serves");
    let times = turned_away() - before;
    assert!((2..100).contains(&times), "{times} connections");
}
