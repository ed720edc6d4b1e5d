//! The end of the counter that numbers the entries of a queue: it is a signed number of 32 bits.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lock_core::{LockName, Release, Token};
use support::{acquire, depth, locks, soon};
use testkit::fixtures::zk::java::{self, Program};
use testkit::fixtures::zk::{Ensemble, Settings};
use tokio::sync::mpsc;

const TTL: Duration = Duration::from_secs(10);
const PATH: &str = "/queue";
const ACQUIRES: usize = 200;

/// Starts a server on which the counter of the lock reaches its end after half of the acquires.
async fn near_the_end() -> (Ensemble, LockName) {
    let name = LockName::raw(PATH).expect("valid");
    let mut ensemble = Ensemble::start(Settings::default());
    let first = locks(&ensemble.url(), TTL);
    let guard = acquire(&first, &name).await;
    assert_eq!(guard.release().await.expect("an answer"), Release::Released);
    first.close().await.expect("closed");

    ensemble.kill(0);
    let data = ensemble.data(0);
    // The server itself adds `version-2`.
    let data = data.parent().expect("a folder").display().to_string();
    let number = i32::MAX - i32::try_from(ACQUIRES / 2).expect("few");
    Program::compile("SetCounter", &java::zookeeper()).run(&[&data, PATH, &number.to_string()]);
    ensemble.restart(0);
    (ensemble, name)
}

#[tokio::test]
async fn turns_one_after_another_go_on_past_it() {
    let (ensemble, name) = near_the_end().await;
    let mut last = Token(0);
    let processes = [locks(&ensemble.url(), TTL), locks(&ensemble.url(), TTL)];
    for turn in 0..ACQUIRES {
        let guard = acquire(&processes[turn % 2], &name).await;
        assert!(guard.token() > last, "tokens rise");
        last = guard.token();
        assert_eq!(guard.release().await.expect("an answer"), Release::Released);
    }
}

#[tokio::test]
async fn a_queue_that_stands_across_it_keeps_its_order() {
    let (ensemble, name) = near_the_end().await;
    let processes: Vec<_> = (0..4).map(|_| locks(&ensemble.url(), TTL)).collect();
    let holder = acquire(&processes[0], &name).await;
    let (turns, mut order) = mpsc::unbounded_channel();
    for number in 0..ACQUIRES {
        let mutex = processes[number % 4].mutex(&name).expect("valid");
        let turns = turns.clone();
        tokio::spawn(async move {
            let guard = mutex.acquire().await.expect("our turn comes");
            let turn = (number, guard.token());
            turns.send(turn).expect("the test goes on");
            assert_eq!(guard.release().await.expect("an answer"), Release::Released);
        });
        depth(&processes[0], &name, number + 2).await;
    }
    let mut last = holder.token();
    assert_eq!(
        holder.release().await.expect("an answer"),
        Release::Released
    );
    for expected in 0..ACQUIRES {
        let turn = soon("the next turn", order.recv()).await;
        let (number, token) = turn.expect("all get a turn");
        assert_eq!(number, expected);
        assert!(token > last, "tokens rise");
        last = token;
    }
}

/// Nodes that are created together get other numbers there than those that are created one by one.
#[tokio::test]
async fn contenders_that_arrive_together_exclude_each_other() {
    let (ensemble, name) = near_the_end().await;
    let inside = Arc::new(AtomicBool::new(false));
    let processes: Vec<_> = (0..8).map(|_| locks(&ensemble.url(), TTL)).collect();
    let mut tasks = vec![];
    for task in 0..40 {
        let mutex = processes[task % 8].mutex(&name).expect("valid");
        let inside = inside.clone();
        tasks.push(tokio::spawn(async move {
            for _ in 0..10 {
                let guard = mutex.acquire().await.expect("our turn comes");
                assert!(!inside.swap(true, Ordering::SeqCst), "two are inside");
                tokio::time::sleep(Duration::from_micros(fastrand::u64(0..500))).await;
                inside.store(false, Ordering::SeqCst);
                assert_eq!(guard.release().await.expect("an answer"), Release::Released);
            }
        }));
    }
    for task in tasks {
        soon("all turns", task).await.expect("no panic");
    }
}
