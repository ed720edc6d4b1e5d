//! The locks of the core on a real etcd.

mod support;

use std::sync::Arc;
use std::time::Duration;

use lock_core::{LockName, Locks, Mode, Mutex, Release, State};
use support::{Node, locks_of};
use testkit::waiting::soon;
use tokio::sync::mpsc;

const TTL: Duration = Duration::from_secs(10);

fn mutex(locks: &Locks, name: &str) -> Mutex {
    locks.mutex(name).expect("a valid name")
}

#[tokio::test]
async fn an_uncontended_lock_is_held_and_released() {
    let etcd = Node::start().await;
    let locks = locks_of(&etcd, TTL);
    let mutex = mutex(&locks, "a/b");
    let guard = soon("acquire", mutex.acquire()).await.expect("acquired");
    assert_eq!(guard.state(), State::Held);
    assert!(guard.remaining() > Duration::from_secs(5));
    let keys = etcd.keys("").await;
    assert_eq!(keys.len(), 1, "{keys:?}");
    assert!(keys[0].starts_with("turnlock/a%2Fb/write/"), "{keys:?}");
    let refusal = mutex.try_acquire().await.expect("no failure");
    assert!(refusal.is_none(), "it is held");
    let first = guard.token();
    assert_eq!(guard.release().await.expect("an answer"), Release::Released);
    assert_eq!(etcd.keys("").await, Vec::<String>::new());
    let guard = mutex.try_acquire().await.expect("no failure");
    assert!(guard.expect("it is free").token() > first, "tokens rise");
    locks.close().await.expect("closed");
    let leases = etcd.client().await.leases().await.expect("leases");
    assert!(
        leases.leases().is_empty(),
        "a closed session leaves no lease"
    );
}

#[tokio::test]
async fn twenty_waiters_get_their_turn_in_order() {
    let etcd = Node::start().await;
    let holder = locks_of(&etcd, TTL);
    let guard = soon("acquire", mutex(&holder, "q").acquire())
        .await
        .expect("acquired");
    let (turns, mut order) = mpsc::unbounded_channel();
    // To etcd, these are two processes. The watches of each share a stream, and waiters of one wait
    // for those of the other.
    let clients = [locks_of(&etcd, TTL), locks_of(&etcd, TTL)];
    let mut waiting = Vec::new();
    for number in 0..20usize {
        let mutex = mutex(&clients[number % 2], "q");
        let turns = turns.clone();
        waiting.push(tokio::spawn(async move {
            let guard = mutex.acquire().await.expect("acquired");
            turns
                .send((number, guard.token()))
                .expect("the test goes on");
            guard.release().await.expect("an answer")
        }));
        etcd.wait_keys("turnlock/q/", number + 2).await;
    }
    assert!(order.try_recv().is_err(), "the lock is held");
    let mut last = guard.token();
    assert_eq!(guard.release().await.expect("an answer"), Release::Released);
    for expected in 0..20 {
        let turn = soon("the next turn", order.recv()).await;
        let (number, token) = turn.expect("twenty turns");
        assert_eq!(number, expected);
        assert!(token > last, "tokens rise");
        last = token;
    }
    for waiter in waiting {
        assert_eq!(waiter.await.expect("no panic"), Release::Released);
    }
}

#[tokio::test]
async fn readers_share_and_a_waiting_writer_stops_new_ones() {
    let etcd = Node::start().await;
    let clients = [locks_of(&etcd, TTL), locks_of(&etcd, TTL)];
    let [ours, theirs] = clients.map(|locks| locks.rwlock("rw").expect("a valid name"));
    let first = soon("read", ours.read()).await.expect("held");
    let second = soon("read", theirs.read()).await.expect("held together");
    assert!(theirs.try_write().await.expect("no failure").is_none());

    let writer = tokio::spawn({
        let ours = ours.clone();
        async move { ours.write().await.expect("held") }
    });
    etcd.wait_keys("turnlock/rw/write/", 1).await;
    let refusal = theirs.try_read().await.expect("no failure");
    assert!(refusal.is_none(), "a writer waits");
    let reader = tokio::spawn({
        let theirs = theirs.clone();
        async move { theirs.read().await.expect("held") }
    });
    etcd.wait_keys("turnlock/rw/read/", 3).await;

    drop(first);
    etcd.wait_keys("turnlock/rw/read/", 2).await;
    assert!(!writer.is_finished(), "a reader still holds");
    assert_eq!(
        second.release().await.expect("an answer"),
        Release::Released
    );
    let written = soon("the writer's turn", writer).await.expect("no panic");
    assert_eq!(written.mode(), Mode::Exclusive);
    assert!(!reader.is_finished(), "the writer holds");
    assert_eq!(
        written.release().await.expect("an answer"),
        Release::Released
    );
    let read = soon("the reader's turn", reader).await.expect("no panic");
    assert_eq!(read.mode(), Mode::Shared);
}

