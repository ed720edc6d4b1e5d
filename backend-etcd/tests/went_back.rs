//! A real etcd is restored from an older snapshot under a client that goes on.

mod support;

use std::time::Duration;

use lock_core::{Error, ErrorKind, LockName, Locks, LossReason, Raised, Release, State, Token};
use support::{Node, backend, locks, locks_of};
use tempfile::TempDir;
use testkit::waiting::soon;

const TTL: Duration = Duration::from_secs(3);
const STORE_GONE: ErrorKind = ErrorKind::SessionLost(LossReason::StoreGone);

fn native() -> LockName {
    LockName::new("a").expect("valid")
}

fn raw() -> LockName {
    LockName::raw("/raw/a").expect("valid")
}

async fn try_take(locks: &Locks, name: &LockName) -> Result<Token, Error> {
    let mutex = locks.mutex(name).expect("valid");
    let guard = soon("our turn, or an error", mutex.acquire()).await?;
    let token = guard.token();
    let released = guard.release().await.expect("released");
    assert_eq!(released, Release::Released);
    Ok(token)
}

async fn take(locks: &Locks, name: &LockName) -> Token {
    let taken = try_take(locks, name).await;
    taken.unwrap_or_else(|error| panic!("{name}: {error}"))
}

async fn refusal(locks: &Locks, name: &LockName) -> Error {
    let error = try_take(locks, name).await.expect_err("nothing is given");
    check_refusal(&error);
    error
}

fn check_refusal(error: &Error) {
    assert_eq!(error.kind(), ErrorKind::Configuration, "{error}");
    let text = error.to_string();
    assert!(text.contains("went back to before revision"), "{text}");
}

/// Returns the refusal of the first acquire on a store that went back. If another request of the
/// client shows it first, the acquire that is under way ends with its session.
async fn first_refusal(locks: &Locks, name: &LockName) -> Error {
    match try_take(locks, name).await.expect_err("nothing is given") {
        lost if lost.kind() == STORE_GONE => refusal(locks, name).await,
        error => {
            check_refusal(&error);
            error
        }
    }
}

