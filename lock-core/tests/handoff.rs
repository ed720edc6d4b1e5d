//! Tests handoffs among contenders of one process. The watches of the store report nothing, so that
//! only a removal can wake a waiter.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use lock_core::clock::Clock;
use lock_core::rule::{Ahead, Ask, View};
use lock_core::{
    Access, Accessed, Admission, AsOf, Backend, Behind, DataKey, Enqueued, EntryId, Error, Guard,
    Incarnation, Liveness, LockName, Locks, LossReason, Metadata, Mode, Options, Placed, Queue,
    Raised, Release, Removal, Removed, Session, SessionId, Ticket, TokenOffset, Watcher,
};

/// Shorter than the time after which a wait without any event looks again by itself.
const SILENCE: Duration = Duration::from_millis(500);
const SOON: Duration = Duration::from_secs(60);

/// A store of one queue, first come, first served.
#[derive(Debug, Default)]
struct Store {
    queue: Mutex<Vec<EntryId>>,
    made: AtomicUsize,
    looks: AtomicUsize,
    /// Whether a removal leaves the waiters' entries unread.
    is_blind: AtomicBool,
}

impl Store {
    fn queue(&self) -> MutexGuard<'_, Vec<EntryId>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn view(&self, own: &EntryId, ask: Ask) -> View {
        let queue = self.queue();
        let place = queue.iter().position(|entry| entry == own);
        let ahead = queue[..place.unwrap_or(0)].iter().rev().take(ask.limit);
        View {
            present: place.is_some(),
            ahead: ahead
                .map(|id| Ahead {
                    id: id.clone(),
                    mode: Mode::Exclusive,
                })
                .collect(),
        }
    }

    async fn wait_for_depth(&self, depth: usize) {
        while self.queue().len() != depth {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // The latest contender also needs time to learn which entry it waits for.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[derive(Debug)]
struct Client(Arc<Store>);

#[async_trait]
impl Backend for Client {
    fn name(&self) -> &'static str {
        "script"
    }

    async fn open_session(&self, ttl: Duration) -> Result<Arc<dyn Session>, Error> {
        let clock = Clock::system();
        Ok(Arc::new(StoreSession {
            store: self.0.clone(),
            liveness: Liveness::new(clock.clone(), clock.now(), ttl),
        }))
    }

    async fn queue(&self, _: &LockName) -> Result<Queue, Error> {
        unreachable!("no test lists the queue")
    }

    async fn locks(&self, _: &str, _: Option<&LockName>, _: usize) -> Result<Vec<Queue>, Error> {
        unreachable!("no test lists the locks")
    }

    async fn get(&self, _: &DataKey) -> Result<Option<Vec<u8>>, Error> {
        unreachable!("no test keeps a value")
    }

    async fn evict(&self, _: &LockName, _: &EntryId) -> Result<Removed, Error> {
        unreachable!("no test evicts")
    }

    async fn raise_token_offset(&self, _: TokenOffset) -> Result<Raised, Error> {
        unreachable!("no test raises the offset")
    }
}

#[derive(Debug)]
struct StoreSession {
    store: Arc<Store>,
    liveness: Arc<Liveness>,
}

#[async_trait]
impl Session for StoreSession {
    fn id(&self) -> SessionId {
        SessionId(1)
    }

    fn liveness(&self) -> &Arc<Liveness> {
        &self.liveness
    }

    async fn enqueue(&self, ticket: &Ticket, ask: Ask, _: Admission) -> Result<Enqueued, Error> {
        let number = self.store.made.fetch_add(1, Ordering::SeqCst) + 1;
        let entry = EntryId {
            key: number.to_string().into_bytes().into(),
            incarnation: Incarnation::new(number as u64),
        };
        self.store.queue().push(entry.clone());
        let view = self.store.view(&entry, ask);
        let placed = Placed::on(TokenOffset::default(), &ticket.name, entry, view)?;
        Ok(Enqueued::Placed(placed))
    }

    async fn look(&self, _: &Ticket, entry: &EntryId, ask: Ask, _: AsOf) -> Result<View, Error> {
        self.store.looks.fetch_add(1, Ordering::SeqCst);
        Ok(self.store.view(entry, ask))
    }

    async fn watch(&self, _: &EntryId, _: Watcher) -> Result<(), Error> {
        std::future::pending().await
    }

    async fn watch_behind(&self, _: &Ticket, _: &EntryId) -> Result<Behind, Error> {
        unreachable!("no lock is sticky")
    }

    async fn remove(
        &self,
        _: &Ticket,
        entry: Option<&EntryId>,
        waiters: &[EntryId],
    ) -> Result<Removal, Error> {
        // Yields first, as a request over the network would.
        tokio::task::yield_now().await;
        let mut queue = self.store.queue();
        let before = queue.len();
        queue.retain(|found| Some(found) != entry);
        if queue.len() == before {
            return Ok(Removed::AlreadyGone.into());
        }
        let mut found = waiters.to_vec();
        found.retain(|waiter| queue.contains(waiter));
        if self.store.is_blind.load(Ordering::SeqCst) {
            found.clear();
        }
        Ok(Removal {
            removed: Removed::Removed,
            waiters: found,
        })
    }

    async fn access(
        &self,
        _: &Ticket,
        _: &EntryId,
        _: &DataKey,
        _: &Access,
    ) -> Result<Accessed, Error> {
        unreachable!("no test keeps a value")
    }

    async fn describe(&self, _: &Ticket, _: &EntryId, _: &Metadata) -> Result<bool, Error> {
        unreachable!("no test announces a hold")
    }

    async fn metadata(&self, _: &EntryId) -> Result<Option<Metadata>, Error> {
        unreachable!("no test observes")
    }

    async fn close(&self) -> Result<(), Error> {
        self.liveness.lose(LossReason::Closed);
        Ok(())
    }
}

/// Returns locks with a session of their own on this backend.
fn session(backend: &Arc<Client>) -> Locks {
    let options = Options::default().with_ttl(Duration::from_secs(600));
    Locks::new(backend.clone(), options).expect("options within bounds")
}

fn waits(locks: &Locks) -> tokio::task::JoinHandle<Result<Guard, Error>> {
    let mutex = locks.mutex("a").expect("a valid name");
    tokio::spawn(async move { mutex.acquire().await })
}

async fn hold(locks: &Locks) -> Guard {
    let guard = waits(locks).await.expect("no panic");
    guard.expect("the lock is free")
}

#[tokio::test]
async fn a_removal_that_finds_the_waiter_is_its_look() {
    let store = Arc::<Store>::default();
    let backend = Arc::new(Client(store.clone()));
    let (first, second) = (session(&backend), session(&backend));
    let guard = hold(&first).await;
    let waiting = waits(&second);
    store.wait_for_depth(2).await;
    assert_eq!(guard.release().await.expect("removed"), Release::Released);
    let granted = tokio::time::timeout(SOON, waiting).await.expect("told");
    let granted = granted.expect("no panic").expect("its turn");
    assert_eq!(store.looks.load(Ordering::SeqCst), 0);
    // A dropped guard hands the lock over as well.
    let waiting = waits(&first);
    store.wait_for_depth(2).await;
    drop(granted);
    let granted = tokio::time::timeout(SOON, waiting).await.expect("told");
    drop(granted.expect("no panic").expect("its turn"));
    assert_eq!(store.looks.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_removal_that_does_not_find_the_waiter_grants_nothing() {
    for is_evicted in [true, false] {
        let store = Arc::<Store>::default();
        let backend = Arc::new(Client(store.clone()));
        let (first, second) = (session(&backend), session(&backend));
        let guard = hold(&first).await;
        let mut waiting = waits(&second);
        store.wait_for_depth(2).await;
        match is_evicted {
            true => drop(store.queue().pop()),
            false => store.is_blind.store(true, Ordering::SeqCst),
        }
        assert_eq!(guard.release().await.expect("removed"), Release::Released);
        let early = tokio::time::timeout(SILENCE, &mut waiting).await;
        assert!(early.is_err(), "{early:?} although it did not look");
        waiting.abort();
    }
}

#[tokio::test]
async fn another_client_of_the_same_store_is_another_process() {
    let store = Arc::<Store>::default();
    let [one, other] = [(); 2].map(|()| Arc::new(Client(store.clone())));
    let guard = hold(&session(&one)).await;
    let mut waiting = waits(&session(&other));
    store.wait_for_depth(2).await;
    assert_eq!(guard.release().await.expect("removed"), Release::Released);
    let early = tokio::time::timeout(SILENCE, &mut waiting).await;
    assert!(early.is_err(), "{early:?} although it did not look");
    waiting.abort();
}
