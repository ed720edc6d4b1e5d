//! A coordinator that others use: the suite stays in namespaces of its own, does no harm, and leaves
//! nothing behind.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use lock_core::{Backend, DEFAULT_TTL, DataKey, Error, LockName, Queue, Session};

use crate::fixture::{Administrator, Deployment, Fixture, Members, Skip};
use crate::link::Link;

/// How to make a client of its own in the namespace of this number.
type Connect = dyn Fn(u64) -> Result<Arc<dyn Backend>, Error> + Send + Sync;

/// A running coordinator, with a namespace for each case.
#[derive(Clone)]
pub struct Live {
    connect: Arc<Connect>,
    cases: Arc<AtomicU64>,
    sessions: Sessions,
}

/// All sessions that the cases opened, so that each can be closed.
type Sessions = Arc<Mutex<Vec<Arc<dyn Session>>>>;

impl Live {
    /// On the coordinator that this connects to, in the namespace of the number it is given; a
    /// number comes again when its case asks for another client.
    pub fn new(
        connect: impl Fn(u64) -> Result<Arc<dyn Backend>, Error> + Send + Sync + 'static,
    ) -> Self {
        Live {
            connect: Arc::new(connect),
            cases: Arc::default(),
            sessions: Arc::default(),
        }
    }

    /// Closes all sessions that the cases so far have opened, and with them every entry.
    ///
    /// # Errors
    /// If the coordinator does not answer: what is left then ends with its time to live.
    pub async fn clean(&self) -> Result<(), Error> {
        let sessions = std::mem::take(&mut *locked(&self.sessions));
        for session in sessions {
            session.close().await?;
        }
        Ok(())
    }
}

fn locked(sessions: &Sessions) -> std::sync::MutexGuard<'_, Vec<Arc<dyn Session>>> {
    sessions.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Fixture for Live {
    fn name(&self) -> &'static str {
        "live"
    }

    fn start(&self) -> Box<dyn Deployment> {
        Box::new(Namespace {
            number: self.cases.fetch_add(1, Ordering::Relaxed),
            live: self.clone(),
        })
    }
}

struct Namespace {
    number: u64,
    live: Live,
}

fn not_ours<T>(what: &str) -> Result<T, Skip> {
    Err(Skip::because(format!(
        "others use this coordinator: {what}"
    )))
}

impl Deployment for Namespace {
    fn backend(&self) -> Arc<dyn Backend> {
        let backend = (self.live.connect)(self.number).expect("a client, as before");
        Arc::new(Recorded {
            backend,
            sessions: self.live.sessions.clone(),
        })
    }

    fn shortest_ttl(&self) -> Duration {
        // What it takes for shorter ones is not known.
        DEFAULT_TTL
    }

    fn whole_store(&self) -> Result<(), Skip> {
        not_ours("raw names may be theirs")
    }

    fn administrator(&self) -> Result<&dyn Administrator, Skip> {
        not_ours("no session or entry is ended by force")
    }

    fn link(&self) -> Result<Link, Skip> {
        not_ours("it is reached without a detour")
    }

    fn members(&self) -> Result<&dyn Members, Skip> {
        not_ours("no server is stopped")
    }
}

/// A client whose sessions are kept track of.
#[derive(Debug)]
struct Recorded {
    backend: Arc<dyn Backend>,
    sessions: Sessions,
}

#[async_trait]
impl Backend for Recorded {
    async fn open_session(&self, ttl: Duration) -> Result<Arc<dyn Session>, Error> {
        let session = self.backend.open_session(ttl).await?;
        locked(&self.sessions).push(session.clone());
        Ok(session)
    }

    async fn queue(&self, name: &LockName) -> Result<Queue, Error> {
        self.backend.queue(name).await
    }

    async fn locks(
        &self,
        prefix: &str,
        after: Option<&LockName>,
        limit: usize,
    ) -> Result<Vec<Queue>, Error> {
        self.backend.locks(prefix, after, limit).await
    }

    async fn get(&self, key: &DataKey) -> Result<Option<Vec<u8>>, Error> {
        self.backend.get(key).await
    }
}
