//! Helpers that the tests share.

#![allow(dead_code, reason = "each test file uses its part")]

use std::sync::Arc;
use std::time::Duration;

use backend_etcd::{Config, EtcdBackend};
use conformance::Proxy;
use lock_core::rule::{self, Ask};
use lock_core::session::{Admission, Enqueued, Placed, Session};
use lock_core::{Error, Locks, Mode, Options, Ticket};
pub use testkit::fixtures::etcd::Node;
use testkit::waiting::wait_until;

/// Returns a backend for one node.
pub fn backend_of(node: &Node) -> Arc<EtcdBackend> {
    backend(&format!("etcd://{}", node.address()))
}

/// Returns the locks of a process on one node.
pub fn locks_of(node: &Node, ttl: Duration) -> Locks {
    locks(backend_of(node), ttl)
}

/// Returns a backend with a client of its own.
pub fn backend(url: &str) -> Arc<EtcdBackend> {
    EtcdBackend::new(Config::from_url(url).expect("a valid URL")).expect("a usable URL")
}

/// Returns the locks of a process.
pub fn locks(backend: Arc<EtcdBackend>, ttl: Duration) -> Locks {
    let options = Options::default().with_ttl(ttl);
    Locks::new(backend, options).expect("valid options")
}

/// Sends the server a request that was held back, and waits until the server has executed it.
pub async fn deliver(proxy: &Proxy) {
    // An answer has at least 20 bytes. What comes before it has fewer: window updates, and the
    // acknowledgement of a ping.
    const ANSWER_BYTES: usize = 64;
    proxy.deliver();
    wait_until("an answer to the late request", || {
        proxy.undelivered_bytes() >= ANSWER_BYTES
    })
    .await;
}

/// Returns what an exclusive contender asks about its queue.
pub fn ask() -> Ask {
    rule::ask(Mode::Exclusive)
}

/// Enqueues a ticket that accepts any place.
pub async fn enqueue(session: &Arc<dyn Session>, ticket: &Ticket) -> Result<Placed, Error> {
    match session.enqueue(ticket, ask(), Admission::Always).await? {
        Enqueued::Placed(placed) => Ok(placed),
        Enqueued::Busy => panic!("everybody is taken in"),
    }
}
