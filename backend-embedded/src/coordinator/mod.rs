//! The coordinator: one writer over the state machine, with durability, expiry and watches.
//!
//! Requests are applied in order, under one lock, in the caller's thread. In memory that is all. A
//! durable coordinator then has the caller wait: what was applied is collected while the committer
//! thread writes what was collected before (group commit), and an answer is given, and a change
//! made known to watches, only when everything it rests on is on the disk. A read waits for the
//! changes that it has seen, if they are still under way.

mod committer;
mod expiry;
mod folder_watchdog;
mod leases;
mod pending;
mod requests;
mod shared;
#[cfg(test)]
mod tests;
mod watch;

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use crate::config::{Config, Limits};
use crate::error::Error;
use crate::evidence::PreviousRun;
use crate::machine::op::{LeaseId, Revision};
use crate::machine::{FIRST_REVISION, Snapshot};
use crate::store::{Folder, Identity, Medium, Store};
use committer::Committer;
use folder_watchdog::FolderWatchdog;
pub(crate) use folder_watchdog::ShutdownGuard;
pub use requests::Applied;
pub(crate) use shared::Shared;
pub use watch::{WatchBatch, Watcher};

/// A handle to a coordinator; clones share it. It stops when the last handle is dropped, or at
/// [`close`](Coordinator::close).
///
/// Calls may come from any async runtime. Each takes its place in the order when it is first
/// polled; one that only deletes and was undone because it shared a commit with writes that found
/// the disk full takes a new place, once. A call that is dropped before it is answered may still
/// take effect, wholly or not at all.
#[derive(Debug, Clone)]
pub struct Coordinator {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// A granted lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Granted {
    /// Its id.
    pub id: LeaseId,
    /// The time to live granted, whole seconds.
    pub ttl: Duration,
}

/// What is known of a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseInfo {
    /// Its id.
    pub id: LeaseId,
    /// The time to live granted, whole seconds.
    pub granted: Duration,
    /// What is left of it if it is not renewed.
    pub remaining: Duration,
    /// The keys attached, ascending; empty unless asked for.
    pub keys: Vec<Bytes>,
}

/// The coordinator's vital signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// The revision of the last change that is durable.
    pub revision: Revision,
    /// The revision of the last explicit compaction, 0 if there was none.
    pub compact_revision: Revision,
    /// Random, chosen when the store was created, never 0.
    pub cluster_id: u64,
    /// Random, chosen when the store was created, never 0.
    pub member_id: u64,
    /// Bytes of the store's file; 0 when in memory only.
    pub db_size: u64,
    /// Bytes of keys and values.
    pub db_size_in_use: u64,
    /// Number of keys.
    pub keys: usize,
    /// Number of live leases.
    pub leases: usize,
}

