//! Requests that look at many keys or have a long answer, apart from the thread that serves all
//! clients: renewals and the requests of honest clients do not wait behind them.

use std::sync::Arc;

use lock_core::background;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::pending::Class;
use super::requests::Applied;
use super::shared::Clock;
use super::{Coordinator, LeaseInfo, Operation, leases};
use crate::error::Error;
use crate::machine::op::{Delete, Deleted, LeaseId, Range, RangeResult, Revision, Txn, TxnResult};
use crate::machine::{Changes, LIGHT_KEYS, Machine};

/// A queue that lets one heavy request pass at a time. All clients share one of them: several requests
/// at once would hold the state more often, and would have more answers in memory. Each client has
/// another one before it, so clients take turns however many requests one of them has.
#[derive(Debug)]
pub(crate) struct Turn(Arc<Semaphore>);

impl Default for Turn {
    fn default() -> Self {
        Turn(Arc::new(Semaphore::new(1)))
    }
}

impl Turn {
    async fn wait(&self) -> Option<OwnedSemaphorePermit> {
        // It is never closed, so there is always a permit.
        Arc::clone(&self.0).acquire_owned().await.ok()
    }
}

/// The turn of all clients, and the turn of one of them. Both end when this is dropped.
type Turns = [Option<OwnedSemaphorePermit>; 2];

impl Coordinator {
    /// Returns a handle for the requests of one client.
    pub(crate) fn in_turns_of(mut self, client: &Arc<Turn>) -> Coordinator {
        self.turn = Some(Arc::clone(client));
        self
    }

    /// Runs this on another thread, when its turn has come.
    ///
    /// The thread that serves all clients encodes the result. Before that, it looks at its sockets.
    /// The next heavy request does not begin earlier, so at most one result is encoded between two
    /// such looks.
    pub(crate) async fn run_heavy<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        let (result, _turns) = self.run_in_turn(work).await?;
        look_at_sockets().await;
        Ok(result)
    }

    /// Does the same, and returns the turns with the result. If the caller does not wait for it any
    /// more, the turns end with the work.
    async fn run_in_turn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<(T, Turns), Error> {
        let of_client = match &self.turn {
            Some(turn) => turn.wait().await,
            None => None,
        };
        let of_all = self.inner.heavy.wait().await;
        let work = move || (work(), [of_all, of_client]);
        // A simulation has no other threads.
        if cfg!(simulation) {
            return Ok(work());
        }
        let done = background::block(work).await;
        done.map_err(|_| Error::Overloaded)
    }
}

/// Lets the runtime look at its sockets, and wake those that have become ready, before the caller goes
/// on.
async fn look_at_sockets() {
    if !cfg!(simulation) {
        tokio::task::yield_now().await;
    }
}

type Apply<R, T> = fn(&mut Machine, &Clock, &R, &mut Changes) -> Result<T, Error>;

/// A request, and how it is applied.
struct Serving<R, T> {
    class: Class,
    request: R,
    operation: fn(&R) -> Operation<'_>,
    if_light: Apply<R, Option<T>>,
    wholly: Apply<R, T>,
}

/// The requests of a server's clients.
impl Coordinator {
    /// Runs a transaction as [`txn`](Self::txn) does.
    pub(crate) async fn serve_txn(&self, txn: Txn) -> Result<Applied<TxnResult>, Error> {
        self.serve(Serving {
            class: Class::of(&txn),
            request: txn,
            operation: |txn| Operation::Txn(txn),
            if_light: |machine, _, txn, changes| machine.txn_if_light(txn, changes),
            wholly: |machine, _, txn, changes| machine.txn(txn, changes),
        })
        .await
    }

    /// Reads a range as [`range`](Self::range) does.
    pub(crate) async fn serve_range(&self, range: Range) -> Result<Applied<RangeResult>, Error> {
        self.serve(Serving {
            class: Class::Read,
            request: range,
            operation: |range| Operation::Range(range),
            if_light: |machine, _, range, _| machine.range_if_light(range),
            wholly: |machine, _, range, _| machine.range(range),
        })
        .await
    }

