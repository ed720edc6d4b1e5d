//! A real etcd that reaches its quota among many writes. It carries out those that are under way,
//! and answers that there was no room for them.

mod support;

use std::sync::Arc;
use std::time::Duration;

use etcd_client::GetOptions;
use futures_util::future::join_all;
use lock_core::session::Session;
use lock_core::{
    Backend, Effect, EntryId, Error, ErrorKind, Guard, LockName, Metadata, Mode, Release, Removed,
    Ticket,
};
use support::{Node, backend_of, enqueue, locks_of};
use testkit::waiting::soon;

const TTL: Duration = Duration::from_secs(60);

/// How many writes are under way at once.
const WRITERS: usize = 64;

/// How many times an etcd may happen to store no value that it refuses.
const TRIES: usize = 10;

/// The bytes of a value, and of what an entry says.
const BYTES: usize = 8_000;

/// Starts an etcd that is soon full. It learns its size whenever it writes its store to the disk.
async fn small_etcd() -> Node {
    let arguments = ["--quota-backend-bytes=4194304", "--backend-batch-limit=20"];
    Node::start_with(arguments.map(str::to_owned).to_vec(), false).await
}

fn is_unknown(error: &Error) -> bool {
    assert_eq!(error.kind(), ErrorKind::Exhausted, "{error}");
    error.effect() == Effect::Unknown
}

fn ticket(serial: usize) -> Ticket {
    Ticket {
        name: LockName::new("a").expect("valid"),
        mode: Mode::Exclusive,
        serial: serial as u64,
        metadata: Arc::new(Metadata::default().with_note("x".repeat(BYTES))),
    }
}

/// Enqueues until the etcd is full. Returns the entries that were made, and the error.
async fn enqueue_all(session: &Arc<dyn Session>, writer: usize) -> (Vec<(Ticket, EntryId)>, Error) {
    let mut made = Vec::new();
    loop {
        let ticket = ticket(made.len() * WRITERS + writer);
        match enqueue(session, &ticket).await {
            Ok(placed) => made.push((ticket, placed.entry)),
            Err(error) => return (made, error),
        }
    }
}

async fn count_entries(etcd: &Node) -> i64 {
    let options = GetOptions::new().with_prefix().with_count_only();
    let entries = etcd.client().await.get("turnlock/a/", Some(options)).await;
    entries.expect("a full etcd still reads").count()
}

#[tokio::test]
async fn every_entry_that_a_full_etcd_has_made_is_known_and_can_be_removed() {
    let etcd = small_etcd().await;
    let session = backend_of(&etcd).open_session(TTL).await.expect("opened");
    let enqueues = join_all((0..WRITERS).map(|writer| enqueue_all(&session, writer)));
    let ended = soon("a full etcd", enqueues).await;
    assert!(!ended.iter().any(|(_, error)| is_unknown(error)));
    let made: Vec<_> = ended.into_iter().flat_map(|(made, _)| made).collect();
    assert_eq!(count_entries(&etcd).await, made.len() as i64);
    for (ticket, entry) in &made {
        let removal = session.remove(ticket, Some(entry), &[]).await;
        assert_eq!(
            removal.expect("a removal needs no room").removed,
            Removed::Removed
        );
    }
    assert_eq!(count_entries(&etcd).await, 0);
}

/// Stores values until the etcd is full. Returns the last value, and the error.
async fn put_all(guard: &Guard, key: &str) -> (Vec<u8>, Error) {
    let mut values = 0_u64;
    loop {
        values += 1;
        let mut value = vec![b'x'; BYTES];
        value[..8].copy_from_slice(&values.to_be_bytes());
        if let Err(error) = guard.put(key, value.clone()).await {
            return (value, error);
        }
    }
}

/// Lets many holders store values until an etcd is full. Returns whether the etcd has stored a value that
/// it has refused.
async fn store_until_full() -> bool {
    let etcd = small_etcd().await;
    let locks = locks_of(&etcd, TTL);
    let put = async |writer: usize| {
        let name = format!("a{writer}");
        let lock = locks.mutex(&*name).expect("valid");
        let guard = lock.acquire().await.expect("free");
        let (value, error) = put_all(&guard, &name).await;
        let stored = locks.get(&name).await.expect("a full etcd still reads");
        let is_stored = stored.is_some_and(|stored| *stored == *value);
        assert_eq!(is_stored, is_unknown(&error), "{error}");
        let released = guard.release().await.expect("a release needs no room");
        assert_eq!(released, Release::Released);
        is_stored
    };
    let stored = soon("a full etcd", join_all((0..WRITERS).map(put))).await;
    stored.contains(&true)
}

#[tokio::test]
async fn a_value_that_a_full_etcd_has_stored_is_not_called_none() {
    for _ in 0..TRIES {
        if store_until_full().await {
            return;
        }
    }
    panic!("the etcd has stored no value that it has refused, in {TRIES} runs");
}