impl Coordinator {
    /// Opens (creating if absent) the durable coordinator in `config.data_dir`. Blocking: it reads
    /// and checks the store's file.
    ///
    /// Every lease has its full time to live from when this returns, unless what the coordinator
    /// before has left behind shows that nobody can count on it any more:
    ///
    /// - the machine (as told by `/etc/machine-id`) has been started anew, and the lease's session
    ///   belonged to a process on it;
    /// - on the same boot, more than the time to live has passed on CLOCK_BOOTTIME since the last
    ///   moment at which a renewal may have been acknowledged;
    /// - on the same boot, the process of the session has ended. Then this takes a second longer, in
    ///   which the watchdog of that process ends what ran under the lock.
    ///
    /// Whose a session is, is known of those of this process, and of those over a Unix socket whose
    /// client says who it is and is confirmed by the kernel, within our own namespace of processes.
    /// All others, over TCP or through a proxy, have their time to live. Wall clocks count for
    /// nothing, and if another version had the folder in between, nothing is taken for shown.
    ///
    /// It stops for good, with [`Error::Displaced`], when the folder is not the one at its path any
    /// more; within a quarter of a second, and before anything else is acknowledged. Another one in
    /// a new folder at that path opens only after that: until then `open` waits, for some seconds
    /// at most.
    ///
    /// Revisions go on from the highest one recorded, or from the present time in microseconds since
    /// 1970 if that is more. So a store that was removed, or replaced by an older one, gives none
    /// out again, provided that the clock is right.
    ///
    /// # Errors
    /// [`Error::AlreadyOpen`], at once, if another process (or handle) has the folder;
    /// [`Error::Lingering`] if a process that served another folder at this path does not end;
    /// [`Error::Damaged`], [`Error::FormatVersion`], [`Error::NoSpace`], [`Error::Io`].
    pub fn open(config: Config) -> Result<Coordinator, Error> {
        let folder = Arc::new(Folder::claim(&config.data_dir)?);
        let previous = folder.previous_run();
        let medium = Arc::clone(&folder).medium()?;
        let min_revision = to_clock_revision(SystemTime::now());
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

    /// Opens the store on a medium, at this revision at min_revision. There may be something of the past on
    /// it.
    fn open_on(
        medium: Box<dyn Medium>,
        limits: Limits,
        min_revision: Revision,
        previous: Option<PreviousRun>,
    ) -> Result<Coordinator, Error> {
        let path = medium.path().to_path_buf();
        let (store, loaded) = Store::open(medium, min_revision)?;
        let leases = &loaded.snapshot.leases;
        let (ended, evidence) =
            (previous.map(|previous| previous.find_ended_leases(leases))).unwrap_or_default();
        let (snapshot, identity) = (loaded.snapshot, loaded.identity);
        let keys = snapshot.keys.clone();
        let shared = Arc::new(Shared::new(snapshot, identity, limits, Some(evidence)));
        shared.hub().restore(&keys, &loaded.deletions);
        shared.revoke_all(&ended);
        shared.set_file_size(store.file_size());
        let coordinator = Coordinator::with(shared);
        let committer = Committer::new(Arc::clone(coordinator.shared()), store);
        coordinator
            .spawn("turnlock-commit", move || committer.run())
            .and_then(|()| coordinator.spawn_expiry())
            .map_err(|source| Error::Io {
                path,
                source: Arc::new(source),
            })?;
        Ok(coordinator)
    }

    /// Memory only: nothing survives the process.
    ///
    /// # Errors
    /// [`Error::Io`] if the system refuses the thread that expires leases.
    pub fn in_memory(limits: Limits) -> Result<Coordinator, Error> {
        let snapshot = Snapshot {
            revision: FIRST_REVISION,
            compact_revision: 0,
            keys: Vec::new(),
            leases: Vec::new(),
        };
        let shared = Shared::new(snapshot, Identity::random(), limits, None);
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
            inner: Arc::new(Inner { shared, threads }),
        }
    }

    fn spawn(&self, name: &str, run: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
        let thread = std::thread::Builder::new()
            .name(name.to_string())
            .spawn(run)?;
        self.threads().push(thread);
        Ok(())
    }

    fn spawn_expiry(&self) -> std::io::Result<()> {
        let shared = Arc::clone(self.shared());
        self.spawn("turnlock-expiry", move || expiry::run(&shared))
    }

    fn threads(&self) -> std::sync::MutexGuard<'_, Vec<JoinHandle<()>>> {
        (self.inner.threads.lock()).unwrap_or_else(PoisonError::into_inner)
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.inner.shared
    }

    /// The vital signs.
    pub fn status(&self) -> Status {
        self.shared().status()
    }

    /// The number of live leases, to wait for "no session for a while".
    pub fn live_leases(&self) -> tokio::sync::watch::Receiver<usize> {
        self.shared().live_leases()
    }

    /// Resolves, with the reason, once the coordinator has stopped. Cancel safe.
    pub async fn closed(&self) -> Error {
        self.shared().wait_for_end().await
    }

    /// Why it stopped by itself, if it did.
    #[cfg(feature = "server")]
    pub(crate) fn failure(&self) -> Option<Error> {
        self.shared().failure()
    }

    /// Looks at once whether the folder is still in its place, and stops if it is not.
    #[cfg(feature = "server")]
    pub(crate) fn check_location(&self) {
        self.shared().check_location();
    }

    /// To be kept by whoever has to tell others when the coordinator stops, until that is done.
    pub(crate) fn farewell(&self) -> ShutdownGuard {
        self.shared().farewell()
    }

    /// Records and answers what is pending, stops, and releases the folder. Blocking, for about a
    /// commit's time. Closing again does nothing.
    ///
    /// # Errors
    /// The reason if the coordinator had stopped by itself, or had to while closing.
    pub fn close(&self) -> Result<(), Error> {
        let mut threads = self.threads();
        self.shared().begin_close();
        for thread in threads.drain(..) {
            // A thread that panicked has said so already; what matters is that it is gone.
            let _ = thread.join();
        }
        self.shared().finish_close();
        self.shared().failure().map_or(Ok(()), Err)
    }
}

/// The revision that a store is at min_revision at. No store makes a million revisions a second, so one
/// that runs on stays behind the clock, and one that begins anew is ahead of what it was.
fn to_clock_revision(now: SystemTime) -> Revision {
    /// In 2255. A later date is an error of the clock's, and those who read revisions as JSON may
    /// have no larger integers.
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
        // Not waited for: the threads record what is pending, and then release the folder.
        self.shared.begin_close();
    }
}
