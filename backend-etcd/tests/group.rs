//! Transactions about different locks that go to etcd as one request.

mod support;

use std::collections::HashSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use backend_etcd::EtcdBackend;
use conformance::Proxy;
use futures_util::future::{FutureExt, join_all};
use lock_core::session::{Admission, Enqueued, Session};
use lock_core::{
    Backend, Effect, ErrorKind, LockName, LossReason, Metadata, Mode, Removed, Ticket,
};
use support::{Node, ask, backend, backend_of, enqueue};
use testkit::waiting::{soon, wait_until};

const TTL: Duration = Duration::from_secs(60);
/// As many requests go at once, each by itself.
const AT_ONCE: u64 = 4;

fn ticket(name: impl Into<String>, serial: u64) -> Ticket {
    Ticket {
        name: LockName::new(name.into()).expect("valid"),
        mode: Mode::Exclusive,
        serial,
        metadata: Arc::new(Metadata::default()),
    }
}

/// Polls the requests once. After that, each is under way or waits for another one.
fn begin(requests: &mut (impl Future + Unpin)) {
    let answered = requests.now_or_never().is_some();
    assert!(!answered, "nobody can have answered");
}

/// A client whose server can be made to stand still.
struct Stalled {
    etcd: Node,
    proxy: Proxy,
    backend: Arc<EtcdBackend>,
    session: Arc<dyn Session>,
}

/// Requests that the server does not answer before the test lets it.
type Fillers = Pin<Box<dyn Future<Output = ()>>>;

impl Stalled {
    async fn new() -> Self {
        Stalled::on(Node::start().await).await
    }

    async fn on(etcd: Node) -> Self {
        Stalled::within(etcd, Duration::from_secs(30)).await
    }

    async fn within(etcd: Node, limit: Duration) -> Self {
        let proxy = Proxy::start(etcd.address());
        let url = format!(
            "etcd://{}?request_timeout={}s",
            proxy.address(),
            limit.as_secs()
        );
        let backend = backend(&url);
        let session = soon("a session", backend.open_session(TTL)).await;
        let session = session.expect("opened");
        Stalled {
            etcd,
            proxy,
            backend,
            session,
        }
    }

    /// Makes the server stand still, with as many requests under way as go at once.
    async fn stall(&self) -> Fillers {
        self.proxy.hold();
        let mut fillers = Vec::new();
        for number in 0..AT_ONCE {
            let (session, kept) = (self.session.clone(), self.proxy.held_bytes());
            let ticket = ticket(format!("filler-{number}"), 1_000 + number);
            let mut filler = Box::pin(async move {
                enqueue(&session, &ticket).await.expect("queued");
            });
            begin(&mut filler);
            // With its headers, a request is longer than that; whatever else is said is shorter.
            wait_until("the request", || self.proxy.held_bytes() >= kept + 100).await;
            fillers.push(filler);
        }
        Box::pin(join_all(fillers).map(drop))
    }

    async fn resume<T>(&self, fillers: Fillers, work: impl Future<Output = T>) -> T {
        self.proxy.deliver();
        let ((), done) = soon("the answers", async { tokio::join!(fillers, work) }).await;
        done
    }
}

