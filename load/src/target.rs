//! The coordinator that is measured, and the sessions that the workers open on it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future;
use turnlock::{Backend, Error, Locks, Options};

use crate::raw::{Baseline, Place, Raw};

/// The time to live of sessions: long enough for a machine that stands still for a while.
const TTL: Duration = Duration::from_secs(30);

/// A coordinator under load. All locks and entries lie in a namespace of this target's own.
#[derive(Debug)]
pub struct Target {
    name: String,
    backend: Arc<dyn Backend>,
    baseline: Option<Arc<dyn Baseline>>,
    scope: String,
    /// The sessions opened since the last [`part`](Target::part).
    sessions: Mutex<Vec<Locks>>,
}

impl Target {
    /// Returns the coordinator of a URL, in the form that [`turnlock::connect`] takes. Opens no
    /// session.
    ///
    /// # Errors
    /// As [`turnlock::connect`].
    pub async fn connect(url: &str) -> Result<Target, Error> {
        let scheme = url.split_once(':').map_or(url, |(scheme, _)| scheme);
        match scheme {
            #[cfg(feature = "embedded")]
            "embedded" => {
                let name = match url {
                    "embedded:memory" => "memory",
                    _ => "durable",
                };
                let backend = turnlock::embedded::EmbeddedBackend::open(url).await?;
                Ok(Target::with_baseline(name, backend))
            }
            #[cfg(feature = "etcd")]
            "etcd" | "etcds" | "etcd+unix" => {
                let name = match scheme {
                    "etcd+unix" => "served",
                    _ => "etcd",
                };
                let config = turnlock::etcd::Config::from_url(url)?;
                let backend = turnlock::etcd::EtcdBackend::new(config)?;
                Ok(Target::with_baseline(name, backend))
            }
            #[cfg(feature = "zk")]
            "zk" | "zks" => {
                let config = turnlock::zk::Config::from_url(url)?;
                Ok(Target::with_baseline(
                    "zookeeper",
                    turnlock::zk::ZkBackend::new(config)?,
                ))
            }
            _ => Ok(Target::new(scheme, turnlock::backend(url)?, None)),
        }
    }

    /// Returns a target with a baseline on this backend, under this name in reports.
    pub fn with_baseline<B: Backend + Baseline + 'static>(name: &str, backend: Arc<B>) -> Target {
        Target::new(name, backend.clone(), Some(backend))
    }

    fn new(name: &str, backend: Arc<dyn Backend>, baseline: Option<Arc<dyn Baseline>>) -> Target {
        Target {
            name: name.to_owned(),
            backend,
            baseline,
            scope: format!("turnlock-bench/{:016x}", fastrand::u64(..)),
            sessions: Mutex::default(),
        }
    }

    /// Returns the name in reports.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns whether the bare requests can be measured.
    pub fn has_baseline(&self) -> bool {
        self.baseline.is_some()
    }

    /// Returns the name of a lock in this target's namespace.
    pub(crate) fn lock(&self, name: &str) -> String {
        format!("{}/{name}", self.scope)
    }

    /// Returns locks with a session of their own, as another process would have.
    ///
    /// # Errors
    /// Never with the options of this crate.
    pub fn session(&self) -> Result<Locks, Error> {
        let options = Options::default().with_ttl(TTL).with_owner("bench");
        let locks = Locks::new(self.backend.clone(), options)?;
        self.sessions().push(locks.clone());
        Ok(locks)
    }

    /// Returns a client for bare requests, or `None` if those of this backend are not known.
    pub(crate) async fn raw(&self, number: usize) -> Result<Option<Box<dyn Raw>>, Error> {
        let Some(baseline) = &self.baseline else {
            return Ok(None);
        };
        let place = Place::find(self.session()?, &self.lock(&format!("raw-{number}"))).await?;
        Ok(Some(baseline.raw(place).await?))
    }

    /// Ends all sessions, and with them all entries in the namespace.
    ///
    /// # Errors
    /// If a session could not be ended yet. It ends in the background, or within 30 s.
    ///
    /// # Cancel safety
    /// The sessions that are not ended yet end in the background, or within 30 s.
    pub async fn part(&self) -> Result<(), Error> {
        let sessions = std::mem::take(&mut *self.sessions());
        let closed = future::join_all(sessions.iter().map(Locks::close)).await;
        closed.into_iter().collect()
    }

    fn sessions(&self) -> std::sync::MutexGuard<'_, Vec<Locks>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(all(test, feature = "embedded"))]
mod tests {
    use super::*;
    use crate::{Plan, Workload, measure};

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn nothing_is_left_behind() {
        let target = Target::connect("embedded:memory").await.expect("a backend");
        let stranger = Locks::new(target.backend.clone(), Options::default()).expect("options");
        for workload in Workload::ALL {
            let plan = Plan {
                workload,
                workers: 4,
                length: Duration::from_millis(20),
            };
            let line = measure(&target, plan).await.expect("it is measured");
            assert!(line.ops > 0, "{workload}");
            let left = stranger.list("", None, 10).await.expect("an answer");
            assert_eq!(left, [], "{workload}");
        }
    }

    #[tokio::test]
    async fn abandoned_entries_go_with_their_sessions() {
        let target = Target::connect("embedded:memory").await.expect("a backend");
        let stranger = Locks::new(target.backend.clone(), Options::default()).expect("options");
        let lock = target.session().expect("a session").mutex(target.lock("a"));
        let guard = lock.expect("a name").acquire().await.expect("it is free");
        std::mem::forget(guard);
        let held = stranger
            .list(&target.scope, None, 10)
            .await
            .expect("a list");
        assert_eq!(held.len(), 1);
        target.part().await.expect("the sessions end");
        let left = stranger
            .list(&target.scope, None, 10)
            .await
            .expect("a list");
        assert_eq!(left, []);
    }
}
