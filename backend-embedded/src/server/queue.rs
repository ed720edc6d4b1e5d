//! The queue behind the lock and the election service: keys `name/<lease in hex>`, first created
//! first served, as etcd's own clients keep it, so that all of them can stand in one queue.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tonic::Status;

use super::state::{Shared, State};
use super::{standing, status};
use crate::coordinator::{Applied, Coordinator, WatchBatch};
use crate::error::Error;
use crate::machine::op::{
    Compare, CompareOp, CompareTarget, Delete, KeyRange, KeyValue, LeaseId, Op, OpResult, Put,
    Range, Revision, SortOrder, SortTarget, Txn,
};

/// Time to live of the lease that the server grants to a call that names none (as etcd).
const SERVER_LEASE_TTL: Duration = Duration::from_secs(60);

/// How often that lease is renewed while its call waits.
const SERVER_LEASE_RENEWAL: Duration = Duration::from_secs(20);

/// A place at the head of the queue.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) key: Bytes,
    /// The key's create revision.
    pub(super) created: Revision,
    pub(super) lease: LeaseId,
    /// The store's revision when the place was first known to be at the head.
    pub(super) revision: Revision,
}

/// All keys of the queue `name`.
pub(super) fn keys(name: &[u8]) -> KeyRange {
    // `0` follows `/`.
    let with = |last: u8| -> Bytes { [name, &[last]].concat().into() };
    KeyRange::Span {
        start: with(b'/'),
        end: Some(with(b'0')),
    }
}

fn key(name: &[u8], lease: LeaseId) -> Bytes {
    [name, format!("/{lease:x}").as_bytes()].concat().into()
}

/// The queue's oldest key, and the store's revision at that moment.
pub(super) async fn head(
    coordinator: &Coordinator,
    name: &[u8],
) -> Result<Applied<Option<Arc<KeyValue>>>, Error> {
    let oldest = by_age(keys(name), SortOrder::Ascend, 0);
    let found = coordinator.range(oldest).await?;
    Ok(Applied {
        revision: found.revision,
        result: found.result.kvs.into_iter().next(),
    })
}

/// That `key` is still the one created at `revision`.
pub(super) fn is_created_at(key: Bytes, revision: Revision) -> Compare {
    Compare {
        keys: KeyRange::One(key),
        op: CompareOp::Equal,
        target: CompareTarget::Create(revision),
    }
}

/// Stands in the queue until at its head. Dropping the returned future takes the place back, unless
/// another call on the same lease stands there or has been told that it holds it.
pub(super) async fn acquire(
    state: &Shared,
    name: Vec<u8>,
    lease: LeaseId,
    value: Option<Bytes>,
) -> Result<Place, Status> {
    let (answer, answered) = oneshot::channel();
    let state = Arc::clone(state);
    // A task of its own, as the way out of the queue has steps to wait for.
    tokio::spawn(async move { stand(&state, name, lease, value, answer).await });
    answered.await.unwrap_or_else(|_| Err(status::stopped()))
}

type Answer = oneshot::Sender<Result<Place, Status>>;

async fn stand(
    state: &State,
    name: Vec<u8>,
    lease: LeaseId,
    value: Option<Bytes>,
    mut answer: Answer,
) {
    let own_lease = lease == 0;
    let granted = if own_lease {
        let granted = state.coordinator.grant(0, SERVER_LEASE_TTL).await;
        granted.map(|granted| granted.id)
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
        shared: state.standings.on(key(&name, lease)),
        name,
        value,
        lease,
        own_lease,
    };
    // To its end even if the caller goes away, so that there is no doubt about what to remove.
    let mut place = match call.enter().await {
        Ok(place) => place,
        Err(err) => {
            call.give_up_lease().await;
            let _ = answer.send(Err(err.into()));
            return;
        }
    };
    let outcome = tokio::select! {
        waited = call.wait(&mut place) => match waited {
            Ok(true) => Ok(place),
            Ok(false) => Err(Status::unknown("mutex: session is expired")),
            Err(err) => Err(err.into()),
        },
        () = answer.closed() => Err(Status::cancelled("etcdserver: request canceled")),
        () = state.lifecycle.draining() => Err(state.stopped()),
    };
    call.leave(outcome, answer).await;
}

/// One call in the queue.
struct Call<'a> {
    state: &'a State,
    shared: standing::Shared<'a>,
    name: Vec<u8>,
    /// What to write; `None` for a lock, which leaves the value of a key that it finds alone.
    value: Option<Bytes>,
    lease: LeaseId,
    /// The lease was granted for this call alone.
    own_lease: bool,
}

