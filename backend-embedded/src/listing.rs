//! Listings of queues.

use std::collections::VecDeque;

use backend_kit::keyspace::{Keyspace, Span};
use lock_core::{Entry, Error, LockName, Queue, TokenOffset};

use crate::coordinator::Coordinator;
use crate::error::to_lock_error;
use crate::layout::to_key_range;
use crate::machine::op::{KeyValue, Range, SortOrder, SortTarget};
use crate::offset;

/// Keys read at once for a listing. The coordinator serves other requests in between.
const CHUNK_KEYS: usize = 1000;

/// Reads the queue of one lock, first entry first.
pub(crate) async fn read_queue(
    coordinator: &Coordinator,
    keyspace: &Keyspace,
    name: &LockName,
) -> Result<Queue, Error> {
    let range = Range {
        sort_target: SortTarget::Create,
        sort_order: SortOrder::Ascend,
        ..Range::all(to_key_range(keyspace.lock(name)))
    };
    let found = coordinator.range(range).await.map_err(to_lock_error)?;
    let offset = offset::read(coordinator, keyspace).await?.offset;
    let entries = found.result.kvs.iter();
    let entries = entries.map(|kv| to_entry(keyspace, name, kv, offset));
    Ok(Queue::new(name.clone(), entries.collect::<Result<_, _>>()?))
}

/// Reads the queues of at most `limit` locks, ascending by name, that start with `prefix` and come
/// after `after`.
pub(crate) async fn list_queues(
    coordinator: &Coordinator,
    keyspace: &Keyspace,
    prefix: &str,
    after: Option<&LockName>,
    limit: usize,
) -> Result<Vec<Queue>, Error> {
    let mut spans = VecDeque::from(keyspace.locks(prefix, after));
    let offset = offset::read(coordinator, keyspace).await?.offset;
    let mut queues: Vec<Queue> = Vec::new();
    'chunks: while let Some(span) = spans.pop_front() {
        let range = Range {
            limit: CHUNK_KEYS,
            ..Range::all(to_key_range(span.clone()))
        };
        let found = coordinator.range(range).await;
        let found = found.map_err(to_lock_error)?.result;
        for kv in &found.kvs {
            let Some(name) = keyspace.name_of(&kv.key) else {
                continue;
            };
            if queues.last().is_none_or(|queue| queue.name != name) {
                if queues.len() == limit {
                    break 'chunks;
                }
                queues.push(Queue::new(name.clone(), Vec::new()));
            }
            if let Some(queue) = queues.last_mut() {
                queue.entries.push(to_entry(keyspace, &name, kv, offset)?);
            }
        }
        if let (true, Some(last)) = (found.more, found.kvs.last()) {
            let start = [&last.key[..], &[0]].concat();
            spans.push_front(Span { start, ..span });
        }
    }
    for queue in &mut queues {
        queue.entries.sort_by_key(|entry| entry.id.incarnation);
    }
    Ok(queues)
}

fn to_entry(
    keyspace: &Keyspace,
    name: &LockName,
    kv: &KeyValue,
    offset: TokenOffset,
) -> Result<Entry, Error> {
    let (created, lease) = (kv.create_revision, kv.lease);
    keyspace.entry(name, &kv.key, created, lease, &kv.value, offset)
}
