//! Faults of the network and the server, with a real etcd.

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use conformance::Proxy;
use lock_core::session::{AsOf, Session};
use lock_core::{
    Backend, ErrorKind, LockName, LossReason, Metadata, Mode, Release, State, Ticket, Watcher,
    retry,
};
use support::{Node, ask, backend, backend_of, deliver, enqueue, locks, locks_of};
use testkit::waiting::{SOON, soon, wait_until};
use tokio::sync::mpsc;

const TTL: Duration = Duration::from_secs(10);

/// The size of a note. It makes an enqueue longer than all other requests.
const NOTE_BYTES: usize = 1000;

fn ticket(name: &str, serial: u64) -> Ticket {
    let metadata = Metadata::default().with_note("x".repeat(NOTE_BYTES));
    Ticket {
        name: LockName::new(name).expect("valid"),
        mode: Mode::Exclusive,
        serial,
        metadata: Arc::new(metadata),
    }
}

/// Opens a session through a proxy, with requests that time out after half a second.
async fn proxied(etcd: &Node) -> (Proxy, Arc<dyn Session>) {
    let proxy = Proxy::start(etcd.address());
    let url = format!("etcd://{}?request_timeout=500ms", proxy.address());
    let session = soon("a session", backend(&url).open_session(TTL)).await;
    (proxy, session.expect("opened"))
}

#[tokio::test]
async fn an_entry_put_back_by_hand_is_not_ours() {
    let etcd = Node::start().await;
    let session = backend_of(&etcd).open_session(TTL).await.expect("opened");
    let ticket = ticket("x", 1);
    let entry = enqueue(&session, &ticket).await.expect("queued").entry;
    let key = etcd.keys("turnlock/x/").await.remove(0);
    let mut client = etcd.client().await;
    client.delete(key.clone(), None).await.expect("deleted");
    client.put(key.clone(), "", None).await.expect("put");
    let view = session
        .look(&ticket, &entry, ask(), AsOf::Now)
        .await
        .expect("looked");
    assert!(!view.present);
    soon("the change", session.watch(&entry, Watcher::Owner))
        .await
        .expect("told at once");
    let removed = retry::remove(&*session, &ticket, Some(&entry)).await;
    assert_eq!(
        removed.expect("no failure"),
        lock_core::Removed::AlreadyGone
    );
    assert_eq!(etcd.keys("turnlock/x/").await, [key], "another incarnation");
}

#[tokio::test]
async fn a_request_that_arrives_after_the_removal_makes_no_ghost() {
    let etcd = Node::start().await;
    let (proxy, session) = proxied(&etcd).await;
    let ticket = ticket("x", 1);

    // The enqueue reaches the socket of a server that stands still. Then its future is dropped.
    proxy.hold();
    {
        let mut enqueue = Box::pin(enqueue(&session, &ticket));
        while proxy.held_bytes() < NOTE_BYTES {
            let slice = Duration::from_millis(5);
            let polled = tokio::time::timeout(slice, &mut enqueue).await;
            assert!(polled.is_err(), "nobody can have answered");
        }
    }
    proxy.cut();
    // It cannot know whether it found something if its own first attempt was cut off, too.
    let removed = soon("remove", retry::remove(&*session, &ticket, None)).await;
    removed.expect("done");

    deliver(&proxy).await;
    assert_eq!(etcd.keys("turnlock/x/").await, Vec::<String>::new());

    let next = self::ticket("x", 2);
    let enqueued = soon("enqueue", enqueue(&session, &next)).await;
    assert!(enqueued.expect("queued").view.ahead.is_empty());
}

#[tokio::test]
async fn a_lost_reply_makes_one_entry_and_no_ghost_after_its_removal() {
    let etcd = Node::start().await;
    let (proxy, session) = proxied(&etcd).await;
    let ticket = ticket("x", 1);

    proxy.hold();
    // The connection is cut before our deadline, so that no reset of the request reaches the
    // server.
    let cut = async {
        wait_until("the request", || proxy.held_bytes() >= NOTE_BYTES).await;
        proxy.cut();
    };
    let first = soon("enqueue", enqueue(&session, &ticket));
    let (failed, ()) = tokio::join!(first, cut);
    let error = failed.expect_err("no answer");
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
    assert_eq!(error.effect(), lock_core::Effect::Unknown);
    assert!(error.to_string().contains(&proxy.address()), "{error}");
    // On another connection, while the first request is still under way.
    let enqueued = soon("enqueue", enqueue(&session, &ticket)).await;
    let entry = enqueued.expect("queued").entry;
    let removed = soon("remove", retry::remove(&*session, &ticket, Some(&entry))).await;
    assert_eq!(removed.expect("done"), lock_core::Removed::Removed);

    deliver(&proxy).await;
    assert_eq!(etcd.keys("turnlock/x/").await, Vec::<String>::new());
}

