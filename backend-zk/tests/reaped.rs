//! The server removes the directory of a lock that has no entries. The lock still works.

mod support;

use std::time::Duration;

use lock_core::{LockName, Release, Token};
use support::{acquire, eventually, locks, name};
use testkit::fixtures::zk::{Ensemble, Settings};
use zookeeper_client::Client;

const TTL: Duration = Duration::from_secs(10);

fn reaping_every_ms(interval: u32) -> Ensemble {
    Ensemble::start(Settings {
        properties: vec![
            format!("znode.container.checkIntervalMs={interval}"),
            "znode.container.maxPerMinute=1000000".to_owned(),
        ],
        ..Settings::default()
    })
}

#[tokio::test]
async fn tokens_rise_although_the_parent_was_reaped_between_the_rounds() {
    let ensemble = reaping_every_ms(50);
    let client = Client::connect(&ensemble.connection_string()).await;
    let client = client.expect("the server serves");
    let path = "/jobs/nightly";
    let lock = LockName::raw(path).expect("valid");
    let locks = locks(&ensemble.url(), TTL);
    let mut last = Token(0);
    for _ in 0..5 {
        let guard = acquire(&locks, &lock).await;
        assert!(guard.token() > last, "tokens rise");
        last = guard.token();
        assert_eq!(guard.release().await.expect("an answer"), Release::Released);
        eventually("the parent is reaped", async || {
            let parent = client.check_stat(path).await;
            parent.expect("the server serves").is_none()
        })
        .await;
    }
}

#[tokio::test]
async fn acquires_that_meet_the_reaping_go_through() {
    let ensemble = reaping_every_ms(1);
    let processes = [locks(&ensemble.url(), TTL), locks(&ensemble.url(), TTL)];
    let tasks = processes.map(|locks| {
        tokio::spawn(async move {
            let mut last = Token(0);
            for turn in 0..300 {
                // Some meet each other, and some find an empty directory.
                let guard = acquire(&locks, &name(&format!("a/{}", turn % 3))).await;
                assert!(guard.token() > last, "tokens rise");
                last = guard.token();
                assert_eq!(guard.release().await.expect("an answer"), Release::Released);
                tokio::time::sleep(Duration::from_millis(fastrand::u64(0..4))).await;
            }
        })
    });
    for task in tasks {
        task.await.expect("no panic");
    }
}
