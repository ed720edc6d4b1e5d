//! What the tests share.

#![allow(dead_code, reason = "each test file uses its part")]

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use backend_etcd::{Config, EtcdBackend};
use conformance::Proxy;
use lock_core::rule::{self, Ask};
use lock_core::session::{Admission, Enqueued, Placed, Session};
use lock_core::{Error, Locks, Mode, Options, Ticket};
pub use testkit::fixtures::etcd::Node;

/// Generous: the machine may be busy with other things.
pub const SOON: Duration = Duration::from_secs(30);

/// A client of one node.
pub fn backend_of(node: &Node) -> Arc<EtcdBackend> {
    backend(&format!("etcd://{}", node.address()))
}

/// The locks of a process on one node.
pub fn locks_of(node: &Node, ttl: Duration) -> Locks {
    locks(backend_of(node), ttl)
}

/// A client of its own.
pub fn backend(url: &str) -> Arc<EtcdBackend> {
    EtcdBackend::new(Config::from_url(url).expect("a valid URL")).expect("a usable URL")
}

/// A process's locks.
pub fn locks(backend: Arc<EtcdBackend>, ttl: Duration) -> Locks {
    let options = Options::default().with_ttl(ttl);
    Locks::new(backend, options).expect("valid options")
}

/// Fails the test instead of hanging.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(SOON, future).await {
        Ok(value) => value,
        Err(_) => panic!("not within {SOON:?}: {what}"),
    }
}

/// Waits until something is so.
pub async fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let polled = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon(what, polled).await;
}

/// Lets the server have a request that was kept back, and waits until it has carried it out.
pub async fn deliver(proxy: &Proxy) {
    // An answer has 20 bytes at least; what comes before it (window updates, the acknowledgement of
    // a ping) has fewer.
    const ANSWER_BYTES: usize = 64;
    proxy.deliver();
    wait_until("an answer to the late request", || {
        proxy.unheard_bytes() >= ANSWER_BYTES
    })
    .await;
}

/// What one who wants a lock alone asks of its queue.
pub fn ask() -> Ask {
    rule::ask(Mode::Exclusive)
}

/// Puts somebody into a queue who takes whatever place there is.
pub async fn enqueue(session: &Arc<dyn Session>, ticket: &Ticket) -> Result<Placed, Error> {
    match session.enqueue(ticket, ask(), Admission::Always).await? {
        Enqueued::Placed(placed) => Ok(placed),
        Enqueued::Busy => panic!("everybody is taken in"),
    }
}