#[tokio::test]
async fn a_removal_that_arrives_late_leaves_the_next_user_of_the_key_alone() {
    let etcd = Node::start().await;
    let (proxy, session) = proxied(&etcd).await;
    let first = ticket("x", 1);
    let entry = enqueue(&session, &first).await.expect("queued").entry;

    proxy.hold();
    let cut = async {
        wait_until("the request", || proxy.held_bytes() > 0).await;
        proxy.cut();
    };
    let removal = soon("remove", retry::remove(&*session, &first, Some(&entry)));
    let (removed, ()) = tokio::join!(removal, cut);
    assert_eq!(removed.expect("done"), lock_core::Removed::Removed);
    let next = enqueue(&session, &ticket("x", 2)).await.expect("queued");
    assert_eq!(next.entry.key, entry.key, "the key is used again");
    assert!(
        next.entry.incarnation > entry.incarnation,
        "in another incarnation"
    );

    deliver(&proxy).await;
    assert_eq!(etcd.keys("turnlock/x/").await.len(), 1);
}

#[tokio::test]
async fn a_removal_tried_again_after_the_session_ended_does_not_claim_to_have_done_it() {
    let etcd = Node::start().await;
    let proxy = Proxy::start(etcd.address());
    let url = format!("etcd://{}?request_timeout=1s", proxy.address());
    let session = backend(&url).open_session(Duration::from_secs(2)).await;
    let session = session.expect("opened");
    let ticket = ticket("x", 1);
    let entry = enqueue(&session, &ticket).await.expect("queued").entry;

    proxy.silence();
    soon("the loss", session.liveness().lost()).await;
    let removal = tokio::spawn({
        let session = session.clone();
        async move { retry::remove(&*session, &ticket, Some(&entry)).await }
    });
    // Its first try is given up; it goes on trying for five seconds.
    tokio::time::sleep(Duration::from_millis(1200)).await;
    etcd.wait_keys("turnlock/x/", 0).await;
    proxy.resume();
    let removed = soon("the answer", removal).await.expect("no panic");
    assert_eq!(
        removed.expect("an answer"),
        lock_core::Removed::AlreadyGone,
        "what the server did when the session ended"
    );
}

#[tokio::test]
async fn a_key_whose_enqueue_may_arrive_late_is_not_used_again() {
    let etcd = Node::start().await;
    let (proxy, session) = proxied(&etcd).await;
    let first = ticket("x", 1);

    proxy.hold();
    let cut = async {
        wait_until("the request", || proxy.held_bytes() >= NOTE_BYTES).await;
        proxy.cut();
    };
    let (failed, ()) = tokio::join!(soon("enqueue", enqueue(&session, &first)), cut);
    failed.expect_err("no answer");
    soon("remove", retry::remove(&*session, &first, None))
        .await
        .expect("done");
    let next = enqueue(&session, &ticket("x", 2)).await.expect("queued");
    deliver(&proxy).await;
    let keys = etcd.keys("turnlock/x/").await;
    assert_eq!(keys, [String::from_utf8_lossy(&next.entry.key)]);
    assert!(keys[0].ends_with("-2"), "{keys:?}");
}

#[tokio::test]
async fn retries_after_lost_replies_find_the_earlier_effect() {
    let etcd = Node::start().await;
    let (proxy, session) = proxied(&etcd).await;
    let ticket = ticket("x", 1);

    proxy.mute();
    let failed = soon("enqueue", enqueue(&session, &ticket)).await;
    assert!(failed.expect_err("no answer").is_retryable());
    let keys = etcd.wait_keys("turnlock/x/", 1).await;
    let created = etcd.revision().await;
    let mut client = etcd.client().await;
    client.put("elsewhere", "", None).await.expect("put");
    let enqueued = soon("enqueue", enqueue(&session, &ticket)).await;
    let enqueued = enqueued.expect("found");
    assert_eq!(&*enqueued.entry.key, keys[0].as_bytes());
    let incarnation = enqueued.entry.incarnation.expect("known");
    assert_eq!(incarnation.get(), created.unsigned_abs());
    assert!(enqueued.view.present && enqueued.view.ahead.is_empty());

    proxy.mute();
    let removed = soon(
        "remove",
        retry::remove(&*session, &ticket, Some(&enqueued.entry)),
    )
    .await;
    assert_eq!(
        removed.expect("done"),
        lock_core::Removed::Removed,
        "by the try whose reply was lost"
    );
    assert_eq!(etcd.keys("turnlock/x/").await, Vec::<String>::new());
    let again = retry::remove(&*session, &ticket, Some(&enqueued.entry)).await;
    assert_eq!(again.expect("done"), lock_core::Removed::AlreadyGone);
    assert!(matches!(
        session.liveness().state(),
        State::Held | State::Jeopardy
    ));
}