    /// Deletes a range as [`delete`](Self::delete) does.
    pub(crate) async fn serve_delete(&self, delete: Delete) -> Result<Applied<Deleted>, Error> {
        self.serve(Serving {
            class: Class::Release,
            request: delete,
            operation: |delete| Operation::Delete(delete),
            if_light: |machine, _, delete, changes| machine.delete_if_light(delete, changes),
            wholly: |machine, _, delete, changes| machine.delete(delete, changes),
        })
        .await
    }

    /// Revokes a lease as [`revoke`](Self::revoke) does.
    pub(crate) async fn serve_revoke(&self, id: LeaseId) -> Result<Revision, Error> {
        let serving = Serving {
            class: Class::Release,
            request: id,
            operation: |&id| Operation::Revoke(id),
            if_light: |machine, _, &id, changes| {
                let is_light = machine.has_few_keys(id);
                is_light.then(|| machine.revoke(id, changes)).transpose()
            },
            wholly: |machine, _, &id, changes| machine.revoke(id, changes),
        };
        Ok(self.serve(serving).await?.revision)
    }

    /// Shows a lease as [`time_to_live`](Self::time_to_live) does.
    pub(crate) async fn serve_time_to_live(
        &self,
        id: LeaseId,
        keys: bool,
    ) -> Result<LeaseInfo, Error> {
        let serving = Serving {
            class: Class::Read,
            request: (id, keys),
            operation: |&(id, _)| Operation::TimeToLive(id),
            if_light: |machine, clock, &(id, keys), _| {
                let is_light = !keys || machine.has_few_keys(id);
                let read = || leases::read(machine, clock, id, keys);
                is_light.then(read).transpose()
            },
            wholly: |machine, clock, &(id, keys), _| leases::read(machine, clock, id, keys),
        };
        Ok(self.serve(serving).await?.result)
    }

    /// Lists the leases as [`leases`](Self::leases) does.
    pub(crate) async fn serve_leases(&self) -> Result<Vec<LeaseId>, Error> {
        if *self.live_leases().borrow() <= LIGHT_KEYS {
            return self.leases().await;
        }
        let listed = self.serve_heavy(Class::Read, |it, machine, _, _| Ok(it.list(machine)));
        Ok(listed.await?.result)
    }

    /// Applies a request here if it is light, and on another thread otherwise.
    async fn serve<R, T>(&self, serving: Serving<R, T>) -> Result<Applied<T>, Error>
    where
        R: Send + 'static,
        T: Send + 'static,
    {
        let Serving {
            class,
            request,
            operation,
            if_light,
            wholly,
        } = serving;
        let light = |machine: &mut Machine, clock: &Clock, changes: &mut Changes| {
            self.authorize(operation(&request), machine)?;
            if_light(machine, clock, &request, changes)
        };
        if let Some(applied) = self.submit(class, light).await?.transpose() {
            return Ok(applied);
        }
        self.serve_heavy(class, move |it, machine, clock, changes| {
            it.authorize(operation(&request), machine)?;
            wholly(machine, clock, &request, changes)
        })
        .await
    }

