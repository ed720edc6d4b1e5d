//! The coordinator: one writer over the state machine, with durability, expiry and watches.
//!
//! Requests are applied in order, under one lock, in the caller's thread. In memory, a request is
//! then complete. A durable coordinator makes the caller wait: changes are collected while the
//! committer thread writes those collected before (group commit). A request is answered, and its
//! changes are published to watches, only when everything that it depends on is on the disk. A read
//! waits for the changes that it has seen, if they are not durable yet.

mod authorizer;
mod bell;
mod committer;
#[cfg(feature = "server")]
mod copy;
mod expiry;
#[cfg(feature = "server")]
mod figures;
mod folder_watchdog;
#[cfg(feature = "server")]
mod heavy;
mod leases;
mod pending;
#[cfg(feature = "server")]
mod recent_commits;
mod requests;
#[cfg(feature = "server")]
mod revision_times;
mod shared;
#[cfg(simulation)]
mod simulated;
#[cfg(test)]
mod tests;
mod watch;

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use lock_core::surroundings::Surroundings;

use crate::config::{Config, Limits};
use crate::error::Error;
use crate::evidence::PreviousRun;
use crate::machine::Snapshot;
use crate::machine::op::{LeaseId, Revision};
use crate::store::{Folder, Identity, Medium, Store};
pub(crate) use authorizer::{Authorizer, Operation};
#[cfg(feature = "server")]
pub(crate) use authorizer::{LeaseState, Leases};
use committer::Committer;
#[cfg(feature = "server")]
pub(crate) use copy::Retained;
use expiry::Expiry;
#[cfg(feature = "server")]
pub(crate) use figures::Gauges;
use folder_watchdog::FolderWatchdog;
pub(crate) use folder_watchdog::ShutdownGuard;
#[cfg(feature = "server")]
pub(crate) use heavy::Turn;
pub use requests::Applied;
#[cfg(feature = "server")]
pub(crate) use revision_times::RevisionTimes;
pub(crate) use shared::Shared;
pub use watch::{WatchBatch, Watcher};

/// A handle to a coordinator. Clones share it. The coordinator stops when the last handle is
/// dropped, or at [`close`](Coordinator::close).
///
/// Calls may come from any async runtime. A call enters the order of requests when it is first
/// polled. A request that only deletes is undone if it shares a commit with writes that find the
/// disk full; it then enters the order once more.
///
/// ```
/// use backend_embedded::{Coordinator, Limits};
///
/// let coordinator = Coordinator::in_memory(Limits::default())?;
/// assert_eq!(coordinator.status().leases, 0);
/// coordinator.close()?;
/// # Ok::<(), backend_embedded::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Coordinator {
    inner: Arc<Inner>,
    /// Decides on the requests of this handle; `None` if it may do everything.
    authorizer: Option<Arc<dyn Authorizer>>,
    /// The turn of the client whose requests come through this handle.
    #[cfg(feature = "server")]
    turn: Option<Arc<Turn>>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    #[cfg(feature = "server")]
    heavy: Turn,
}

/// A granted lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Granted {
    /// Its id.
    pub id: LeaseId,
    /// The time to live granted, whole seconds.
    pub ttl: Duration,
}

/// The state of a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseInfo {
    /// Its id.
    pub id: LeaseId,
    /// The time to live granted, whole seconds.
    pub granted: Duration,
    /// The time that remains until the lease expires, unless it is renewed.
    pub remaining: Duration,
    /// The attached keys, ascending; empty unless the request asked for them.
    pub keys: Vec<Bytes>,
}

/// The state of the coordinator: what is durable, and how much it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// The revision of the last change that is durable.
    pub revision: Revision,
    /// The revision of the last explicit compaction, 0 if there was none.
    pub compact_revision: Revision,
    /// The random id of the store, chosen when the store was created; never 0.
    pub cluster_id: u64,
    /// The random id of the only member, chosen when the store was created; never 0.
    pub member_id: u64,
    /// The length of the store's file in bytes; 0 if the coordinator is in memory only.
    pub db_size: u64,
    /// Bytes of keys and values.
    pub db_size_in_use: u64,
    /// Number of keys.
    pub keys: usize,
    /// Number of live leases.
    pub leases: usize,
}

