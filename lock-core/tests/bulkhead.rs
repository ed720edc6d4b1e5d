//! Tests the bound on the acquires of one process.

use backend_embedded::EmbeddedBackend;
use futures_util::FutureExt;
use lock_core::{ErrorKind, Locks, Operation, Options, Release};

#[tokio::test]
async fn one_acquire_too_many_fails_at_once_and_those_under_way_go_on() {
    let backend = EmbeddedBackend::open("embedded:memory").await;
    let options = Options::default().with_max_pending_acquires(2);
    let locks = Locks::new(backend.expect("in memory"), options).expect("valid");
    let mutex = locks.mutex("a").expect("valid");
    let held = mutex.acquire().await.expect("free");
    let mut waiting = [mutex.acquire().boxed(), mutex.acquire().boxed()];
    for acquire in &mut waiting {
        assert!(acquire.now_or_never().is_none());
    }
    let refused = mutex.try_acquire().await.expect_err("one too many");
    assert_eq!(refused.kind(), ErrorKind::Exhausted);
    assert_eq!(refused.operation(), Some(Operation::Acquire));
    assert!(refused.retry_after().is_some());

    // A holder is not held up by those who wait.
    held.put("k", "v").await.expect("still held");
    assert_eq!(held.release().await.expect("released"), Release::Released);
    let [first, second] = waiting;
    drop(first.await.expect("its turn"));
    let second = second.await.expect("its turn");
    assert_eq!(second.release().await.expect("released"), Release::Released);
    let again = mutex.try_acquire().await.expect("a place");
    assert!(again.is_some());
}
