//! The queue behind the lock and the election service: keys `name/<lease in hex>`, first created,
//! first served. etcd's own clients use the same keys, so all of them can share a queue.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tonic::Status;

use super::state::{Shared, State};
use super::{call_registry, status};
use crate::coordinator::{Applied, Coordinator, Operation, WatchBatch};
use crate::error::Error;
use crate::machine::op::{
    Compare, CompareOp, CompareTarget, Delete, KeyRange, KeyValue, LeaseId, Op, OpResult, Put,
    Range, Revision, SortOrder, SortTarget, Txn,
};

/// The time to live of the lease that the server grants to a call that names none (as in etcd).
const SERVER_LEASE_TTL: Duration = Duration::from_secs(60);

/// How often that lease is renewed while its call waits.
const SERVER_LEASE_RENEWAL: Duration = Duration::from_secs(20);

/// A call's key in the queue.
#[derive(Debug, Clone)]
pub(super) struct QueueKey {
    pub(super) key: Bytes,
    /// The key's create revision.
    pub(super) create_revision: Revision,
    pub(super) lease: LeaseId,
    /// The store's revision when the key was first known to be at the head.
    pub(super) revision: Revision,
}

/// Returns the range of all keys of the queue `name`.
pub(super) fn to_key_range(name: &[u8]) -> KeyRange {
    // `0` is the byte after `/`.
    let with = |last: u8| -> Bytes { [name, &[last]].concat().into() };
    KeyRange::Span {
        start: with(b'/'),
        end: Some(with(b'0')),
    }
}

fn to_key(name: &[u8], lease: LeaseId) -> Bytes {
    [name, format!("/{lease:x}").as_bytes()].concat().into()
}

/// Reads the queue's oldest key, and the store's revision at that moment.
pub(super) async fn read_head(
    coordinator: &Coordinator,
    name: &[u8],
) -> Result<Applied<Option<Arc<KeyValue>>>, Error> {
    let oldest = first_by_creation(to_key_range(name), SortOrder::Ascend, 0);
    let found = coordinator.serve_range(oldest).await?;
    Ok(Applied {
        revision: found.revision,
        result: found.result.kvs.into_iter().next(),
    })
}

/// Returns the condition that `key` is still the one created at `revision`.
pub(super) fn compare_create_revision(key: Bytes, revision: Revision) -> Compare {
    Compare {
        keys: KeyRange::One(key),
        op: CompareOp::Equal,
        target: CompareTarget::Create(revision),
    }
}

/// Enters the queue and waits until the call is at its head. Dropping the returned future removes
/// the key, unless another call on the same lease waits there or has been granted it.
#[expect(
    clippy::disallowed_methods,
    reason = "tasks of a server run where it serves"
)]
pub(super) async fn acquire(
    state: &Shared,
    coordinator: Coordinator,
    name: Vec<u8>,
    lease: LeaseId,
    value: Option<Bytes>,
) -> Result<QueueKey, Status> {
    if state.lifecycle.is_draining() {
        return Err(state.stop_status());
    }
    let (answer, answered) = oneshot::channel();
    let state = Arc::clone(state);
    // Runs in a task of its own, because leaving the queue takes several steps.
    tokio::spawn(async move { run_call(&state, coordinator, name, lease, value, answer).await });
    answered
        .await
        .unwrap_or_else(|_| Err(status::stop_status()))
}

type Answer = oneshot::Sender<Result<QueueKey, Status>>;

