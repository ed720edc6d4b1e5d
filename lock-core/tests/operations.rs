//! Checks that an error names the failed operation, and the lock that the operation was for.

use backend_embedded::EmbeddedBackend;
use lock_core::{ErrorKind, LockName, Locks, MAX_TTL, Operation, Options};

#[tokio::test]
async fn errors_name_the_operation_and_the_lock() {
    let backend = EmbeddedBackend::open("embedded:memory").await;
    let locks = Locks::new(backend.expect("in memory"), Options::default()).expect("valid");
    let guard = locks
        .mutex("a")
        .expect("valid")
        .acquire()
        .await
        .expect("free");
    let errors = [
        (
            guard.put("../k", "v").await.expect_err("a bad key"),
            Operation::Put,
        ),
        (
            guard.delete("../k").await.expect_err("a bad key"),
            Operation::Delete,
        ),
        (
            guard.get("../k").await.expect_err("a bad key"),
            Operation::Get,
        ),
        (
            guard.announce().await.expect_err("not asked for"),
            Operation::Announce,
        ),
    ];
    for (error, operation) in errors {
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert_eq!(error.operation(), Some(operation));
        assert_eq!(error.lock().map(LockName::as_str), Some("a"));
        assert!(
            !error.to_string().contains(&format!("to {operation}")),
            "{error}"
        );
    }
    let error = locks.get("../k").await.expect_err("a bad key");
    assert_eq!(
        (error.operation(), error.lock()),
        (Some(Operation::Get), None)
    );
    let error = locks
        .raise_token_offset(u64::MAX)
        .await
        .expect_err("too high");
    assert_eq!(error.operation(), Some(Operation::RaiseTokenOffset));

    let waiter = locks.mutex("a").expect("valid");
    let waiting = tokio::spawn(async move { waiter.acquire().await.map(drop) });
    while locks
        .queue(guard.name())
        .await
        .expect("an answer")
        .entries
        .len()
        < 2
    {
        tokio::task::yield_now().await;
    }
    locks.close().await.expect("closed");
    let error = waiting.await.expect("no panic").expect_err("closed");
    assert_eq!(error.operation(), Some(Operation::Acquire));
    assert_eq!(error.lock().map(LockName::as_str), Some("a"));
    let error = guard.put("k", "v").await.expect_err("lost");
    assert!(matches!(error.kind(), ErrorKind::SessionLost(_)));
    assert_eq!(error.operation(), Some(Operation::Put));
}

#[tokio::test]
async fn an_error_without_an_operation_names_none() {
    let backend = EmbeddedBackend::open("embedded:memory")
        .await
        .expect("in memory");
    let options = Options::default().with_ttl(2 * MAX_TTL);
    let error = Locks::new(backend, options).expect_err("too long");
    assert_eq!((error.operation(), error.lock()), (None, None));
}
