//! The baseline: the bare requests that a lock cannot do without, made with the same client and
//! without any lock. An ephemeral entry is created and deleted.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use turnlock::{Error, ErrorKind, LockName, Locks, SessionId};

#[cfg(feature = "embedded")]
mod embedded;
#[cfg(feature = "etcd")]
mod etcd;
#[cfg(feature = "zk")]
mod zk;

/// A backend whose bare requests are known.
#[async_trait]
pub trait Baseline: Debug + Send + Sync {
    /// Connects a client for bare requests.
    ///
    /// # Errors
    /// If the coordinator cannot be reached.
    async fn raw(&self, place: Place) -> Result<Box<dyn Raw>, Error>;
}

/// A client for bare requests.
#[async_trait]
pub trait Raw: Send {
    /// Creates an entry and deletes it: two round trips, two commits.
    ///
    /// # Errors
    /// If either request failed.
    async fn pair(&mut self) -> Result<(), Error>;
}

/// The place of a bare entry: the key of a lock's entry that stood there a moment ago, so that both
/// cost the store the same.
#[derive(Debug)]
pub struct Place {
    /// The key or path of that entry.
    pub key: Arc<[u8]>,
    /// The session that the entry belonged to.
    pub session: SessionId,
    /// The locks of that session, which keep it alive.
    pub locks: Locks,
}

impl Place {
    /// Takes the lock of this name, reads the key of its entry, and releases it.
    pub(crate) async fn find(locks: Locks, name: &str) -> Result<Self, Error> {
        let name = LockName::new(name)?;
        let guard = locks.mutex(name.clone())?.acquire().await?;
        let queue = locks.queue(&name).await?;
        let _ = guard.release().await;
        let entry = queue.entries.first().map(|entry| entry.id.key.clone());
        let (Some(key), Some(session)) = (entry, locks.session_id()) else {
            let message = format!("the entry of a held lock is not in the queue of {name}");
            return Err(Error::new(ErrorKind::Internal, message));
        };
        Ok(Place {
            key,
            session,
            locks,
        })
    }
}

/// Returns the error for a bare request that failed.
#[cfg(any(feature = "etcd", feature = "zk"))]
fn to_lock_error(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::Unreachable, "a bare request failed").with_source(error)
}
