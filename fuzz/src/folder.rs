//! Folders for what is decoded from files.

use std::fs;
use std::path::Path;

use backend_embedded::machine::op::{Delete, KeyRange, Put, Range};
use backend_embedded::{Config, Coordinator};
use bytes::Bytes;
use tempfile::TempDir;

/// Where memory is a file system, syncs take no time.
const IN_MEMORY: &str = "/dev/shm";

/// Makes a folder that is removed when it is dropped.
///
/// # Panics
/// If there is no room for it.
pub fn make() -> TempDir {
    let folder = match Path::new(IN_MEMORY).is_dir() {
        true => tempfile::tempdir_in(IN_MEMORY),
        false => tempfile::tempdir(),
    };
    folder.expect("a folder")
}

/// The store of a coordinator in which nothing has been written.
pub struct NewStore {
    pub cluster_id: u64,
    tables: Vec<u8>,
    mark: Vec<u8>,
}

pub const JOURNAL: &str = "JOURNAL";
pub const MARK: &str = "ACKED";
pub const LIFE: &str = "LIFE";
const TABLES: &str = "store.redb";

/// The most keys, and the most leases, that are used.
const USED: usize = 8;

impl NewStore {
    /// Makes the store.
    ///
    /// # Panics
    /// If that fails.
    pub fn make() -> Self {
        let folder = make();
        let coordinator = Coordinator::open(Config::new(folder.path())).expect("it opens");
        let cluster_id = coordinator.status().cluster_id;
        coordinator.close().expect("it closes");
        let read = |name: &str| fs::read(folder.path().join(name)).expect("it is there");
        NewStore {
            cluster_id,
            tables: read(TABLES),
            mark: read(MARK),
        }
    }

    /// Returns the number of the last commit.
    pub fn sequence(&self) -> u64 {
        let number = self.mark.first_chunk().expect("the mark begins with it");
        u64::from_le_bytes(*number)
    }

    /// Writes the store into a folder, with this file in the place of its own.
    ///
    /// # Panics
    /// If there is no room for it.
    pub fn write(&self, folder: &Path, name: &str, content: &[u8]) {
        for (name, content) in [
            (TABLES, self.tables.as_slice()),
            (MARK, self.mark.as_slice()),
            ("LOCK", b"1\n".as_slice()),
            (name, content),
        ] {
            fs::write(folder.join(name), content).expect("there is room");
        }
    }
}

/// Uses what a coordinator has: its keys, its leases and its revision. What was read must be answered,
/// or refused, and must not stop the coordinator.
///
/// # Panics
/// If it stops the coordinator.
pub fn use_all(coordinator: &Coordinator) {
    pollster::block_on(async {
        let range = Range::all(KeyRange::all());
        let found = coordinator
            .range(range)
            .await
            .expect("it is readable")
            .result;
        let keys = found.kvs.iter().map(|kv| kv.key.clone());
        let leases = coordinator.leases().await.expect("they are readable");
        for lease in leases.into_iter().take(USED) {
            let _ = coordinator.keep_alive(lease).await;
            let _ = coordinator.time_to_live(lease, true).await;
        }
        for key in keys.take(USED).chain([Bytes::from_static(b"new")]) {
            let put = Put {
                key: key.clone(),
                value: Some(Bytes::from_static(b"value")),
                lease: None,
                prev_kv: true,
            };
            let _ = coordinator.put(put).await;
            let delete = Delete {
                keys: KeyRange::One(key),
                prev_kv: true,
            };
            let _ = coordinator.delete(delete).await;
        }
    });
}