#[tokio::test]
async fn waiting_transactions_are_grouped_and_no_two_of_one_lock() {
    const LOCKS: usize = 16;
    const CONTENDERS: u64 = 8;
    let stalled = Stalled::new().await;
    let session = &stalled.session;
    let before = stalled.etcd.transactions().await;
    let fillers = stalled.stall().await;
    let others = (0..LOCKS).map(|number| ticket(format!("lock-{number}"), number as u64));
    let contenders = (0..CONTENDERS).map(|number| ticket("contended", 100 + number));
    let tickets: Vec<_> = others.chain(contenders).collect();
    let mut enqueues = Box::pin(join_all(tickets.iter().map(|t| enqueue(session, t))));
    begin(&mut enqueues);
    let placed: Vec<_> = stalled
        .resume(fillers, enqueues)
        .await
        .into_iter()
        .map(|placed| placed.expect("queued").entry)
        .collect();
    let spent = stalled.etcd.transactions().await - before;
    // One of the contenders waits with the others for its turn, and those whose assumption
    // was wrong look.
    let alone = AT_ONCE + CONTENDERS - 1;
    assert!(
        (alone + 1..=alone + 1 + CONTENDERS).contains(&spent),
        "{spent} transactions, where the rest is to be one"
    );

    let incarnations = |entries: &[lock_core::EntryId]| -> HashSet<_> {
        entries.iter().map(|entry| entry.incarnation).collect()
    };
    let (others, contenders) = placed.split_at(LOCKS);
    assert_eq!(incarnations(others).len(), 1, "one revision");
    assert_eq!(incarnations(contenders).len(), contenders.len(), "an order");

    let removals = tickets.iter().zip(&placed);
    let removals = removals.map(|(ticket, entry)| session.remove(ticket, Some(entry), &[]));
    for removed in soon("the removals", join_all(removals)).await {
        assert_eq!(removed.expect("no failure").removed, Removed::Removed);
    }
    let left = stalled.etcd.keys("turnlock/").await;
    assert_eq!(left.len() as u64, AT_ONCE, "{left:?}");
}

#[tokio::test]
async fn entries_that_wait_for_a_turn_are_not_sent_to_a_coordinator_that_is_silent() {
    const CONTENDERS: u64 = 300;
    /// One with a group, and those that have a turn at once.
    const SENT: usize = 1 + 64;
    let stalled = Stalled::within(Node::start().await, Duration::from_secs(1)).await;
    stalled.proxy.hold();
    let tickets: Vec<_> = (0..CONTENDERS).map(|n| ticket("contended", n)).collect();
    let enqueues = tickets.iter().map(|t| enqueue(&stalled.session, t));
    let errors = soon("the failures", join_all(enqueues)).await;
    let errors = errors
        .into_iter()
        .map(|placed| placed.expect_err("silence"));
    let (sent, unsent): (Vec<_>, Vec<_>) = errors.partition(|e| e.effect() == Effect::Unknown);
    assert_eq!(sent.len(), SENT);
    for error in sent.iter().chain(&unsent) {
        assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
    }

    // Those that ask after the failure are sent as ever.
    stalled.proxy.deliver();
    let again: Vec<_> = (0..CONTENDERS).map(|n| ticket("other", n)).collect();
    let enqueues = again.iter().map(|t| enqueue(&stalled.session, t));
    for placed in soon("places", join_all(enqueues)).await {
        placed.expect("queued");
    }
}

#[tokio::test]
async fn each_transaction_of_a_group_has_its_own_outcome() {
    let stalled = Stalled::new().await;
    let session = &stalled.session;
    let other = backend_of(&stalled.etcd).open_session(TTL).await;
    let other = other.expect("opened");
    let (held, free, gone, ours) = (
        ticket("held", 1),
        ticket("free", 2),
        ticket("gone", 3),
        ticket("ours", 4),
    );
    enqueue(&other, &held).await.expect("queued");
    let removed = enqueue(session, &gone).await.expect("queued").entry;
    let kept = enqueue(session, &ours).await.expect("queued").entry;
    let key = String::from_utf8(removed.key.to_vec()).expect("UTF-8");
    let mut client = stalled.etcd.client().await;
    client.delete(key, None).await.expect("deleted");

    let before = stalled.etcd.transactions().await;
    let fillers = stalled.stall().await;
    let mut together = Box::pin(async {
        tokio::join!(
            session.enqueue(&held, ask(), Admission::IfFree),
            session.enqueue(&free, ask(), Admission::IfFree),
            session.remove(&gone, Some(&removed), &[]),
            session.remove(&ours, Some(&kept), &[]),
        )
    });
    begin(&mut together);
    let (held, free, gone, ours) = stalled.resume(fillers, together).await;
    assert!(matches!(held, Ok(Enqueued::Busy)), "{held:?}");
    assert!(matches!(free, Ok(Enqueued::Placed(_))), "{free:?}");
    assert_eq!(gone.expect("no failure").removed, Removed::AlreadyGone);
    assert_eq!(ours.expect("no failure").removed, Removed::Removed);
    assert_eq!(stalled.etcd.transactions().await - before, AT_ONCE + 1);
}

