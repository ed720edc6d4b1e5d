//! Lost replies: an entry is made once, belongs to its session, and leaves no ghost.

mod support;

use std::sync::Arc;
use std::time::Duration;

use backend_zk::{Config, ZkBackend};
use conformance::Proxy;
use lock_core::session::{Admission, Enqueued, Placed, Removed, Session};
use lock_core::{
    Backend, Effect, EntryId, Error, ErrorKind, LockName, Metadata, Mode, State, Ticket,
};
use lock_core::{retry, rule};
use support::{eventually, soon};
use testkit::fixtures::zk::{Ensemble, Settings};
use zookeeper_client::Client;

const TTL: Duration = Duration::from_secs(60);
/// The least size of an enqueue, in bytes. All other requests are shorter.
const NOTE_BYTES: usize = 1000;
const DIRECTORY: &str = "/jobs";

fn ticket(serial: u64) -> Ticket {
    let metadata = Metadata::default().with_note("x".repeat(NOTE_BYTES));
    Ticket {
        name: LockName::raw(DIRECTORY).expect("valid"),
        mode: Mode::Exclusive,
        serial,
        metadata: Arc::new(metadata),
    }
}

async fn enqueue(session: &Arc<dyn Session>, ticket: &Ticket) -> Result<Placed, Error> {
    let ask = rule::ask(Mode::Exclusive);
    match session.enqueue(ticket, ask, Admission::Always).await? {
        Enqueued::Placed(placed) => Ok(placed),
        Enqueued::Busy => panic!("everybody is taken in"),
    }
}

