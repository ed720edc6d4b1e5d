//! Makes a store from a snapshot, whose tokens are higher than any that was given.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use lock_core::surroundings::Surroundings;

use super::Header;
use super::decode::read;
use crate::coordinator::to_clock_revision;
use crate::error::Error;
use crate::machine::Snapshot;
use crate::machine::op::{KeyValue, LeaseId, Revision};
use crate::store::{Folder, random};

/// How far the clock may be behind the time of the snapshot before it is taken to be wrong. The clocks
/// of two machines differ by less.
const MAX_SKEW: Duration = Duration::from_secs(300);

/// How far the first revision is above the time: twice that in microseconds. So far may the clock be
/// behind. It is short, because for so long a store that is removed afterwards, or copied back, gives
/// out what it has given out before.
const MARGIN: Revision = 600_000_000;

/// The highest revision that a snapshot may have: revisions are `int64` for clients.
const MAX_REVISION: Revision = 1 << 62;

/// What was restored.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Restored {
    /// When the snapshot was taken, by the clock of the server.
    pub taken_at: SystemTime,
    /// The revision of the snapshot.
    pub snapshot_revision: Revision,
    /// The revision of the new store. All later ones are higher, and so are the tokens, to which the
    /// offset of their namespace is added.
    pub revision: Revision,
    /// The number of keys.
    pub keys: usize,
    /// The number of leases.
    pub leases: usize,
    /// The longest time to live of a lease; zero without leases.
    pub longest_ttl: Duration,
}

/// Why a snapshot was not restored. Nothing that a server would open was made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// The bytes are not those of a snapshot of Turnlock.
    #[error(
        "this is no snapshot of `turnlock serve`{}",
        match is_etcds {
            true => ": it is one of etcd, which `etcdutl snapshot restore` takes",
            false => "; take one with `turnlock snapshot` or `etcdctl snapshot save`",
        }
    )]
    NotASnapshot {
        /// Whether they are those of a snapshot of etcd.
        is_etcds: bool,
    },

    /// The snapshot has a format that this program does not know.
    #[error(
        "the snapshot has format version {found}, but this program knows only {supported}; restore \
         it with the version of turnlock that made it, or a newer one"
    )]
    FormatVersion {
        /// The version of the snapshot.
        found: u64,
        /// The version that this program reads.
        supported: u64,
    },

    /// The snapshot ends too early.
    #[error("the snapshot ends before it is complete; copy it again, or use another one")]
    CutOff,

    /// The snapshot is not as it was taken.
    #[error("the snapshot is damaged: {detail}; copy it again, or use another one")]
    Damaged {
        /// What is wrong with it.
        detail: String,
    },

    /// The snapshot cannot be read.
    #[error("cannot read the snapshot: {0}")]
    Read(#[source] io::Error),

    /// There is a store in the folder.
    #[error(
        "there is a store already: {}; name a folder without one, or move that one away",
        .path.display()
    )]
    StoreExists {
        /// A file of that store.
        path: PathBuf,
    },

    /// The clock shows a time before the snapshot was taken, so nobody knows which tokens were given
    /// since.
    #[error(
        "the clock of this machine is {} s behind the time at which the snapshot was taken; set it \
         right and try again, because it decides how far the tokens are raised",
        .behind.as_secs()
    )]
    ClockBehind {
        /// How far it is behind.
        behind: Duration,
    },

    /// The folder cannot be used.
    #[error(transparent)]
    Folder(#[from] Error),
}