/// Raises the offset as an operator does, once nothing is left in the queues.
async fn raise(etcd: &Node, offset: u64) {
    let operator = locks_of(etcd, TTL);
    let raised = async {
        while operator.raise_token_offset(offset).await.expect("served") == Raised::InUse {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    soon("the queues are empty", raised).await;
}

/// Writes as others do, until the store's revision is well above this token.
async fn catch_up(etcd: &Node, token: Token) {
    let mut client = etcd.client().await;
    while etcd.revision().await <= i64::try_from(token.0).expect("small") + 10 {
        client.put("other", "", None).await.expect("written");
    }
}

/// Returns the offset that an error asks for.
fn offset_in(error: &Error) -> u64 {
    let text = error.to_string();
    let (_, number) = text.rsplit_once("--raise-to ").expect("the remedy");
    number.parse().expect("a number")
}

#[tokio::test]
async fn an_older_store_gives_no_token_until_the_offset_is_above_all_of_them() {
    let folder = TempDir::new().expect("a folder");
    let snapshot = folder.path().join("saved");
    let mut etcd = Node::start().await;
    let locks = locks_of(&etcd, TTL);
    take(&locks, &native()).await;
    etcd.save(&snapshot);
    take(&locks, &raw()).await;
    let mutex = locks.mutex("held").expect("valid");
    let held = soon("our turn", mutex.acquire()).await.expect("acquired");
    let last = take(&locks, &native()).await;
    let address = etcd.address();
    assert!(etcd.restore(&snapshot).await, "it serves");

    let error = first_refusal(&locks, &native()).await;
    assert!(error.to_string().contains(&address), "{error}");
    soon("the loss", held.lost()).await;
    for _ in 0..3 {
        refusal(&locks, &native()).await;
        refusal(&locks, &raw()).await;
    }
    // It does not matter that the numbers catch up: other clients may have seen higher ones.
    catch_up(&etcd, last).await;
    let offset = offset_in(&refusal(&locks, &native()).await);
    assert!(offset >= last.0, "{offset} {last:?}");

    raise(&etcd, offset - 1).await;
    refusal(&locks, &native()).await;
    raise(&etcd, offset).await;
    let first = take(&locks, &native()).await;
    assert!(first.0 > offset, "{first:?} {offset}");
    assert!(take(&locks, &native()).await > first);
    refusal(&locks, &raw()).await;
}

#[tokio::test]
async fn a_store_that_goes_on_from_higher_numbers_ends_the_sessions_only() {
    let folder = TempDir::new().expect("a folder");
    let snapshot = folder.path().join("saved");
    let mut etcd = Node::start().await;
    let locks = locks_of(&etcd, TTL);
    let mutex = locks.mutex("held").expect("valid");
    let held = soon("our turn", mutex.acquire()).await.expect("acquired");
    let last = take(&locks, &native()).await;
    etcd.save(&snapshot);
    let mut saved = etcd.client().await;
    saved.put("other", "", None).await.expect("written");
    assert!(etcd.restore_as(&snapshot, "another").await, "it serves");
    // The lease and the entry of the holder are in the snapshot, and are renewed until a write
    // shows that this is another store.
    assert_eq!(etcd.keys("turnlock/held/").await.len(), 1);

    let lost = try_take(&locks, &native())
        .await
        .expect_err("another store");
    assert_eq!(lost.kind(), STORE_GONE, "{lost}");
    soon("the loss", held.lost()).await;
    assert_eq!(held.state(), State::Lost(LossReason::StoreGone));
    assert!(take(&locks, &native()).await > last);
}

#[tokio::test]
async fn an_entry_that_comes_back_with_the_store_is_not_taken_for_a_new_one() {
    let folder = TempDir::new().expect("a folder");
    let snapshot = folder.path().join("saved");
    let mut etcd = Node::start().await;
    // The session must live through the restore.
    let locks = locks_of(&etcd, Duration::from_secs(60));
    let mutex = locks.mutex(native()).expect("valid");
    let guard = soon("our turn", mutex.acquire()).await.expect("acquired");
    let old = guard.token();
    etcd.save(&snapshot);
    let released = guard.release().await.expect("released");
    assert_eq!(released, Release::Released);
    let session = locks.session_id().expect("a session");
    assert!(etcd.restore(&snapshot).await, "it serves");
    catch_up(&etcd, old).await;
    assert_eq!(etcd.keys("turnlock/a/").await.len(), 1, "it is back");

    assert_eq!(locks.session_id(), Some(session), "nothing shows it yet");
    let offset = offset_in(&refusal(&locks, &native()).await);
    assert!(offset >= old.0, "{offset} {old:?}");
    // What came back goes with the session that it was on, long before its time to live.
    refusal(&locks, &native()).await;
    etcd.wait_keys("turnlock/a/", 0).await;
    raise(&etcd, offset).await;
    assert!(take(&locks, &native()).await.0 > offset);
}

#[tokio::test]
async fn an_offset_that_is_gone_with_the_store_is_missed() {
    let folder = TempDir::new().expect("a folder");
    let snapshot = folder.path().join("saved");
    let mut etcd = Node::start().await;
    etcd.save(&snapshot);
    raise(&etcd, 1000).await;
    let locks = locks_of(&etcd, TTL);
    let last = take(&locks, &native()).await;
    assert!(etcd.restore(&snapshot).await, "it serves");
    // The revision alone would show nothing.
    let mut client = etcd.client().await;
    while etcd.revision().await < 100 {
        client.put("other", "", None).await.expect("written");
    }

    let offset = offset_in(&first_refusal(&locks, &native()).await);
    assert!(offset >= last.0, "{offset} {last:?}");
    raise(&etcd, offset).await;
    assert!(take(&locks, &native()).await.0 > offset);
}

#[tokio::test]
async fn a_member_that_lags_behind_proves_nothing() {
    let mut nodes = Node::start_three().await;
    let url = format!("etcd://{},{}", nodes[0].address(), nodes[1].address());
    // The session must live through an election after each node that stops.
    let locks = locks(backend(&url), Duration::from_secs(20));
    let mut last = take(&locks, &native()).await;
    for _ in 0..3 {
        nodes[1].signal("-STOP");
        for _ in 0..20 {
            last = take(&locks, &native()).await;
        }
        // The next requests go to the other one, which has not heard of all of that.
        nodes[1].signal("-CONT");
        nodes[0].kill();
        for _ in 0..20 {
            let next = take(&locks, &native()).await;
            assert!(next > last, "{next:?} {last:?}");
            last = next;
        }
        assert!(nodes[0].resume().await, "etcd starts on its old data");
        nodes.swap(0, 1);
    }
}