#[tokio::test]
async fn a_server_killed_and_started_again_changes_nothing_for_holder_and_queue() {
    let mut etcd = Node::start().await;
    let holder = locks_of(&etcd, TTL);
    let mutex = holder.mutex("x").expect("valid");
    let guard = soon("acquire", mutex.acquire()).await.expect("acquired");
    let token = guard.token();
    let (turns, mut order) = mpsc::unbounded_channel();
    let clients: Vec<_> = (0..10).map(|_| locks_of(&etcd, TTL)).collect();
    for (number, client) in clients.iter().enumerate() {
        let (mutex, turns) = (client.mutex("x").expect("valid"), turns.clone());
        tokio::spawn(async move {
            let guard = mutex.acquire().await;
            turns.send(number).expect("the test goes on");
            guard.expect("acquired").release().await.expect("an answer")
        });
        etcd.wait_keys("turnlock/x/", number + 2).await;
    }

    etcd.kill();
    assert!(etcd.resume().await, "etcd starts on its old data");
    assert!(!matches!(guard.state(), State::Lost(_)), "{guard:?}");
    assert_eq!(guard.token(), token);
    wait_until("a renewal", || guard.state() == State::Held).await;
    assert_eq!(etcd.keys("turnlock/x/").await.len(), 11);
    assert_eq!(
        soon("release", guard.release()).await.expect("an answer"),
        Release::Released
    );
    for expected in 0..10 {
        let number = soon("the next turn", order.recv()).await;
        assert_eq!(number, Some(expected));
    }
}

#[tokio::test]
async fn a_server_that_stands_still_costs_the_lock_by_the_deadline_and_no_later() {
    let etcd = Node::start().await;
    let ttl = Duration::from_secs(2);
    let locks = locks_of(&etcd, ttl);
    let mutex = locks.mutex("x").expect("valid");
    let guard = soon("acquire", mutex.acquire()).await.expect("acquired");
    wait_until("a renewal", || guard.state() == State::Held).await;
    etcd.signal("-STOP");
    let stopped = Instant::now();
    wait_until("jeopardy", || guard.state() != State::Held).await;
    let reason = soon("the loss", guard.lost()).await;
    assert_eq!(reason, LossReason::Expired);
    assert!(stopped.elapsed() < ttl + Duration::from_secs(1));
    etcd.signal("-CONT");
    // A late answer revives nothing; the next acquire has a session of its own.
    assert_eq!(guard.state(), State::Lost(LossReason::Expired));
    drop(guard);
    let guard = soon("acquire", mutex.acquire_timeout(SOON)).await;
    let guard = guard.expect("no failure").expect("free");
    assert_eq!(guard.release().await.expect("an answer"), Release::Released);
}

#[tokio::test]
async fn a_waiter_is_granted_over_another_stream_after_its_own_went_silent() {
    let etcd = Node::start().await;
    let proxy = Proxy::start(etcd.address());
    let url = format!("etcd://{}?request_timeout=500ms", proxy.address());
    // Renewals every two minutes cannot be what finds out.
    let waiter = locks(backend(&url), 60 * TTL);
    let holder = locks_of(&etcd, TTL);
    let mutex = holder.mutex("x").expect("valid");
    let guard = soon("acquire", mutex.acquire()).await.expect("acquired");
    let mutex = waiter.mutex("x").expect("valid");
    let waiting = tokio::spawn(async move {
        let guard = mutex.acquire().await.expect("acquired");
        (Instant::now(), guard.release().await.expect("an answer"))
    });
    etcd.wait_keys("turnlock/x/", 2).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    proxy.mute();
    let released = Instant::now();
    assert_eq!(guard.release().await.expect("an answer"), Release::Released);
    let (granted, release) = soon("the waiter's turn", waiting).await.expect("no panic");
    assert_eq!(release, Release::Released);
    // Sooner than any look of the core's own.
    let waited = granted - released;
    assert!(waited < Duration::from_millis(4500), "{waited:?}");
}

