//! The calls of the lock and election services on each key of a queue. To etcd, all calls with one
//! lease are one contender with one key. So an abandoned call may remove the key only if no other
//! call waits for it or was granted it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Mutex as AsyncMutex;

use crate::machine::op::Revision;

/// The calls on one key. Locked while the key is created or removed for them.
#[derive(Debug, Default)]
pub(super) struct KeyCalls {
    /// The number of calls that are neither answered nor abandoned.
    pub(super) calls: usize,
    /// The revision at which one of these calls created the key; `None` if the key existed before.
    pub(super) created: Option<Revision>,
    /// Whether one of these calls was granted the key.
    pub(super) granted: bool,
}

type Map = HashMap<Bytes, Arc<AsyncMutex<KeyCalls>>>;

/// The keys that calls wait for, at most one for each open call.
#[derive(Debug, Default)]
pub(super) struct CallRegistry(Mutex<Map>);

impl CallRegistry {
    /// Joins the calls on `key`, until the result is dropped.
    pub(super) fn join(&self, key: Bytes) -> Membership<'_> {
        let key_calls = Arc::clone(self.lock().entry(key.clone()).or_default());
        Membership {
            registry: self,
            key,
            key_calls,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Map> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The membership of one call in a [`KeyCalls`].
#[derive(Debug)]
pub(super) struct Membership<'a> {
    registry: &'a CallRegistry,
    pub(super) key: Bytes,
    pub(super) key_calls: Arc<AsyncMutex<KeyCalls>>,
}

impl Drop for Membership<'_> {
    fn drop(&mut self) {
        let mut all = self.registry.lock();
        // Only our reference and the map's are left. Nobody can join while we hold the map.
        if Arc::strong_count(&self.key_calls) == 2 {
            all.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_key_is_kept_while_a_call_uses_it() {
        let all = CallRegistry::default();
        let key = || Bytes::from_static(b"l/a");
        let first = all.join(key());
        let second = all.join(key());
        assert!(Arc::ptr_eq(&first.key_calls, &second.key_calls));
        drop(first);
        let third = all.join(key());
        assert!(Arc::ptr_eq(&second.key_calls, &third.key_calls));
        drop((second, third));
        assert!(all.lock().is_empty());
    }
}