async fn run_call(
    state: &State,
    coordinator: Coordinator,
    name: Vec<u8>,
    lease: LeaseId,
    value: Option<Bytes>,
    mut answer: Answer,
) {
    let own_lease = lease == 0;
    let granted = if own_lease {
        // Decided on before there is a lease to take back.
        match coordinator.check_authority(Operation::Watch(&to_key_range(&name))) {
            Ok(()) => {
                let granted = coordinator.grant(0, SERVER_LEASE_TTL).await;
                granted.map(|granted| granted.id)
            }
            Err(err) => Err(err),
        }
    } else {
        Ok(lease)
    };
    let lease = match granted {
        Ok(lease) => lease,
        Err(err) => {
            let _ = answer.send(Err(err.into()));
            return;
        }
    };
    let call = Call {
        state,
        coordinator,
        membership: state.call_registry.join(to_key(&name, lease)),
        name,
        value,
        lease,
        own_lease,
    };
    // Not interrupted if the caller goes away, so that it is certain what to remove.
    let mut queue_key = match call.enqueue().await {
        Ok(queue_key) => queue_key,
        Err(err) => {
            call.revoke_own_lease().await;
            let _ = answer.send(Err(err.into()));
            return;
        }
    };
    let outcome = tokio::select! {
        waited = call.wait_for_head(&mut queue_key) => match waited {
            Ok(true) => Ok(queue_key),
            Ok(false) => Err(Status::unknown("mutex: session is expired")),
            Err(err) => Err(err.into()),
        },
        () = answer.closed() => Err(Status::cancelled("etcdserver: request canceled")),
        () = state.lifecycle.wait_for_ending() => Err(state.stop_status()),
    };
    call.finish(outcome, answer).await;
}

/// One call in the queue.
struct Call<'a> {
    /// With a coordinator that may take back whatever was done for the call.
    state: &'a State,
    /// Does what the caller may do.
    coordinator: Coordinator,
    membership: call_registry::Membership<'a>,
    name: Vec<u8>,
    /// The value to write; `None` for a lock, which does not change the value of an existing key.
    value: Option<Bytes>,
    lease: LeaseId,
    /// Whether the lease was granted for this call alone.
    own_lease: bool,
}

