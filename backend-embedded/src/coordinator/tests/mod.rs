//! Tests of the coordinator in memory and on a simulated disk.

#[cfg(feature = "server")]
mod copy;
mod durable;
mod faults;
mod history;
mod memory;

use std::future::Future;
use std::pin::pin;
use std::task::Poll;

use super::*;
use crate::machine::op::{Delete, KeyRange, KeyValue, Put, Range};
use crate::store::disk::Disk;

/// Far longer than anything here takes on any machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn one(key: &str) -> KeyRange {
    KeyRange::One(bytes(key))
}

fn put(key: &str, value: impl Into<Bytes>) -> Put {
    Put {
        key: bytes(key),
        value: Some(value.into()),
        lease: Some(0),
        prev_kv: false,
    }
}

fn put_on(key: &str, lease: LeaseId) -> Put {
    Put {
        lease: Some(lease),
        ..put(key, "v")
    }
}

fn delete(keys: KeyRange) -> Delete {
    Delete {
        keys,
        prev_kv: false,
    }
}

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn in_memory() -> Coordinator {
    Coordinator::in_memory(Limits::default()).unwrap()
}

fn on(disk: &Disk) -> Coordinator {
    with_limits(disk, Limits::default())
}

fn with_limits(disk: &Disk, limits: Limits) -> Coordinator {
    Coordinator::open_on(disk.medium(), limits, 0, None).unwrap()
}

impl Coordinator {
    async fn keys(&self) -> Vec<String> {
        let found = self.range(Range::all(KeyRange::all())).await.unwrap();
        let name = |kv: &Arc<KeyValue>| String::from_utf8_lossy(&kv.key).into_owned();
        found.result.kvs.iter().map(name).collect()
    }

    /// Returns the revision applied, durable or not.
    fn applied_revision(&self) -> Revision {
        self.shared().state().machine.revision()
    }
}

/// Waits until another thread or task has made the condition true.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waited = tokio::time::timeout(PATIENCE, async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    waited
        .await
        .unwrap_or_else(|_| panic!("waited in vain for: {what}"));
}

/// Waits for a result, but not for ever.
async fn soon<T>(what: &str, answer: impl Future<Output = T>) -> T {
    let waited = tokio::time::timeout(PATIENCE, answer);
    waited
        .await
        .unwrap_or_else(|_| panic!("waited in vain for: {what}"))
}

/// Returns whether a call that was started is still waiting.
async fn is_waiting(call: &mut (impl Future + Unpin)) -> bool {
    let mut call = pin!(call);
    std::future::poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx).is_pending())).await
}
