//! The embedded coordinator as a backend of the locks: in process, without gRPC.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use backend_kit::keyspace::{Keyspace, Span};
use lock_core::{
    Backend, DataKey, Effect, Entry, EntryId, ErrorKind, KnownTokenOffset, LockName, LossReason,
    Queue, Raised, Removed, Session, TokenOffset, background,
};

use crate::config::{Config, Limits};
use crate::coordinator::Coordinator;
use crate::error::Error;
use crate::machine::op::{
    Compare, CompareOp, CompareTarget, KeyRange, KeyValue, Op, Put, Range, RangeResult, SortOrder,
    SortTarget, Txn,
};
use crate::on_use::Place;
use crate::session::{self, EmbeddedSession};

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

    /// Returns the backend of a URL: `embedded:///DIR`, a coordinator that is durable in the folder
    /// DIR, or `embedded:memory`. Reads and checks the folder now, on a thread of its own;
    /// [`from_url`](crate::from_url) leaves that to the first request.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] if the URL is malformed or the folder cannot be opened.
    ///
    /// # Cancel safety
    /// The folder is opened all the same, and closed at once.
    pub async fn open(url: &str) -> Result<Arc<Self>, lock_core::Error> {
        match Place::parse(url)? {
            Place::Folder(config) => EmbeddedBackend::open_folder(config).await,
            Place::Memory => {
                let coordinator = Coordinator::in_memory(Limits::default());
                Ok(EmbeddedBackend::new(coordinator.map_err(cannot_open)?))
            }
        }
    }

    pub(crate) async fn open_folder(config: Config) -> Result<Arc<Self>, lock_core::Error> {
        let coordinator = background::block(|| Coordinator::open(config)).await?;
        Ok(EmbeddedBackend::new(coordinator.map_err(cannot_open)?))
    }

    /// The coordinator behind it.
    pub fn coordinator(&self) -> &Coordinator {
        &self.coordinator
    }
}

pub(crate) fn cannot_open(error: Error) -> lock_core::Error {
    lock_core::Error::new(ErrorKind::Configuration, error.to_string())
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
        let offset = self.offset().await?.offset;
        let entries = found.result.kvs.iter();
        let entries = entries.map(|kv| self.entry(name, kv, offset));
        Ok(Queue {
            name: name.clone(),
            entries: entries.collect::<Result<_, _>>()?,
        })
    }

    async fn locks(
        &self,
        prefix: &str,
        after: Option<&LockName>,
        limit: usize,
    ) -> Result<Vec<Queue>, lock_core::Error> {
        let mut spans = VecDeque::from(self.keyspace.locks(prefix, after));
        let offset = self.offset().await?.offset;
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
                    queue.entries.push(self.entry(&name, kv, offset)?);
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

    async fn get(&self, key: &DataKey) -> Result<Option<Vec<u8>>, lock_core::Error> {
        let key = self.keyspace.data_key(key).into_bytes();
        let range = Range::all(KeyRange::One(key.into()));
        let found = self.coordinator.range(range).await.map_err(refused)?;
        Ok(found.result.kvs.first().map(|kv| kv.value.to_vec()))
    }

    async fn evict(&self, name: &LockName, entry: &EntryId) -> Result<Removed, lock_core::Error> {
        self.keyspace.check_entry(name, entry)?;
        let removal = session::removal(&entry.key, session::incarnation(entry));
        let done = self.coordinator.txn(removal).await.map_err(refused)?;
        Ok(session::removed(&done.result))
    }

    async fn raise_token_offset(&self, offset: TokenOffset) -> Result<Raised, lock_core::Error> {
        loop {
            let known = self.offset().await?;
            if known.offset >= offset {
                return Ok(Raised::To(known.offset));
            }
            let unused = |span| Compare {
                keys: between(span),
                op: CompareOp::Equal,
                target: CompareTarget::Create(0),
            };
            let locks = self.keyspace.locks("", None).into_iter();
            let mut compare: Vec<Compare> = locks.map(unused).collect();
            compare.push(still(&self.keyspace, known));
            let put = Put {
                key: self.keyspace.token_offset_key().into(),
                value: Some(offset.to_bytes().into()),
                lease: Some(0),
                prev_kv: false,
            };
            let done = self.coordinator.txn(Txn {
                compare,
                then: vec![Op::Put(put)],
                or_else: vec![],
            });
            if done.await.map_err(refused)?.result.succeeded {
                return Ok(Raised::To(offset));
            }
            if self.offset().await? == known {
                return Ok(Raised::InUse);
            }
        }
    }
}

/// The offset is still what is known of it.
pub(crate) fn still(keyspace: &Keyspace, known: KnownTokenOffset) -> Compare {
    Compare {
        keys: KeyRange::One(keyspace.token_offset_key().into()),
        op: CompareOp::Equal,
        target: CompareTarget::Mod(known.revision),
    }
}

/// What a read of the offset's key says of it.
pub(crate) fn known(
    keyspace: &Keyspace,
    found: &RangeResult,
) -> Result<KnownTokenOffset, lock_core::Error> {
    let Some(kv) = found.kvs.first() else {
        return Ok(KnownTokenOffset::default());
    };
    Ok(KnownTokenOffset {
        offset: TokenOffset::from_bytes(&kv.value, &keyspace.token_offset_key())?,
        revision: kv.mod_revision,
    })
}

impl EmbeddedBackend {
    fn entry(
        &self,
        name: &LockName,
        kv: &KeyValue,
        offset: TokenOffset,
    ) -> Result<Entry, lock_core::Error> {
        let (created, lease) = (kv.create_revision, kv.lease);
        self.keyspace
            .entry(name, &kv.key, created, lease, &kv.value, offset)
    }

    async fn offset(&self) -> Result<KnownTokenOffset, lock_core::Error> {
        let key = self.keyspace.token_offset_key().into_bytes();
        let range = Range::all(KeyRange::One(key.into()));
        let found = self.coordinator.range(range).await.map_err(refused)?;
        known(&self.keyspace, &found.result)
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
        Error::Stopped { .. } | Error::Displaced { .. } => {
            (ErrorKind::Configuration, Effect::Unknown)
        }
        Error::AlreadyOpen { .. }
        | Error::Lingering { .. }
        | Error::Damaged { .. }
        | Error::FormatVersion { .. }
        | Error::Io { .. } => (ErrorKind::Configuration, Effect::None),
        _ => (ErrorKind::Internal, Effect::None),
    };
    let message = match &error {
        Error::Stopped { .. } | Error::Displaced { .. } => "the embedded coordinator has stopped",
        Error::LeaseNotFound { .. } => "the coordinator ended the session",
        _ => "the embedded coordinator refused",
    };
    lock_core::Error::new(kind, message)
        .with_effect(effect)
        .with_source(error)
}