    /// Applies a request on another thread.
    async fn serve_heavy<T: Send + 'static>(
        &self,
        class: Class,
        mut apply: impl FnMut(&Self, &mut Machine, &Clock, &mut Changes) -> Result<T, Error>
        + Send
        + 'static,
    ) -> Result<Applied<T>, Error> {
        let mut again = class.may_be_repeated();
        loop {
            let coordinator = self.clone();
            let applying = move || {
                let mut apply_here =
                    |machine: &mut Machine, clock: &Clock, changes: &mut Changes| {
                        apply(&coordinator, machine, clock, changes)
                    };
                let applied = coordinator.shared().apply(class, &mut apply_here);
                (applied, apply)
            };
            // Those that wait for the same commit do not go on together either.
            let ((applied, returned), _turns) = self.run_in_turn(applying).await?;
            apply = returned;
            if let Some(answer) = self.settle(applied?, &mut again).await {
                look_at_sockets().await;
                return answer;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::Write;
    use std::os::unix::net::UnixStream;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Poll;
    use std::time::Duration;

    use futures_util::future::join_all;
    use tokio::io::AsyncReadExt;

    use super::*;
    use crate::Limits;
    use crate::machine::op::{KeyRange, Put};

    /// Returns a coordinator in which a read of everything is heavy.
    async fn with_many_keys() -> Coordinator {
        let coordinator = Coordinator::in_memory(Limits::default()).expect("a coordinator");
        for number in 0..=LIGHT_KEYS {
            let put = Put {
                key: format!("k{number}").into(),
                value: Some("v".into()),
                lease: Some(0),
                prev_kv: false,
            };
            coordinator.put(put).await.expect("a put");
        }
        coordinator
    }

    #[tokio::test]
    async fn a_client_with_many_heavy_requests_does_not_keep_another_waiting_behind_them() {
        let coordinator = with_many_keys().await;
        let before = coordinator.inner.heavy.wait().await;
        let clients = [(); 2].map(|()| coordinator.clone().in_turns_of(&Arc::default()));
        let ended = Mutex::new(Vec::new());
        let read = async |client: usize| {
            let all = Range::all(KeyRange::all());
            let read = clients[client].serve_range(all).await.expect("a read");
            assert_eq!(read.result.count, LIGHT_KEYS as u64 + 1);
            ended.lock().expect("no panic").push(client);
        };
        let reads = join_all([0; 20].into_iter().chain([1]).map(read));
        let release = async {
            // All of them wait by now: each was polled before this is.
            drop(before);
        };
        tokio::join!(reads, release);
        let ended = ended.into_inner().expect("no panic");
        let place = ended.iter().position(|client| *client == 1);
        assert!(place.expect("it ended") <= 2, "{ended:?}");
    }

    #[tokio::test]
    async fn between_two_results_the_runtime_looks_at_its_sockets() {
        const RESULTS: usize = 5;
        let coordinator = Coordinator::in_memory(Limits::default()).expect("a coordinator");
        let (ours, theirs) = UnixStream::pair().expect("two sockets");
        ours.set_nonblocking(true).expect("a socket");
        let mut ours = tokio::net::UnixStream::from_std(ours).expect("a socket");
        let theirs = Arc::new(theirs);
        let arrived = Arc::<AtomicUsize>::default();
        let reader = Arc::clone(&arrived);
        tokio::spawn(async move {
            while ours.read_u8().await.is_ok() {
                reader.fetch_add(1, Ordering::SeqCst);
            }
        });
        // As long as a task is ready, the runtime looks at its sockets once in 61 tasks only.
        tokio::spawn(poll_fn(|cx| {
            std::thread::sleep(Duration::from_millis(1));
            cx.waker().wake_by_ref();
            Poll::<()>::Pending
        }));
        let works = (0..RESULTS).map(|_| {
            let (coordinator, theirs) = (coordinator.clone(), Arc::clone(&theirs));
            let arrived = Arc::clone(&arrived);
            async move {
                let send = move || (&*theirs).write_all(b"a").expect("it is open");
                coordinator.run_heavy(send).await.expect("it is done");
                arrived.load(Ordering::SeqCst)
            }
        });
        let arrived = tokio::spawn(join_all(works)).await.expect("no panic");
        assert_eq!(arrived, Vec::from_iter(1..=RESULTS));
    }

    #[tokio::test]
    async fn a_lease_with_many_keys_is_read_and_revoked_apart() {
        let coordinator = Coordinator::in_memory(Limits::default()).expect("a coordinator");
        let granted = coordinator.grant(7, Duration::from_secs(60)).await;
        let id = granted.expect("a lease").id;
        for number in 0..=LIGHT_KEYS {
            let put = Put {
                key: format!("k{number}").into(),
                value: Some("v".into()),
                lease: Some(id),
                prev_kv: false,
            };
            coordinator.put(put).await.expect("a put");
        }
        let before = coordinator.inner.heavy.wait().await;
        let times = coordinator.serve_time_to_live(id, false).await;
        assert!(times.expect("a light request").keys.is_empty());
        let apart = Box::pin(coordinator.serve_time_to_live(id, true));
        let done = futures_util::future::poll_immediate(apart).await;
        assert!(done.is_none(), "it waits for its turn");
        drop(before);
        let whole = coordinator.serve_time_to_live(id, true).await;
        assert_eq!(whole.expect("a lease").keys.len(), LIGHT_KEYS + 1);
        coordinator.serve_revoke(id).await.expect("revoked");
        assert_eq!(coordinator.status().keys, 0);
        assert!(coordinator.serve_leases().await.expect("none").is_empty());
    }
}