/// Repeats a request until it is answered, as the core does.
async fn enqueue_again(session: &Arc<dyn Session>, ticket: &Ticket) -> Placed {
    let tries = async {
        loop {
            match enqueue(session, ticket).await {
                Ok(placed) => return placed,
                Err(error) => assert!(error.is_retryable(), "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    soon("a place", tries).await
}

/// A session behind a proxy, with requests that time out after half a second.
struct Link {
    proxy: Proxy,
    session: Arc<dyn Session>,
    /// Reaches the servers without the proxy.
    observer: Client,
}

impl Link {
    async fn new(ensemble: &Ensemble) -> Self {
        let proxy = Proxy::start(ensemble.address(0));
        let others = (1..ensemble.size()).map(|node| format!(",{}", ensemble.address(node)));
        let servers = proxy.address() + &others.collect::<String>();
        Link::through(proxy, &servers, ensemble).await
    }

    async fn through(proxy: Proxy, servers: &str, ensemble: &Ensemble) -> Self {
        // A connection that is slow for a while must not be closed.
        let url = format!("zk://{servers}?request_timeout=500ms&connect_timeout=20s");
        let config = Config::from_url(&url).expect("valid");
        let backend = ZkBackend::new(config).expect("usable");
        let session = soon("a session", backend.open_session(TTL)).await;
        let observer = Client::connect(&ensemble.connection_string()).await;
        let link = Link {
            proxy,
            session: session.expect("opened"),
            observer: observer.expect("ZooKeeper serves"),
        };
        // The first enqueue creates the directories.
        let first = enqueue_again(&link.session, &ticket(1)).await;
        let removed = retry::remove(&*link.session, &ticket(1), Some(&first.entry)).await;
        assert_eq!(removed.expect("removed"), Removed::Removed);
        link
    }

    async fn nodes(&self) -> Vec<String> {
        self.observer.sync(DIRECTORY).await.expect("synced");
        let nodes = self.observer.list_children(DIRECTORY).await;
        nodes.expect("listed")
    }

    async fn count(&self, count: usize) {
        eventually("the nodes", async || self.nodes().await.len() == count).await;
    }

    /// Checks that the entry is the only node of the lock, and belongs to our session.
    async fn is_the_only_one(&self, entry: &EntryId) {
        let nodes = self.nodes().await;
        let path = String::from_utf8_lossy(&entry.key);
        assert_eq!(nodes.len(), 1, "{nodes:?}");
        assert_eq!(path, format!("{DIRECTORY}/{}", nodes[0]));
        let stat = self.observer.check_stat(&path).await.expect("read");
        let stat = stat.expect("it is there");
        assert_eq!(stat.ephemeral_owner, self.session.id().0);
        let incarnation = entry.incarnation.expect("known");
        assert_eq!(stat.czxid.cast_unsigned(), incarnation.get());
    }

    fn is_alive(&self) {
        let state = self.session.liveness().state();
        assert!(!matches!(state, State::Lost(_)), "{state:?}");
    }
}

fn unanswered(outcome: Result<Placed, Error>) {
    let error = outcome.expect_err("no answer");
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
    assert_eq!(error.effect(), Effect::Unknown, "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn late_replies_on_the_same_connection() {
    let ensemble = Ensemble::start(Settings::default());
    let link = Link::new(&ensemble).await;
    let ticket = ticket(2);
    let late = Duration::from_secs(1);

    link.proxy.delay(late);
    unanswered(enqueue(&link.session, &ticket).await);
    link.proxy.delay(Duration::ZERO);
    let placed = enqueue_again(&link.session, &ticket).await;
    assert!(placed.view.present && placed.view.ahead.is_empty());
    link.is_the_only_one(&placed.entry).await;
    let removed = soon(
        "removed",
        retry::remove(&*link.session, &ticket, Some(&placed.entry)),
    )
    .await;
    assert_eq!(removed.expect("done"), Removed::Removed);
    link.count(0).await;

    let ticket = self::ticket(3);
    let placed = enqueue_again(&link.session, &ticket).await;
    link.proxy.delay(late);
    let removing = retry::remove(&*link.session, &ticket, Some(&placed.entry));
    let hurry = async {
        link.count(0).await;
        link.proxy.delay(Duration::ZERO);
    };
    let (removed, ()) = tokio::join!(soon("removed", removing), hurry);
    // By the attempt whose reply was late.
    assert_eq!(removed.expect("done"), Removed::Removed);
    let again = retry::remove(&*link.session, &ticket, Some(&placed.entry)).await;
    assert_eq!(again.expect("done"), Removed::AlreadyGone);
    link.count(0).await;
    link.is_alive();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_replies_and_another_connection() {
    let ensemble = Ensemble::start(Settings::default());
    let link = Link::new(&ensemble).await;
    let ticket = ticket(2);

    link.proxy.mute();
    unanswered(enqueue(&link.session, &ticket).await);
    link.count(1).await;
    link.proxy.cut();
    let placed = enqueue_again(&link.session, &ticket).await;
    assert!(placed.view.present && placed.view.ahead.is_empty());
    link.is_the_only_one(&placed.entry).await;
    let removed = soon(
        "removed",
        retry::remove(&*link.session, &ticket, Some(&placed.entry)),
    )
    .await;
    assert_eq!(removed.expect("done"), Removed::Removed);
    link.count(0).await;

    let ticket = self::ticket(3);
    let placed = enqueue_again(&link.session, &ticket).await;
    link.proxy.mute();
    let removing = retry::remove(&*link.session, &ticket, Some(&placed.entry));
    let cut = async {
        link.count(0).await;
        link.proxy.cut();
    };
    let (removed, ()) = tokio::join!(soon("removed", removing), cut);
    assert_eq!(removed.expect("done"), Removed::Removed);
    link.count(0).await;
    link.is_alive();
    // An entry whose enqueue was never answered is removed all the same.
    let ticket = self::ticket(4);
    link.proxy.mute();
    unanswered(enqueue(&link.session, &ticket).await);
    link.count(1).await;
    link.proxy.cut();
    let removed = soon("removed", retry::remove(&*link.session, &ticket, None)).await;
    assert_eq!(removed.expect("done"), Removed::Removed);
    link.count(0).await;
    link.is_alive();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_enqueue_that_arrives_after_its_removal_through_a_server_that_was_left() {
    let ensemble = Ensemble::start(Settings {
        nodes: 3,
        ..Settings::default()
    });
    for serial in 2..6 {
        let link = Link::new(&ensemble).await;
        let ticket = ticket(serial);
        let before = link.proxy.held_bytes();
        link.proxy.hold();
        {
            let mut enqueue = Box::pin(enqueue(&link.session, &ticket));
            let polled = tokio::time::timeout(Duration::from_millis(200), &mut enqueue).await;
            // Another server may have answered it.
            if polled.is_err() {
                eventually("it is on its way", async || {
                    link.proxy.held_bytes() >= before + NOTE_BYTES
                })
                .await;
            }
        }
        link.proxy.cut();
        soon("removed", retry::remove(&*link.session, &ticket, None))
            .await
            .expect("done");
        link.proxy.deliver();
        // Long enough for the request to arrive. No event shows that it did.
        for _ in 0..50 {
            assert_eq!(link.nodes().await, Vec::<String>::new());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        link.is_alive();
    }
}
