//! The durable store under the state machine: a redb file, and a journal before it. A commit is one
//! synced record in the journal. When the journal is full, its content becomes one transaction of
//! redb.

mod ack_mark;
pub(crate) mod codec;
mod deletions;
#[cfg(any(test, simulation))]
pub(crate) mod disk;
mod file;
mod files;
#[expect(clippy::disallowed_methods, reason = "a simulated store has no folder")]
mod folder;
mod journal;
mod location;
mod medium;
#[cfg_attr(not(target_os = "linux"), path = "no_owner_name.rs")]
#[cfg_attr(
    target_os = "linux",
    expect(clippy::disallowed_methods, reason = "a simulated store has no folder")
)]
mod owner_name;
mod problem;
mod sync_times;
mod tables;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lock_core::surroundings::Surroundings;
use redb::StorageBackend;

use crate::error::Error;
use crate::machine::Snapshot;
use crate::machine::op::{KeyValue, LeaseId, Revision};
use ack_mark::AckMark;
pub(crate) use deletions::Deletions;
use files::Files;
pub(crate) use folder::{Folder, LOCK};
#[cfg(feature = "server")]
pub(crate) use journal::LENGTH as JOURNAL_BYTES;
pub(crate) use medium::Medium;
use medium::{FaultLog, LoggedBackend, Operation, copy_to_memory, is_no_space};
use problem::{Problem, catch_panics};
#[cfg(feature = "server")]
pub(crate) use sync_times::COMMIT_BUCKETS;
pub(crate) use sync_times::StoreSyncs;
use sync_times::SyncTimes;

/// The ids of a store, never 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) cluster_id: u64,
    pub(crate) member_id: u64,
}

impl Identity {
    pub(crate) fn random() -> Self {
        let mut random = random();
        Self {
            cluster_id: random.u64(1..),
            member_id: random.u64(1..),
        }
    }
}

/// Returns a random generator that is seeded by the system, so that numbers do not repeat after a
/// restart.
pub(crate) fn random() -> fastrand::Rng {
    fastrand::Rng::with_seed(Surroundings::current().random_seed())
}

/// The changes of a commit: the last state of each key and lease that it changes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Batch {
    /// The keys; `None` for a deleted one.
    pub(crate) keys: BTreeMap<Bytes, Option<Arc<KeyValue>>>,
    /// The leases' times to live; `None` for a removed one.
    pub(crate) leases: BTreeMap<LeaseId, Option<Duration>>,
    pub(crate) revision: Option<Revision>,
    pub(crate) compacted: Option<Revision>,
}

impl Batch {
    pub(crate) fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.leases.is_empty() && self.compacted.is_none()
    }

    /// Adds later changes.
    fn merge(&mut self, later: Batch) {
        self.keys.extend(later.keys);
        self.leases.extend(later.leases);
        self.revision = later.revision.or(self.revision);
        self.compacted = later.compacted.or(self.compacted);
    }

    /// Applies the changes to a snapshot.
    pub(crate) fn apply(&self, to: &mut Snapshot) {
        let found = to.keys.drain(..).map(|kv| (kv.key.clone(), kv));
        let mut keys: BTreeMap<_, _> = found.collect();
        for (key, kv) in &self.keys {
            match kv {
                Some(kv) => _ = keys.insert(key.clone(), Arc::clone(kv)),
                None => _ = keys.remove(key),
            }
        }
        let mut leases: BTreeMap<_, _> = to.leases.drain(..).collect();
        for (id, ttl) in &self.leases {
            match ttl {
                Some(ttl) => _ = leases.insert(*id, *ttl),
                None => _ = leases.remove(id),
            }
        }
        to.keys = keys.into_values().collect();
        to.leases = leases.into_iter().collect();
        to.revision = self.revision.unwrap_or(to.revision);
        to.compact_revision = self.compacted.unwrap_or(to.compact_revision);
    }
}

/// The content of a store when it was opened.
#[derive(Debug)]
pub(crate) struct LoadedState {
    pub(crate) snapshot: Snapshot,
    pub(crate) identity: Identity,
    pub(crate) deletions: Deletions,
    /// The revision of the last recorded change; that of the snapshot may be higher.
    pub(crate) last_change: Revision,
    sequence: u64,
}

/// Why a commit failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// There is no space. [`Store::recover`] reads what is recorded.
    NoSpace(Error),
    /// Nothing more can be recorded.
    Fatal(Error),
}

impl Failure {
    fn into_error(self) -> Error {
        match self {
            Failure::NoSpace(error) | Failure::Fatal(error) => error,
        }
    }
}

/// An open store, and its only writer.
#[derive(Debug)]
pub(crate) struct Store {
    medium: Box<dyn Medium>,
    /// `None` after a commit for which there was no space.
    files: Option<Files>,
    /// Whether a commit failed for any other reason. Nothing is recorded after that.
    broken: bool,
    faults: Arc<FaultLog>,
    syncs: StoreSyncs,
    cluster_id: u64,
    /// The numbers of the last commit known to be recorded, and of the last one attempted.
    sequence: u64,
    attempted: u64,
    /// No revision below this one is given out, whatever is recorded.
    min_revision: Revision,
}