impl Coordinator {
    /// Opens the durable coordinator in `config.data_dir`, and creates it if it is absent. This
    /// blocks: it reads and checks the store's file.
    ///
    /// Every lease has its full time to live from when this returns, unless the files of the
    /// previous coordinator prove that no client can still rely on it. There are three such proofs:
    ///
    /// - the machine, identified by `/etc/machine-id`, has rebooted, and the lease's session
    ///   belonged to a process on it;
    /// - on the same boot, more than the time to live has passed on CLOCK_BOOTTIME since the last
    ///   moment at which a renewal may have been acknowledged;
    /// - on the same boot, the process of the session has ended. Then `open` takes a second longer,
    ///   in which the watchdog of that process ends what ran under the lock.
    ///
    /// The process of a session is known if it is this process, or if it is connected over a Unix
    /// socket and names itself as the kernel does, within our own process namespace. All other
    /// sessions, over TCP or through a proxy, keep their time to live. Wall clocks prove nothing.
    /// Nothing is taken as proven if another version used the folder in between.
    ///
    /// The coordinator stops for good, with [`Error::Displaced`], when its folder is no longer the
    /// one at its path. It notices within a quarter of a second, and before it acknowledges
    /// anything else. Another coordinator in a new folder at that path opens only after that:
    /// `open` waits for it, a few seconds at most.
    ///
    /// Revisions continue from the highest one recorded, or from the present time in microseconds
    /// since 1970 if that is higher. So a store that was removed, or replaced by an older one, does
    /// not give out a revision twice, provided that the clock is right.
    ///
    /// # Errors
    /// [`Error::AlreadyOpen`], at once, if another process or handle has the folder open;
    /// [`Error::Lingering`] if a process that served another folder at this path does not end;
    /// [`Error::Damaged`], [`Error::FormatVersion`], [`Error::NoSpace`], [`Error::Io`].
    pub fn open(config: Config) -> Result<Coordinator, Error> {
        let folder = Arc::new(Folder::claim(&config.data_dir)?);
        let previous = folder.previous_run();
        let medium = Arc::clone(&folder).medium()?;
        let min_revision = to_clock_revision(Surroundings::current().wall_clock());
        let coordinator = Coordinator::open_on(
            Box::new(medium),
            config.limits,
            min_revision,
            Some(previous),
        )?;
        let shared = Arc::clone(coordinator.shared());
        FolderWatchdog::new(shared, folder)
            .and_then(|watchdog| coordinator.spawn("turnlock-folder", || watchdog.run()))
            .map_err(|source| Error::Io {
                path: config.data_dir,
                source: Arc::new(source),
            })?;
        Ok(coordinator)
    }

    /// Opens the store on a medium, at `min_revision` at least. `previous` is what the previous
    /// coordinator left in the folder, if there is a folder.
    fn open_on(
        medium: Box<dyn Medium>,
        limits: Limits,
        min_revision: Revision,
        previous: Option<PreviousRun>,
    ) -> Result<Coordinator, Error> {
        let path = medium.path().to_path_buf();
        let (coordinator, committer) =
            Coordinator::restore(medium, limits, min_revision, previous)?;
        coordinator
            .spawn("turnlock-commit", move || committer.run())
            .and_then(|()| coordinator.spawn_expiry())
            .map_err(|source| Error::Io {
                path,
                source: Arc::new(source),
            })?;
        Ok(coordinator)
    }

    /// Restores a coordinator from a medium, without its threads.
    fn restore(
        medium: Box<dyn Medium>,
        limits: Limits,
        min_revision: Revision,
        previous: Option<PreviousRun>,
    ) -> Result<(Coordinator, Committer), Error> {
        let (store, loaded) = Store::open(medium, min_revision)?;
        let leases = &loaded.snapshot.leases;
        let (ended, evidence) =
            (previous.map(|previous| previous.find_ended_leases(leases))).unwrap_or_default();
        let (snapshot, identity) = (loaded.snapshot, loaded.identity);
        let keys = snapshot.keys.clone();
        let shared = Arc::new(Shared::new(snapshot, identity, limits, Some(evidence)));
        shared
            .hub()
            .restore(&keys, &loaded.deletions, loaded.last_change);
        shared.revoke_all(&ended);
        #[cfg(feature = "server")]
        shared.figures().adopt_syncs(store.syncs());
        shared.note_sizes(&store);
        let committer = Committer::new(Arc::clone(&shared), store);
        Ok((Coordinator::with(shared), committer))
    }