#[tokio::test]
async fn a_compaction_during_a_wait_does_not_disturb_it() {
    let etcd = Node::start().await;
    let (holder, waiter) = (locks_of(&etcd, TTL), locks_of(&etcd, TTL));
    let mutex = holder.mutex("x").expect("valid");
    let guard = soon("acquire", mutex.acquire()).await.expect("acquired");
    let mutex = waiter.mutex("x").expect("valid");
    let waiting = tokio::spawn(async move { mutex.acquire().await });
    etcd.wait_keys("turnlock/x/", 2).await;
    let mut client = etcd.client().await;
    for round in 0..10 {
        client
            .put("elsewhere", round.to_string(), None)
            .await
            .expect("put");
        let now = etcd.revision().await;
        let physical = etcd_client::CompactionOptions::new().with_physical();
        client
            .compact(now, Some(physical))
            .await
            .expect("compacted");
    }
    assert!(!waiting.is_finished());
    let released = Instant::now();
    assert_eq!(guard.release().await.expect("an answer"), Release::Released);
    let guard = soon("the waiter's turn", waiting).await.expect("no panic");
    assert_eq!(
        guard.expect("granted").release().await.expect("an answer"),
        Release::Released
    );
    // Sooner than any look of the core's own.
    assert!(released.elapsed() < Duration::from_millis(4500));
}

#[tokio::test]
async fn a_dead_address_is_named_in_good_time() {
    let address = format!("127.0.0.1:{}", testkit::fixtures::free_port());
    let locks = locks(backend(&format!("etcd://{address}")), TTL);
    let mutex = locks.mutex("x").expect("valid");
    let started = Instant::now();
    let error = mutex.try_acquire().await.expect_err("nobody is there");
    assert!(started.elapsed() < Duration::from_secs(5), "no hang");
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    assert!(error.to_string().contains(&address), "{error}");
    let error = locks.list("", None, 1).await.expect_err("nobody is there");
    assert_eq!(error.kind(), ErrorKind::Unreachable);
}

#[tokio::test]
async fn a_dead_member_is_passed_over() {
    let etcd = Node::start().await;
    let dead = testkit::fixtures::free_port();
    let url = format!("etcd://127.0.0.1:{dead},{}", etcd.address());
    let locks = locks(backend(&url), TTL);
    let mutex = locks.mutex("x").expect("valid");
    let guard = soon("acquire", mutex.acquire()).await.expect("acquired");
    assert_eq!(guard.release().await.expect("an answer"), Release::Released);
}

#[tokio::test]
async fn a_session_that_is_dropped_or_closed_is_not_renewed() {
    let etcd = Node::start().await;
    let ttl = Duration::from_secs(1);
    let session = backend_of(&etcd).open_session(ttl).await.expect("opened");
    let enqueued = enqueue(&session, &ticket("x", 1)).await;
    assert!(enqueued.expect("queued").view.present);
    // Longer than the lease lives by itself.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(etcd.keys("").await.len(), 1, "it is renewed");
    drop(session);
    etcd.wait_keys("", 0).await;

    let session = backend_of(&etcd).open_session(TTL).await.expect("opened");
    let queued = enqueue(&session, &ticket("x", 1)).await.expect("queued");
    session.close().await.expect("closed");
    assert_eq!(etcd.keys("").await, Vec::<String>::new());
    assert_eq!(session.liveness().state(), State::Lost(LossReason::Closed));
    let error = enqueue(&session, &ticket("x", 2)).await;
    let kind = error.expect_err("over").kind();
    assert_eq!(kind, ErrorKind::SessionLost(LossReason::Closed));
    let removed = retry::remove(&*session, &ticket("x", 1), Some(&queued.entry)).await;
    assert_eq!(removed.expect("done"), lock_core::Removed::AlreadyGone);
    session.close().await.expect("closing twice does no harm");
}

#[tokio::test]
async fn opening_a_session_that_nobody_waits_for_leaves_no_lease() {
    let etcd = Node::start().await;
    let backend = backend_of(&etcd);
    for micros in [0, 50, 200, 500, 1000, 2000, 4000] {
        let open = backend.open_session(Duration::from_secs(600));
        let opened = tokio::time::timeout(Duration::from_micros(micros), open).await;
        if let Ok(session) = opened {
            session.expect("opened").close().await.expect("closed");
        }
    }
    let mut client = etcd.client().await;
    let mut leases = usize::MAX;
    for _ in 0..300 {
        let answer = client.leases().await.expect("leases");
        leases = answer.leases().len();
        if leases == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{leases} leases are left");
}