#[tokio::test]
async fn the_end_of_a_lease_is_reported_to_its_own_session_only() {
    let stalled = Stalled::new().await;
    let lost = stalled.backend.open_session(TTL).await.expect("opened");
    let fillers = stalled.stall().await;
    let mut client = stalled.etcd.client().await;
    client.lease_revoke(lost.id().0).await.expect("revoked");
    let (ours, theirs) = (ticket("ours", 1), ticket("theirs", 1));
    let mut together =
        Box::pin(async { tokio::join!(enqueue(&stalled.session, &ours), enqueue(&lost, &theirs)) });
    begin(&mut together);
    let (ours, theirs) = stalled.resume(fillers, together).await;
    ours.expect("queued");
    let error = theirs.expect_err("its lease is gone");
    let gone = ErrorKind::SessionLost(LossReason::SessionGone);
    assert_eq!(error.kind(), gone, "{error}");
}

#[tokio::test]
async fn two_names_of_one_queue_are_not_grouped() {
    let stalled = Stalled::new().await;
    let raw = |name, serial| Ticket {
        name: LockName::raw(name).expect("valid"),
        ..ticket("x", serial)
    };
    let holder = backend_of(&stalled.etcd).open_session(TTL).await;
    let held = enqueue(&holder.expect("opened"), &raw("a", 1)).await;
    let held = held.expect("queued").entry;

    let fillers = stalled.stall().await;
    let (below, above) = (raw("a/b", 1), raw("a", 2));
    let mut both = Box::pin(async {
        tokio::join!(
            enqueue(&stalled.session, &below),
            enqueue(&stalled.session, &above)
        )
    });
    begin(&mut both);
    let (below, above) = stalled.resume(fillers, both).await;
    let (below, above) = (below.expect("queued"), above.expect("queued"));
    assert_ne!(below.entry.incarnation, above.entry.incarnation, "an order");
    let ahead = |id: &lock_core::EntryId| above.view.ahead.iter().any(|a| a.id == *id);
    assert!(ahead(&held) || ahead(&below.entry), "{above:?}");
}

#[tokio::test]
async fn transactions_too_many_for_one_request_go_one_by_one() {
    let few = ["--max-txn-ops", "8"].map(str::to_owned).into();
    let stalled = Stalled::on(Node::start_with(few, false).await).await;
    let fillers = stalled.stall().await;
    let tickets: Vec<_> = (0..16)
        .map(|number| ticket(format!("lock-{number}"), number))
        .collect();
    let enqueues = tickets.iter().map(|t| enqueue(&stalled.session, t));
    let mut enqueues = Box::pin(join_all(enqueues));
    begin(&mut enqueues);
    for placed in stalled.resume(fillers, enqueues).await {
        placed.expect("queued");
    }
}

#[tokio::test]
async fn a_transaction_dropped_while_it_waits_is_never_sent() {
    let stalled = Stalled::new().await;
    let session = &stalled.session;
    let before = stalled.etcd.transactions().await;
    let fillers = stalled.stall().await;
    let ticket = ticket("x", 1);
    {
        let mut enqueue = Box::pin(enqueue(session, &ticket));
        begin(&mut enqueue);
    }
    stalled.resume(fillers, async {}).await;
    assert_eq!(stalled.etcd.transactions().await - before, AT_ONCE);
    // Its lock is no longer taken for one that something is under way about.
    let removed = soon("remove", session.remove(&ticket, None, &[])).await;
    assert_eq!(removed.expect("no failure").removed, Removed::AlreadyGone);
    let again = soon("enqueue", enqueue(session, &ticket)).await;
    again.expect("queued");
}
