//! One queue with etcd's own clients.

mod support;

use std::process::{Child, Stdio};
use std::time::Duration;

use etcd_client::LockOptions;
use lock_core::{LockName, Release, Sticky};
use support::{Node, locks_of};
use testkit::waiting::{SOON, soon};

const TTL: Duration = Duration::from_secs(10);

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn etcdctl_lock_and_we_exclude_each_other_on_a_raw_name() {
    let etcd = Node::start().await;
    let locks = locks_of(&etcd, TTL);
    let name = LockName::raw("jobs/nightly").expect("valid");
    let mutex = locks.mutex(&name).expect("valid");

    let guard = soon("acquire", mutex.acquire()).await.expect("acquired");
    let folder = tempfile::tempdir().expect("a folder");
    let [started, end] = ["started", "end"].map(|file| folder.path().join(file));
    let script = r#"touch "$0"; until test -e "$1"; do sleep 0.05; done"#;
    let child = etcd
        .ctl()
        .args(["lock", "--", "jobs/nightly", "sh", "-c", script])
        .args([&started, &end])
        .stdout(Stdio::null())
        .spawn()
        .expect("this test needs etcdctl: apt-get install etcd-client");
    let mut child = Killed(child);
    etcd.wait_keys("jobs/nightly/", 2).await;
    let queue = locks.queue(&name).await.expect("listed");
    assert_eq!(queue.holders(), 1);
    assert!(queue.entries[1].metadata.is_none(), "a stranger");

    let waiter = tokio::spawn({
        let mutex = mutex.clone();
        async move { mutex.acquire().await.expect("acquired") }
    });
    etcd.wait_keys("jobs/nightly/", 3).await;
    assert!(!started.exists(), "we hold it");
    assert_eq!(guard.release().await.expect("an answer"), Release::Released);
    let theirs = async {
        while !started.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon("etcdctl's turn", theirs).await;
    let refusal = mutex.try_acquire().await.expect("no failure");
    assert!(refusal.is_none(), "etcdctl holds it");
    assert!(!waiter.is_finished());
    std::fs::write(&end, "").expect("written");
    let guard = soon("our turn", waiter).await.expect("no panic");
    assert_eq!(guard.release().await.expect("an answer"), Release::Released);
    let status = tokio::task::spawn_blocking(move || child.0.wait());
    let status = soon("the end of etcdctl", status).await.expect("no panic");
    assert!(status.expect("waited").success());
}

#[tokio::test]
async fn the_lock_service_joins_the_same_queue() {
    let etcd = Node::start().await;
    let locks = locks_of(&etcd, TTL);
    let mutex = locks
        .mutex(LockName::raw("svc").expect("valid"))
        .expect("valid");
    let guard = soon("acquire", mutex.acquire()).await.expect("acquired");

    let mut client = etcd.client().await;
    let lease = client.lease_grant(60, None).await.expect("granted").id();
    let theirs = tokio::spawn(async move {
        let options = LockOptions::new().with_lease(lease);
        let locked = client.lock("svc", Some(options)).await.expect("locked");
        (client, locked.key().to_vec())
    });
    etcd.wait_keys("svc/", 2).await;
    assert!(!theirs.is_finished(), "we hold it");
    assert_eq!(guard.release().await.expect("an answer"), Release::Released);
    let (mut client, key) = soon("their turn", theirs).await.expect("no panic");
    assert!(mutex.try_acquire().await.expect("no failure").is_none());
    let ours = mutex.acquire_timeout(SOON);
    let unlock = async {
        etcd.wait_keys("svc/", 2).await;
        client.unlock(key).await.expect("unlocked");
    };
    let (guard, ()) = tokio::join!(ours, unlock);
    assert!(guard.expect("no failure").is_some());
}

#[tokio::test]
async fn etcdctl_gets_a_lock_that_we_keep() {
    let etcd = Node::start().await;
    let name = LockName::raw("jobs/kept").expect("valid");
    let mutex = locks_of(&etcd, TTL).mutex(name).expect("valid");
    let sticky = Sticky::default().with_idle(Duration::from_secs(3600));
    let mutex = mutex.sticky(sticky).expect("in bounds");
    for turn in 0..3 {
        let guard = soon("acquire", mutex.acquire()).await.expect("acquired");
        assert_eq!(guard.turn(), turn);
        assert_eq!(guard.release().await.expect("kept"), Release::Kept);
    }
    let theirs = etcd
        .ctl()
        .args(["lock", "jobs/kept", "true"])
        .stdout(Stdio::null())
        .spawn()
        .expect("this test needs etcdctl: apt-get install etcd-client");
    let mut theirs = Killed(theirs);
    let ended = tokio::task::spawn_blocking(move || theirs.0.wait());
    let ended = soon("etcdctl's turn", ended).await.expect("no panic");
    assert!(ended.expect("waited").success());
    assert_eq!(mutex.sticky_stats().recalls, 1);
    let guard = soon("acquire", mutex.acquire()).await.expect("acquired");
    assert_eq!(guard.turn(), 0);
}