impl Store {
    /// Opens the store on a medium, checks all of it, and reads it. It continues from the recorded
    /// revision, or from `min_revision` if that is higher.
    pub(crate) fn open(
        medium: Box<dyn Medium>,
        min_revision: Revision,
    ) -> Result<(Store, LoadedState), Error> {
        let mut store = Store {
            medium,
            files: None,
            broken: false,
            faults: Arc::default(),
            syncs: StoreSyncs::default(),
            cluster_id: 0,
            sequence: 0,
            attempted: 0,
            min_revision,
        };
        let loaded = store.reopen().map_err(Failure::into_error)?;
        store.cluster_id = loaded.identity.cluster_id;
        store.sequence = loaded.sequence;
        Ok((store, loaded))
    }

    /// Reads what is recorded, after a commit failed for lack of space. To open the store itself
    /// would write to it, and there may be no space for that either. So this opens a copy in
    /// memory, and the next commit opens the store itself.
    pub(crate) fn recover(&mut self) -> Result<LoadedState, Failure> {
        let store = self.backend()?;
        let copy = copy_to_memory(&*store).map_err(|error| self.to_open_failure(error))?;
        drop(store);
        let (_, loaded) = self.read(Box::new(copy))?;
        self.sequence = loaded.sequence;
        Ok(loaded)
    }

    fn reopen(&mut self) -> Result<LoadedState, Failure> {
        let store = self.backend()?;
        let (files, loaded) = self.read(store)?;
        self.files = Some(files);
        Ok(loaded)
    }

    fn backend(&mut self) -> Result<Box<dyn StorageBackend>, Failure> {
        self.close();
        self.faults = Arc::default();
        self.medium
            .open()
            .map_err(|error| self.to_open_failure(error))
    }

    fn to_open_failure(&self, error: io::Error) -> Failure {
        Failure::Fatal(folder::to_error(self.medium.path(), error))
    }

    fn read(&self, store: Box<dyn StorageBackend>) -> Result<(Files, LoadedState), Failure> {
        let journal = self.medium.open_journal();
        let journal = journal.map_err(|error| self.to_open_failure(error))?;
        let logged = |backend, syncs: &SyncTimes| LoggedBackend {
            backend,
            faults: Arc::clone(&self.faults),
            syncs: syncs.clone(),
        };
        let store = logged(store, &self.syncs.tables);
        let journal = logged(journal, &self.syncs.journal);
        let read = catch_panics(|| Files::open(store, journal));
        let (files, mut loaded) = read.map_err(|problem| self.to_failure(problem))?;
        loaded.last_change = loaded.snapshot.revision;
        loaded.snapshot.revision = loaded.last_change.max(self.min_revision);
        self.check_mark(&loaded).map_err(Failure::Fatal)?;
        Ok((files, loaded))
    }

    /// Checks that the store holds everything that was acknowledged.
    fn check_mark(&self, loaded: &LoadedState) -> Result<(), Error> {
        let (sequence, cluster_id) = (loaded.sequence, loaded.identity.cluster_id);
        match self.medium.load_mark()? {
            Some(mark) if mark.cluster_id != cluster_id => {
                let detail = "the ACKED file beside it belongs to another store".to_string();
                Err(self.damage_error(detail))
            }
            Some(mark) if mark.sequence > sequence => {
                let detail = format!(
                    "it holds commits up to {sequence}, but {} was acknowledged",
                    mark.sequence
                );
                Err(self.damage_error(detail))
            }
            Some(mark) if mark.sequence == sequence => Ok(()),
            // Commits that are recorded but were not acknowledged are served from now on.
            Some(_) => self.save_mark(AckMark {
                sequence,
                cluster_id,
            }),
            None => {
                tracing::info!(
                    store = %self.medium.path().display(),
                    "no mark of the last acknowledged commit, as in a new store; creating one"
                );
                self.medium.save_mark(AckMark {
                    sequence,
                    cluster_id,
                })?;
                self.medium.sync_mark()
            }
        }
    }

    fn save_mark(&self, mark: AckMark) -> Result<(), Error> {
        match self.medium.save_mark(mark) {
            // An older mark is safe: it only notices less.
            Err(Error::NoSpace { .. }) => Ok(()),
            saved => saved,
        }
    }

    /// Records a batch. After this returns, it survives a power cut.
    pub(crate) fn commit(&mut self, batch: Batch) -> Result<(), Failure> {
        if batch.is_empty() {
            return Ok(());
        }
        if self.broken {
            return Err(Failure::Fatal(
                self.damage_error("a commit failed".to_string()),
            ));
        }
        let result = self.try_commit(batch);
        if result.is_err() {
            self.close();
        }
        self.broken = matches!(result, Err(Failure::Fatal(_)));
        result
    }

