//! The embedded coordinator as a backend of the locks: in process, without gRPC.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lock_core::keyspace::{Keyspace, Span};
use lock_core::{Backend, DataKey, Effect, Entry, ErrorKind, LockName, LossReason, Queue, Session};

use crate::coordinator::Coordinator;
use crate::error::Error;
use crate::machine::op::{KeyRange, KeyValue, Range, SortOrder, SortTarget};
use crate::session::EmbeddedSession;

/// Keys read at once for a listing: the coordinator serves others in between.
const CHUNK: usize = 1000;

/// Locks on a coordinator in this process. Its users and those who reach the same coordinator by
/// the etcd API stand in the same queues.
#[derive(Debug, Clone)]
pub struct EmbeddedBackend {
    coordinator: Coordinator,
    keyspace: Keyspace,
}

impl EmbeddedBackend {
    /// Locks in the default namespace of this coordinator.
    pub fn new(coordinator: Coordinator) -> Arc<Self> {
        Arc::new(EmbeddedBackend {
            coordinator,
            keyspace: Keyspace::default(),
        })
    }
}

#[async_trait]
impl Backend for EmbeddedBackend {
    async fn open_session(&self, ttl: Duration) -> Result<Arc<dyn Session>, lock_core::Error> {
        let session =
            EmbeddedSession::open(self.coordinator.clone(), self.keyspace.clone(), ttl).await?;
        Ok(session)
    }

    async fn queue(&self, name: &LockName) -> Result<Queue, lock_core::Error> {
        let range = Range {
            sort_target: SortTarget::Create,
            sort_order: SortOrder::Ascend,
            ..Range::all(between(self.keyspace.lock(name)))
        };
        let found = self.coordinator.range(range).await.map_err(refused)?;
        let entries = found
            .result
            .kvs
            .iter()
            .map(|kv| self.entry(name, kv))
            .collect();
        Ok(Queue {
            name: name.clone(),
            entries,
        })
    }

    async fn locks(
        &self,
        prefix: &str,
        after: Option<&LockName>,
        limit: usize,
    ) -> Result<Vec<Queue>, lock_core::Error> {
        let mut spans = VecDeque::from(self.keyspace.locks(prefix, after));
        let mut queues: Vec<Queue> = Vec::new();
        'chunks: while let Some(span) = spans.pop_front() {
            let range = Range {
                limit: CHUNK,
                ..Range::all(between(span.clone()))
            };
            let found = self.coordinator.range(range).await.map_err(refused)?.result;
            for kv in &found.kvs {
                let Some(name) = self.keyspace.name_of(&kv.key) else {
                    continue;
                };
                if queues.last().is_none_or(|queue| queue.name != name) {
                    if queues.len() == limit {
                        break 'chunks;
                    }
                    queues.push(Queue {
                        name: name.clone(),
                        entries: Vec::new(),
                    });
                }
                if let Some(queue) = queues.last_mut() {
                    queue.entries.push(self.entry(&name, kv));
                }
            }
            if let (true, Some(last)) = (found.more, found.kvs.last()) {
                let start = [&last.key[..], &[0]].concat();
                spans.push_front(Span { start, ..span });
            }
        }
        for queue in &mut queues {
            queue.entries.sort_by_key(|entry| entry.id.token);
        }
        Ok(queues)
    }

    async fn get(&self, key: &DataKey) -> Result<Option<Vec<u8>>, lock_core::Error> {
        let key = self.keyspace.data_key(key).into_bytes();
        let range = Range::all(KeyRange::One(key.into()));
        let found = self.coordinator.range(range).await.map_err(refused)?;
        Ok(found.result.kvs.first().map(|kv| kv.value.to_vec()))
    }
}

impl EmbeddedBackend {
    fn entry(&self, name: &LockName, kv: &KeyValue) -> Entry {
        self.keyspace
            .entry(name, &kv.key, kv.create_revision, kv.lease, &kv.value)
    }
}

pub(crate) fn between(span: Span) -> KeyRange {
    KeyRange::Span {
        start: span.start.into(),
        end: Some(span.end.into()),
    }
}

/// What the coordinator's errors mean to a user of locks.
pub(crate) fn refused(error: Error) -> lock_core::Error {
    let (kind, effect) = match &error {
        Error::LeaseNotFound { .. } => (
            ErrorKind::SessionLost(LossReason::SessionGone),
            Effect::None,
        ),
        Error::NoSpace { .. }
        | Error::QuotaExceeded { .. }
        | Error::Overloaded
        | Error::TooManyLeases { .. }
        | Error::TooManyWatches { .. } => (ErrorKind::Exhausted, Effect::None),
        // For good: nothing in this process starts it again.
        Error::Stopped { .. } => (ErrorKind::Configuration, Effect::Unknown),
        Error::AlreadyOpen { .. }
        | Error::Damaged { .. }
        | Error::FormatVersion { .. }
        | Error::Io { .. } => (ErrorKind::Configuration, Effect::None),
        _ => (ErrorKind::Internal, Effect::None),
    };
    let message = match &error {
        Error::Stopped { .. } => "the embedded coordinator has stopped",
        Error::LeaseNotFound { .. } => "the coordinator ended the session",
        _ => "the embedded coordinator refused",
    };
    lock_core::Error::new(kind, message)
        .with_effect(effect)
        .with_source(error)
}
