//! One queue with Curator, while our process keeps the lock between its holds.

mod support;

use std::time::Duration;

use lock_core::{LockName, Release, Sticky};
use support::{locks, soon};
use testkit::fixtures::zk::java::{self, Program};
use testkit::fixtures::zk::{Ensemble, Settings};

const TTL: Duration = Duration::from_secs(10);
const PATH: &str = "/jobs/kept";

#[tokio::test]
async fn curator_gets_a_lock_that_we_keep() {
    let ensemble = Ensemble::start(Settings::default());
    let locks = locks(&ensemble.url(), TTL);
    let name = LockName::raw(PATH).expect("valid");
    let sticky = Sticky::default()
        .with_idle(Duration::from_secs(3600))
        .with_cool_down(Duration::ZERO);
    let mutex = locks.mutex(name).expect("valid").sticky(sticky);
    let mutex = mutex.expect("in bounds");
    for turn in 0..3 {
        let guard = soon("acquire", mutex.acquire()).await.expect("acquired");
        assert_eq!(guard.turn(), turn);
        assert_eq!(guard.release().await.expect("kept"), Release::Kept);
    }
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("counter"), "0\n").expect("written");
    let servers = ensemble.connection_string();
    let path = folder.path().to_str().expect("text").to_owned();
    let theirs = tokio::task::spawn_blocking(move || {
        Program::compile("CuratorTurns", &java::curator())
            .run(&[&servers, PATH, "mutex", "20", &path]);
    });
    soon("Curator's turns", theirs)
        .await
        .expect("they are served");
    let counter = std::fs::read_to_string(folder.path().join("counter")).expect("read");
    assert_eq!(counter.trim(), "20");
    assert_eq!(mutex.sticky_stats().recalls, 1);
    let guard = soon("acquire", mutex.acquire()).await.expect("acquired");
    assert_eq!(guard.turn(), 0);
}