    /// Starts a coordinator in memory. Nothing survives the process.
    ///
    /// # Errors
    /// [`Error::Io`] if the system refuses the thread that expires leases.
    pub fn in_memory(limits: Limits) -> Result<Coordinator, Error> {
        let shared = Shared::new(Snapshot::empty(), Identity::random(), limits, None);
        let coordinator = Coordinator::with(Arc::new(shared));
        coordinator.spawn_expiry().map_err(|source| Error::Io {
            path: "the thread that expires leases".into(),
            source: Arc::new(source),
        })?;
        Ok(coordinator)
    }

    fn with(shared: Arc<Shared>) -> Coordinator {
        let threads = Mutex::new(Vec::new());
        Coordinator {
            inner: Arc::new(Inner {
                shared,
                threads,
                #[cfg(feature = "server")]
                heavy: Turn::default(),
            }),
            authorizer: None,
            #[cfg(feature = "server")]
            turn: None,
        }
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the threads that drive the steps"
    )]
    fn spawn(&self, name: &str, run: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
        let thread = std::thread::Builder::new()
            .name(name.to_string())
            .spawn(run)?;
        self.threads().push(thread);
        Ok(())
    }

    fn spawn_expiry(&self) -> std::io::Result<()> {
        let expiry = Expiry::new(Arc::clone(self.shared()));
        self.spawn("turnlock-expiry", move || expiry.run())
    }

    fn threads(&self) -> std::sync::MutexGuard<'_, Vec<JoinHandle<()>>> {
        (self.inner.threads.lock()).unwrap_or_else(PoisonError::into_inner)
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.inner.shared
    }

    /// Returns the present state: revisions, sizes, and the number of keys and leases.
    pub fn status(&self) -> Status {
        self.shared().status()
    }

    /// Returns a receiver of the number of live leases. It serves to wait until there has been no
    /// session for a while.
    pub fn live_leases(&self) -> tokio::sync::watch::Receiver<usize> {
        self.shared().live_leases()
    }

    /// Waits until the coordinator has stopped, and returns the reason.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn closed(&self) -> Error {
        self.shared().wait_for_end().await
    }

    /// Returns why the coordinator stopped by itself, if it did.
    #[cfg(feature = "server")]
    pub(crate) fn failure(&self) -> Option<Error> {
        self.shared().failure()
    }

    /// Checks at once whether the folder is still in its place, and stops if it is not.
    #[cfg(feature = "server")]
    pub(crate) fn check_location(&self) {
        self.shared().check_location();
    }

    /// Returns a guard for a task that must report the coordinator's end to others. The task drops
    /// the guard when it has done so.
    pub(crate) fn shutdown_guard(&self) -> ShutdownGuard {
        self.shared().shutdown_guard()
    }

    /// Records and answers all pending requests, stops, and releases the folder. This blocks for
    /// about the time of a commit. Closing again does nothing.
    ///
    /// # Errors
    /// The reason, if the coordinator had stopped by itself or failed while closing:
    /// [`Error::Stopped`] or [`Error::Displaced`].
    pub fn close(&self) -> Result<(), Error> {
        let mut threads = self.threads();
        self.shared().begin_close();
        for thread in threads.drain(..) {
            // A thread that panicked has already reported it. All that matters is that it has
            // ended.
            let _ = thread.join();
        }
        self.shared().finish_close();
        self.shared().failure().map_or(Ok(()), Err)
    }
}

/// Returns the lowest revision that a store may continue from, by the wall clock. No store makes a
/// million revisions a second, so the revision of a running store stays behind the clock, and a
/// store that starts anew is ahead of its former revision.
pub(crate) fn to_clock_revision(now: SystemTime) -> Revision {
    /// The year 2255. A later date is an error of the clock, and clients that read revisions as
    /// JSON may have no larger integers.
    const LATEST: u128 = 1 << 53;
    let since_1970 = now.duration_since(SystemTime::UNIX_EPOCH);
    let micros = since_1970.map_or(0, |since| since.as_micros());
    match micros < LATEST {
        true => Revision::try_from(micros).unwrap_or(0),
        false => 0,
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // This does not wait for the threads. They record what is pending, and then release the
        // folder.
        self.shared.begin_close();
    }
}
