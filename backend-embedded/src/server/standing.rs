//! Which calls stand on which key of a queue: to etcd, calls with one lease are one contender with
//! one key, so a call that is given up may remove the key only if no other call stands on it or was
//! granted it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Mutex as AsyncMutex;

use crate::machine::op::Revision;

/// The calls on one key. Locked while the key is created or removed for them.
#[derive(Debug, Default)]
pub(super) struct Standing {
    /// Calls that have neither been answered nor given up.
    pub(super) calls: usize,
    /// When one of them created the key; `None` if it was there before them.
    pub(super) created: Option<Revision>,
    /// One of them was told that it holds the key.
    pub(super) granted: bool,
}

type Map = HashMap<Bytes, Arc<AsyncMutex<Standing>>>;

/// The keys that calls stand on, at most one for each open call.
#[derive(Debug, Default)]
pub(super) struct Standings(Mutex<Map>);

impl Standings {
    /// Takes part in what is known of `key`, until the result is dropped.
    pub(super) fn on(&self, key: Bytes) -> Shared<'_> {
        let standing = Arc::clone(self.lock().entry(key.clone()).or_default());
        Shared {
            all: self,
            key,
            standing,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Map> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One call's part in a [`Standing`].
#[derive(Debug)]
pub(super) struct Shared<'a> {
    all: &'a Standings,
    pub(super) key: Bytes,
    pub(super) standing: Arc<AsyncMutex<Standing>>,
}

impl Drop for Shared<'_> {
    fn drop(&mut self) {
        let mut all = self.all.lock();
        // Ours and the map's: nobody else takes part, and nobody can begin to while we hold the
        // map.
        if Arc::strong_count(&self.standing) == 2 {
            all.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_of_a_key_lasts_as_long_as_a_call_stands_on_it() {
        let all = Standings::default();
        let key = || Bytes::from_static(b"l/a");
        let first = all.on(key());
        let second = all.on(key());
        assert!(Arc::ptr_eq(&first.standing, &second.standing));
        drop(first);
        let third = all.on(key());
        assert!(Arc::ptr_eq(&second.standing, &third.standing));
        drop((second, third));
        assert!(all.lock().is_empty());
    }
}