#[tokio::test]
async fn acquires_dropped_anywhere_leave_no_key_and_no_lease() {
    let etcd = Node::start().await;
    let locks = locks_of(&etcd, TTL);
    let held = soon("acquire", mutex(&locks, "held").acquire())
        .await
        .expect("acquired");
    let mut dropped = Vec::new();
    for round in 0..1000u64 {
        let mutex = mutex(&locks, if round % 2 == 0 { "held" } else { "free" });
        // From before the request is sent until some time into the wait.
        let limit = Duration::from_micros(round * round % 6007);
        dropped.push(tokio::spawn(async move {
            let _ = tokio::time::timeout(limit, mutex.acquire()).await;
        }));
        if round % 7 == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    for drop in dropped {
        drop.await.expect("no panic");
    }
    etcd.wait_keys("turnlock/free/", 0).await;
    let left = etcd.wait_keys("turnlock/held/", 1).await;
    assert_eq!(held.state(), State::Held);
    assert_eq!(
        held.release().await.expect("an answer"),
        Release::Released,
        "{left:?}"
    );
    let guard = soon("acquire", mutex(&locks, "held").acquire()).await;
    assert_eq!(
        guard.expect("acquired").release().await.expect("an answer"),
        Release::Released
    );
    drop(locks);
    etcd.wait_keys("", 0).await;
    let mut client = etcd.client().await;
    let gone = async {
        while !client
            .leases()
            .await
            .expect("etcd serves")
            .leases()
            .is_empty()
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon("the end of the lease", gone).await;
}

#[tokio::test]
async fn queues_are_listed_in_order_and_locks_page_by_page() {
    let etcd = Node::start().await;
    let locks = locks_of(&etcd, TTL);
    // More keys than one answer of the server has, and a lock whose keys are in two answers.
    let mut guards = Vec::new();
    for number in 0..90 {
        let lock = mutex(&locks, &format!("list/{number:02}"));
        guards.push(soon("acquire", lock.acquire()).await.expect("acquired"));
    }
    let mut readers = Vec::new();
    let shared = locks.rwlock("list/shared").expect("a valid name");
    for _ in 0..60 {
        readers.push(soon("read", shared.read()).await.expect("held"));
    }
    let writer = tokio::spawn({
        let shared = shared.clone();
        async move { shared.write().await }
    });
    etcd.wait_keys("turnlock/list%2Fshared/", 61).await;

    let queue = locks.queue(shared.name()).await.expect("listed");
    let entries = queue.entries.iter();
    let incarnations: Vec<_> = entries.map(|e| e.id.incarnation).collect();
    assert!(incarnations.is_sorted(), "{incarnations:?}");
    assert_eq!(queue.entries.len(), 61);
    assert_eq!(queue.holders(), 60);
    assert_eq!(queue.entries[0].token, readers[0].token());
    assert_eq!(queue.entries[60].mode, Mode::Exclusive);
    assert_eq!(queue.entries[0].session, locks.session_id());
    let metadata = queue.entries[0].metadata.as_ref().expect("ours");
    assert_eq!(metadata.pid, std::process::id());

    let all = locks.list("list/", None, 1000).await.expect("listed");
    assert_eq!(all.len(), 91);
    assert_eq!(all[90], queue);
    let first = locks.list("list/", None, 50).await.expect("listed");
    assert_eq!(first, all[..50]);
    let rest = locks.list("list/", Some(&first[49].name), 1000).await;
    assert_eq!(rest.expect("listed"), all[50..]);
    assert_eq!(
        locks
            .list("list/4", None, 1000)
            .await
            .expect("listed")
            .len(),
        10
    );
    assert!(locks.list("", None, 0).await.expect("listed").is_empty());
    let nobody = LockName::new("nobody").expect("valid");
    assert!(
        locks
            .queue(&nobody)
            .await
            .expect("listed")
            .entries
            .is_empty()
    );
    writer.abort();
}

#[tokio::test]
async fn a_try_takes_a_free_lock_and_writes_nothing_otherwise() {
    let etcd = Node::start().await;
    let (ours, theirs) = (locks_of(&etcd, TTL), locks_of(&etcd, TTL));
    let [ours, theirs] = [ours, theirs].map(|locks| locks.rwlock("try").expect("valid"));
    let read = soon("read", ours.try_read()).await.expect("no failure");
    let read = read.expect("it is free");
    let also = soon("read", theirs.try_read()).await.expect("no failure");
    let also = also.expect("readers share");
    let revision = etcd.revision().await;
    assert!(theirs.try_write().await.expect("no failure").is_none());
    assert_eq!(etcd.revision().await, revision, "nothing was written");
    assert_eq!(also.release().await.expect("an answer"), Release::Released);
    assert_eq!(read.release().await.expect("an answer"), Release::Released);
    let write = soon("write", ours.try_write()).await.expect("no failure");
    let write = write.expect("it is free");
    let revision = etcd.revision().await;
    assert!(theirs.try_read().await.expect("no failure").is_none());
    assert_eq!(etcd.revision().await, revision, "nothing was written");
    assert_eq!(write.release().await.expect("an answer"), Release::Released);
}

/// Polls a future on this thread, without a runtime.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut context = std::task::Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        if let std::task::Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        std::thread::park();
    }
}

#[test]
fn any_executor_will_do_and_a_blocked_one_loses_nothing() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime for the test");
    let etcd = runtime.block_on(Node::start());
    let ttl = Duration::from_secs(2);
    let (ours, theirs) = (locks_of(&etcd, ttl), locks_of(&etcd, ttl));
    let guard = block_on(mutex(&ours, "x").acquire()).expect("acquired");
    let waiter = std::thread::spawn(move || {
        let guard = block_on(mutex(&theirs, "x").acquire()).expect("acquired");
        block_on(guard.release()).expect("an answer")
    });
    // None of our futures is polled for two times to live.
    std::thread::sleep(ttl * 2);
    assert_eq!(guard.state(), State::Held);
    assert!(!waiter.is_finished());
    assert_eq!(
        block_on(guard.release()).expect("an answer"),
        Release::Released
    );
    assert_eq!(waiter.join().expect("no panic"), Release::Released);
    block_on(ours.close()).expect("closed");
}