    fn try_commit(&mut self, batch: Batch) -> Result<(), Failure> {
        self.attempted = self.sequence + 1;
        let sequence = self.attempted;
        if self.files.is_none() {
            let found = self.reopen()?.sequence;
            if found != self.sequence {
                let detail = format!("it went from commit {} to {found}", self.sequence);
                return Err(Failure::Fatal(self.damage_error(detail)));
            }
        }
        let written = catch_panics(|| match &mut self.files {
            Some(files) => files.write(batch, sequence),
            None => Err(Problem::Damaged("it is not open".to_string())),
        });
        written.map_err(|problem| self.to_failure(problem))?;
        self.sequence = sequence;
        let mark = AckMark {
            sequence,
            cluster_id: self.cluster_id,
        };
        self.save_mark(mark).map_err(Failure::Fatal)
    }

    /// Fails if others no longer find at the path what is recorded here.
    pub(crate) fn check_location(&self) -> Result<(), Error> {
        self.medium.check_location()
    }

    /// Returns whether the last attempted commit is recorded.
    pub(crate) fn is_last_attempt_recorded(&self) -> bool {
        self.sequence == self.attempted
    }

    /// Reserves the space that the file needs for about one more step of growth.
    pub(crate) fn reserve(&self) -> Result<(), Failure> {
        self.medium.reserve().map_err(|error| {
            let no_space = is_no_space(&error);
            let error = folder::to_error(self.medium.path(), error);
            match no_space {
                true => Failure::NoSpace(error),
                false => Failure::Fatal(error),
            }
        })
    }

    /// Returns the length of the store's file in bytes.
    pub(crate) fn file_size(&self) -> u64 {
        self.medium.size()
    }

    /// Returns the bytes of the journal that are taken up by commits, if it is open.
    #[cfg(feature = "server")]
    pub(crate) fn journal_bytes(&self) -> Option<u64> {
        self.files.as_ref().map(Files::journal_bytes)
    }

    /// Returns how long the syncs took, and will take.
    #[cfg(feature = "server")]
    pub(crate) fn syncs(&self) -> &StoreSyncs {
        &self.syncs
    }

    fn close(&mut self) {
        if let Some(files) = self.files.take() {
            // What closing writes only makes the next opening faster.
            let _ = catch_panics(|| {
                drop(files);
                Ok(())
            });
        }
    }

    fn damage_error(&self, detail: String) -> Error {
        Error::Damaged {
            path: self.medium.path().to_path_buf(),
            detail,
        }
    }

    fn to_failure(&self, problem: Problem) -> Failure {
        to_failure(self.medium.path(), &self.faults, problem)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.close();
    }
}

/// Fails if a state is impossible, and says why.
#[cfg(feature = "server")]
pub(crate) fn check_state(state: &Snapshot) -> Result<(), String> {
    tables::check(state).map_err(|problem| match problem {
        Problem::Damaged(detail) => detail,
        other => format!("{other:?}"),
    })
}

/// Creates a store with this state, and new ids, on a backend that holds nothing yet.
pub(crate) fn create(
    backend: Box<dyn StorageBackend>,
    path: &Path,
    state: &Snapshot,
) -> Result<(), Error> {
    let faults = Arc::<FaultLog>::default();
    let backend = LoggedBackend {
        backend,
        faults: Arc::clone(&faults),
        syncs: SyncTimes::default(),
    };
    let created = catch_panics(|| {
        let database = tables::builder().create_with_backend(backend)?;
        tables::initialise(&database, Identity::random(), state)
    });
    created.map_err(|problem| to_failure(path, &faults, problem).into_error())
}

/// Converts a problem into a failure. The first failure of the medium decides.
fn to_failure(path: &Path, faults: &FaultLog, problem: Problem) -> Failure {
    let path = path.to_path_buf();
    match (faults.first(), problem) {
        (Some((Operation::Write | Operation::Grow, source)), _) if is_no_space(&source) => {
            Failure::NoSpace(Error::NoSpace { path, source })
        }
        // A read past the end means that the file is cut off. After a failed sync, whatever the
        // reason, nobody knows what is on the disk.
        (Some((operation, source)), _)
            if operation != Operation::Read || source.kind() != ErrorKind::UnexpectedEof =>
        {
            Failure::Fatal(Error::Io { path, source })
        }
        (_, Problem::Format(found)) => Failure::Fatal(Error::FormatVersion {
            path,
            found,
            supported: tables::FORMAT_VERSION,
        }),
        (_, problem) => Failure::Fatal(Error::Damaged {
            path,
            detail: match problem {
                Problem::Redb(error) => error.to_string(),
                Problem::Damaged(detail) | Problem::Panic(detail) => detail,
                Problem::Format(found) => format!("its format is {found}"),
            },
        }),
    }
}