impl Call<'_> {
    /// Creates the key, or finds it.
    async fn enqueue(&self) -> Result<QueueKey, Error> {
        let key = || self.membership.key.clone();
        let own = first_by_creation(KeyRange::One(key()), SortOrder::None, 0);
        let put = |value: Bytes| {
            Op::Put(Put {
                key: key(),
                value: Some(value),
                lease: Some(self.lease),
                prev_kv: false,
            })
        };
        let update = self.value.clone().map(|value| {
            Op::Txn(Txn {
                compare: vec![Compare {
                    keys: KeyRange::One(key()),
                    op: CompareOp::NotEqual,
                    target: CompareTarget::Value(value.clone()),
                }],
                then: vec![put(value)],
                or_else: vec![],
            })
        });
        let mut or_else = vec![Op::Range(own)];
        or_else.extend(update);
        let txn = Txn {
            compare: vec![compare_create_revision(key(), 0)],
            then: vec![put(self.value.clone().unwrap_or_default())],
            or_else,
        };
        let mut key_calls = self.membership.key_calls.lock().await;
        let done = self.coordinator.serve_txn(txn).await?;
        let found = match done.result.results.first() {
            Some(OpResult::Range(found)) => found.kvs.first().map(|kv| kv.create_revision),
            _ => None,
        };
        key_calls.calls += 1;
        if found.is_none() {
            key_calls.created = Some(done.revision);
            key_calls.granted = false;
        }
        Ok(QueueKey {
            key: key(),
            create_revision: found.unwrap_or(done.revision),
            lease: self.lease,
            revision: done.revision,
        })
    }

    /// Answers the caller, and removes the key if no call holds it or waits for it any more.
    async fn finish(&self, outcome: Result<QueueKey, Status>, answer: Answer) {
        let mut key_calls = self.membership.key_calls.lock().await;
        key_calls.calls -= 1;
        let failed = match outcome {
            Ok(queue_key) => {
                if answer.send(Ok(queue_key)).is_ok() {
                    key_calls.granted = true;
                    return;
                }
                // The caller went away at this very moment.
                None
            }
            Err(status) => Some((answer, status)),
        };
        let created = key_calls.created;
        if key_calls.calls == 0
            && !key_calls.granted
            && let Some(created) = created
            && let Err(err) = self.remove(created).await
        {
            // The key still ends with its lease.
            tracing::warn!(%err, "cannot remove an abandoned entry from a queue");
        }
        drop(key_calls);
        self.revoke_own_lease().await;
        // Answered last, so that the end of the server waits for the removal.
        if let Some((answer, status)) = failed {
            let _ = answer.send(Err(status));
        }
    }

    async fn remove(&self, create_revision: Revision) -> Result<(), Error> {
        let delete = Op::Delete(Delete {
            keys: KeyRange::One(self.membership.key.clone()),
            prev_kv: false,
        });
        let txn = Txn {
            compare: vec![compare_create_revision(
                self.membership.key.clone(),
                create_revision,
            )],
            then: vec![delete],
            or_else: vec![],
        };
        self.state.coordinator.serve_txn(txn).await.map(|_| ())
    }

    /// Revokes the lease if it was granted for this call alone.
    async fn revoke_own_lease(&self) {
        if !self.own_lease {
            return;
        }
        match self.state.coordinator.revoke(self.lease).await {
            Ok(_) | Err(Error::LeaseNotFound { .. }) => {}
            Err(err) => tracing::warn!(%err, "cannot revoke the lease of a call"),
        }
    }

    /// Waits until the key is at the head (`true`) or gone (`false`).
    async fn wait_for_head(&self, queue_key: &mut QueueKey) -> Result<bool, Error> {
        let coordinator = &self.coordinator;
        let mut renewal = interval_at(Instant::now() + SERVER_LEASE_RENEWAL, SERVER_LEASE_RENEWAL);
        renewal.set_missed_tick_behavior(MissedTickBehavior::Delay);
        'read: loop {
            // First the watch, then the read: a change in between wakes the watch.
            let mut own = coordinator.watch(KeyRange::One(queue_key.key.clone()), None)?;
            let neighbours = self.read_neighbours(queue_key).await?;
            if !neighbours.result.present {
                return Ok(false);
            }
            let Some(predecessor) = neighbours.result.predecessor else {
                if self.own_lease {
                    coordinator.keep_alive(self.lease).await?;
                }
                queue_key.revision = neighbours.revision;
                return Ok(true);
            };
            let start = Some(neighbours.revision + 1);
            let mut predecessor = match coordinator.watch(KeyRange::One(predecessor), start) {
                Ok(watcher) => watcher,
                Err(Error::Compacted { .. }) => continue 'read,
                Err(err) => return Err(err),
            };
            loop {
                let changed = tokio::select! {
                    changed = own.next() => changed,
                    changed = predecessor.next() => changed,
                    _ = renewal.tick(), if self.own_lease => {
                        coordinator.keep_alive(self.lease).await?;
                        continue;
                    }
                };
                match changed {
                    Ok(WatchBatch { events, .. }) if !events.iter().any(|event| event.deleted) => {}
                    Ok(_) | Err(Error::SlowWatcher { .. }) => continue 'read,
                    Err(err) => return Err(err),
                }
            }
        }
    }

    /// Reads the call's own key and the one before it, at one revision.
    async fn read_neighbours(&self, queue_key: &QueueKey) -> Result<Applied<Neighbours>, Error> {
        let own = first_by_creation(KeyRange::One(queue_key.key.clone()), SortOrder::None, 0);
        let predecessor = first_by_creation(
            to_key_range(&self.name),
            SortOrder::Descend,
            queue_key.create_revision - 1,
        );
        let done = self
            .coordinator
            .serve_txn(Txn {
                then: vec![Op::Range(own), Op::Range(predecessor)],
                ..Txn::default()
            })
            .await?;
        let mut found = done.result.results.into_iter().map(|result| match result {
            OpResult::Range(found) => found.kvs.into_iter().next(),
            _ => None,
        });
        let own = found.next().flatten();
        let predecessor = found.next().flatten();
        Ok(Applied {
            revision: done.revision,
            result: Neighbours {
                present: own.is_some_and(|kv| kv.create_revision == queue_key.create_revision),
                predecessor: predecessor.map(|kv| kv.key.clone()),
            },
        })
    }
}

struct Neighbours {
    present: bool,
    predecessor: Option<Bytes>,
}

/// Returns the read of the oldest or youngest of `keys` that was created at `max_create_revision`
/// or before; 0 sets no bound.
fn first_by_creation(
    keys: KeyRange,
    sort_order: SortOrder,
    max_create_revision: Revision,
) -> Range {
    Range {
        limit: 1,
        sort_target: SortTarget::Create,
        sort_order,
        max_create_revision,
        ..Range::all(keys)
    }
}
