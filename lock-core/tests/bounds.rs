//! Checks that the public types may cross threads, stay there and be moved. A type that loses such
//! a property breaks users.

use std::time::Duration;

use backend_embedded::EmbeddedBackend;
use lock_core::{
    AcquireOptions, AnyGuard, Backend, Effect, Entry, EntryId, Error, ErrorKind, Guard, LockName,
    Locks, LossReason, Metadata, Mode, Mutex, NameError, OnRequeue, OnSessionLoss, Operation,
    Options, Queue, Raised, ReadGuard, Release, Removed, RwLock, Session, SessionId, State, Token,
    TokenOffset,
};

fn is_free<T: Send + Sync + Unpin + 'static>() {}
fn is_shared<T: ?Sized + Send + Sync>() {}
fn is_sent<T: Send>(_: T) {}

#[test]
fn public_types_cross_threads() {
    is_free::<Locks>();
    is_free::<Mutex>();
    is_free::<RwLock>();
    is_free::<Guard>();
    is_free::<ReadGuard>();
    is_free::<AnyGuard>();
    is_free::<AcquireOptions>();
    is_free::<Options>();
    is_free::<OnRequeue>();
    is_free::<OnSessionLoss>();
    is_free::<Error>();
    is_free::<(ErrorKind, Effect, Operation, LossReason, NameError)>();
    is_free::<(Release, Removed, Raised, State, Mode)>();
    is_free::<(Entry, EntryId, Metadata, Queue, LockName, SessionId)>();
    is_free::<(Token, TokenOffset)>();
    is_shared::<dyn Backend>();
    is_shared::<dyn Session>();
}

#[test]
fn futures_can_be_spawned() {
    let backend = futures_executor::block_on(EmbeddedBackend::open("embedded:memory"));
    let locks = Locks::new(backend.expect("in memory"), Options::default()).expect("valid");
    let name = LockName::new("a").expect("valid");
    is_sent(locks.queue(&name));
    is_sent(locks.list("", None, 1));
    is_sent(locks.get("k"));
    is_sent(locks.raise_token_offset(0));
    is_sent(locks.close());
    let (mutex, lock) = (
        locks.mutex("a").expect("valid"),
        locks.rwlock("a").expect("valid"),
    );
    is_sent(mutex.acquire());
    is_sent(mutex.try_acquire());
    is_sent(mutex.acquire_timeout(Duration::ZERO));
    is_sent(mutex.acquire_with(AcquireOptions::new()));
    is_sent(lock.read());
    is_sent(lock.write());
    is_sent(lock.acquire_with(AcquireOptions::new().mode(Mode::Shared)));
    let guard = futures_executor::block_on(mutex.acquire()).expect("free");
    is_sent(locks.evict(&name, guard.entry()));
    is_sent(guard.lost());
    is_sent(guard.get("k"));
    is_sent(guard.put("k", "v"));
    is_sent(guard.delete("k"));
    is_sent(guard.announce());
    is_sent(guard.release());
}