impl Call<'_> {
    /// Creates the key, or finds it there.
    async fn enter(&self) -> Result<Place, Error> {
        let key = || self.shared.key.clone();
        let own = by_age(KeyRange::One(key()), SortOrder::None, 0);
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
            compare: vec![is_created_at(key(), 0)],
            then: vec![put(self.value.clone().unwrap_or_default())],
            or_else,
        };
        let mut standing = self.shared.standing.lock().await;
        let done = self.state.coordinator.txn(txn).await?;
        let found = match done.result.results.first() {
            Some(OpResult::Range(found)) => found.kvs.first().map(|kv| kv.create_revision),
            _ => None,
        };
        standing.calls += 1;
        if found.is_none() {
            standing.created = Some(done.revision);
            standing.granted = false;
        }
        Ok(Place {
            key: key(),
            created: found.unwrap_or(done.revision),
            lease: self.lease,
            revision: done.revision,
        })
    }

    /// Answers, and removes the key if nobody holds it or stands on it any more.
    async fn leave(&self, outcome: Result<Place, Status>, answer: Answer) {
        let mut standing = self.shared.standing.lock().await;
        standing.calls -= 1;
        let failed = match outcome {
            Ok(place) => {
                if answer.send(Ok(place)).is_ok() {
                    standing.granted = true;
                    return;
                }
                // The caller went away in that moment.
                None
            }
            Err(status) => Some((answer, status)),
        };
        let created = standing.created;
        if standing.calls == 0
            && !standing.granted
            && let Some(created) = created
            && let Err(err) = self.remove(created).await
        {
            // The lease still ends it.
            tracing::warn!(%err, "cannot take back a place in a queue");
        }
        drop(standing);
        self.give_up_lease().await;
        // Last, so that the end of the server waits for the removal.
        if let Some((answer, status)) = failed {
            let _ = answer.send(Err(status));
        }
    }

    async fn remove(&self, created: Revision) -> Result<(), Error> {
        let delete = Op::Delete(Delete {
            keys: KeyRange::One(self.shared.key.clone()),
            prev_kv: false,
        });
        let txn = Txn {
            compare: vec![is_created_at(self.shared.key.clone(), created)],
            then: vec![delete],
            or_else: vec![],
        };
        self.state.coordinator.txn(txn).await.map(|_| ())
    }

    /// Revokes the lease if it is this call's alone.
    async fn give_up_lease(&self) {
        if !self.own_lease {
            return;
        }
        match self.state.coordinator.revoke(self.lease).await {
            Ok(_) | Err(Error::LeaseNotFound { .. }) => {}
            Err(err) => tracing::warn!(%err, "cannot revoke the lease of a call"),
        }
    }

    /// Waits until the place is at the head, or (`false`) gone.
    async fn wait(&self, place: &mut Place) -> Result<bool, Error> {
        let coordinator = &self.state.coordinator;
        let mut renewal = interval_at(Instant::now() + SERVER_LEASE_RENEWAL, SERVER_LEASE_RENEWAL);
        renewal.set_missed_tick_behavior(MissedTickBehavior::Delay);
        'look: loop {
            // First the watch, then the look: what happens in between wakes us.
            let mut own = coordinator.watch(KeyRange::One(place.key.clone()), None)?;
            let seen = self.look(place).await?;
            if !seen.result.still_there {
                return Ok(false);
            }
            let Some(ahead) = seen.result.ahead else {
                if self.own_lease {
                    coordinator.keep_alive(self.lease).await?;
                }
                place.revision = seen.revision;
                return Ok(true);
            };
            let start = Some(seen.revision + 1);
            let mut ahead = match coordinator.watch(KeyRange::One(ahead), start) {
                Ok(watcher) => watcher,
                Err(Error::Compacted { .. }) => continue 'look,
                Err(err) => return Err(err),
            };
            loop {
                let changed = tokio::select! {
                    changed = own.next() => changed,
                    changed = ahead.next() => changed,
                    _ = renewal.tick(), if self.own_lease => {
                        coordinator.keep_alive(self.lease).await?;
                        continue;
                    }
                };
                match changed {
                    Ok(WatchBatch { events, .. }) if !events.iter().any(|event| event.deleted) => {}
                    Ok(_) | Err(Error::SlowWatcher { .. }) => continue 'look,
                    Err(err) => return Err(err),
                }
            }
        }
    }

    /// Our own key and the one before it, at one revision.
    async fn look(&self, place: &Place) -> Result<Applied<Seen>, Error> {
        let own = by_age(KeyRange::One(place.key.clone()), SortOrder::None, 0);
        let ahead = by_age(keys(&self.name), SortOrder::Descend, place.created - 1);
        let done = self
            .state
            .coordinator
            .txn(Txn {
                then: vec![Op::Range(own), Op::Range(ahead)],
                ..Txn::default()
            })
            .await?;
        let mut found = done.result.results.into_iter().map(|result| match result {
            OpResult::Range(found) => found.kvs.into_iter().next(),
            _ => None,
        });
        let own = found.next().flatten();
        let ahead = found.next().flatten();
        Ok(Applied {
            revision: done.revision,
            result: Seen {
                still_there: own.is_some_and(|kv| kv.create_revision == place.created),
                ahead: ahead.map(|kv| kv.key.clone()),
            },
        })
    }
}

struct Seen {
    still_there: bool,
    ahead: Option<Bytes>,
}

/// The oldest or youngest of `keys`, created at `max_create` or before (0: whenever).
fn by_age(keys: KeyRange, sort_order: SortOrder, max_create_revision: Revision) -> Range {
    Range {
        limit: 1,
        sort_target: SortTarget::Create,
        sort_order,
        max_create_revision,
        ..Range::all(keys)
    }
}