/// Makes a new store from a snapshot, in a folder that has none. The folder is made if it is absent.
/// This blocks.
///
/// - The revision, and with it every later token, is above all that the former store can have given
///   out after the snapshot: ten minutes ahead of the time in microseconds, for clocks that are behind.
///   Another restore, of this snapshot or of another one, is above this one, if the clock does not go
///   back. An offset of tokens that was raised after the snapshot has to be raised again.
/// - Watches and reads at revisions of the former store are refused as compacted.
/// - The leases have their full time to live from when the store is opened, under other ids: what was
///   held then is not given to others before its holder has lost it, and no former client renews a
///   lease or finds its session.
/// - The store has another cluster id.
///
/// Until it is complete, the store has a name under which no coordinator opens it, and one that is
/// started on the folder says so.
///
/// # Errors
/// [`RestoreError`]. The folder is looked at only when the whole snapshot has been checked.
///
/// # Examples
/// ```no_run
/// use std::fs::File;
/// use std::path::Path;
///
/// use backend_embedded::snapshot::restore;
///
/// let file = File::open("/backup/locks.snapshot")?;
/// let restored = restore(file, Path::new("/srv/locks"))?;
/// println!("{} keys; tokens are above {}", restored.keys, restored.revision);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn restore(snapshot: impl Read, folder: &Path) -> Result<Restored, RestoreError> {
    let (header, state) = read(snapshot)?;
    let now = to_clock_revision(Surroundings::current().wall_clock());
    let revision = raise(&header, now)?;
    let state = revive(state, revision);
    let folder = Folder::claim(folder)?;
    if let Some(path) = folder.find_store() {
        return Err(RestoreError::StoreExists { path });
    }
    folder.restore(&state)?;
    Ok(Restored {
        taken_at: SystemTime::UNIX_EPOCH + Duration::from_micros(header.taken_at),
        snapshot_revision: header.revision,
        revision,
        keys: state.keys.len(),
        leases: state.leases.len(),
        longest_ttl: state
            .leases
            .iter()
            .map(|(_, ttl)| *ttl)
            .max()
            .unwrap_or_default(),
    })
}

/// Returns a revision above all that the store has given out after the snapshot.
///
/// When it was opened, the store went on from its own revision or from the time in microseconds since
/// 1970, whichever was higher, and it made less than one revision in a microsecond. So it was behind
/// the higher of the two, as they were at the snapshot, plus the time that has passed since. A store
/// that was itself restored is ahead of the time by the margin, and so is this one: the margins of
/// several do not add up, so an older snapshot can be restored after a newer one.
pub(super) fn raise(header: &Header, now: Revision) -> Result<Revision, RestoreError> {
    if header.revision > MAX_REVISION || header.taken_at > MAX_REVISION {
        return Err(RestoreError::Damaged {
            detail: "its revision or its time is impossible".to_owned(),
        });
    }
    let behind = Duration::from_micros(header.taken_at.saturating_sub(now));
    if behind > MAX_SKEW {
        return Err(RestoreError::ClockBehind { behind });
    }
    let passed = now.saturating_sub(header.taken_at);
    let is_ahead = header.revision > header.taken_at + MARGIN;
    Ok(match is_ahead {
        true => header.revision + passed + MARGIN,
        false => header.taken_at + passed + MARGIN,
    })
}

/// Returns the state as the new store begins with it: at this revision, compacted up to it, and with
/// leases that no client knows.
pub(super) fn revive(state: Snapshot, revision: Revision) -> Snapshot {
    let mut random = random();
    let mut leases = BTreeMap::<LeaseId, Duration>::new();
    let mut ids = BTreeMap::new();
    for (id, ttl) in state.leases {
        let new = loop {
            let new = random.i64(1..=LeaseId::MAX);
            if !leases.contains_key(&new) {
                break new;
            }
        };
        leases.insert(new, ttl);
        ids.insert(id, new);
    }
    let to_new_lease = |kv: Arc<KeyValue>| match ids.get(&kv.lease) {
        Some(&lease) => Arc::new(KeyValue {
            lease,
            ..Arc::unwrap_or_clone(kv)
        }),
        None => kv,
    };
    Snapshot {
        revision,
        compact_revision: revision,
        keys: state.keys.into_iter().map(to_new_lease).collect(),
        leases: leases.into_iter().collect(),
    }
}
