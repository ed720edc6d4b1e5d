//! A simulated disk, for the store's tests and for simulations. It fails on demand, and shows what a
//! kill or a power cut at any moment would have left.

#[cfg(simulation)]
mod crash;
#[cfg(test)]
mod observed;

use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;

use super::ack_mark::AckMark;
use super::journal;
use super::medium::Medium;
use crate::error::Error;
use crate::machine::Snapshot;

/// The unit in which a power cut tears writes.
const SECTOR: usize = 512;

/// The step that `reserve` asks for.
const STEP: u64 = 1 << 20;

/// A disk with one store. Clones are the same disk.
#[derive(Debug, Clone, Default)]
pub struct Disk(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    state: Mutex<State>,
    changed: Condvar,
}

/// One of the two files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Store,
    Journal,
}

/// The content of the files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Bytes {
    pub(crate) store: Vec<u8>,
    pub(crate) journal: Vec<u8>,
}

impl Bytes {
    pub(crate) fn of(&mut self, part: Part) -> &mut Vec<u8> {
        match part {
            Part::Store => &mut self.store,
            Part::Journal => &mut self.journal,
        }
    }
}

#[derive(Debug, Default)]
struct State {
    bytes: Bytes,
    mark: Option<AckMark>,
    /// What the files held when the log began.
    base: Bytes,
    /// Everything done since then, if there is a log.
    log: Option<Vec<Entry>>,
    /// The length of the log when the commit that is under way began.
    #[cfg(simulation)]
    commit_began: Option<usize>,
    /// A checksum over everything that was ever written.
    #[cfg(simulation)]
    digest: u32,
    syncs: usize,
    marks: usize,
    /// The length that the file must not exceed, apart from what was reserved before.
    capacity: Option<u64>,
    reserved: u64,
    /// Whether writes within the file fail for lack of space, as on a copy-on-write file system.
    no_space_to_write: bool,
    write_error: Option<io::ErrorKind>,
    sync_error: Option<io::ErrorKind>,
    hold_syncs: bool,
    syncs_held: usize,
}

/// An operation on the disk.
#[derive(Debug, Clone)]
enum Entry {
    Write {
        part: Part,
        offset: usize,
        data: Vec<u8>,
    },
    /// A new length of the store's file.
    SetLen(usize),
    Sync(Part),
    Mark(AckMark),
    /// Added by a test: this commit was acknowledged.
    #[cfg_attr(not(test), expect(dead_code, reason = "a simulation checks histories"))]
    Acked(u64),
}

impl Disk {
    /// Returns a disk with an empty store, as in a new folder.
    pub(crate) fn with_store() -> Disk {
        let disk = Disk::default();
        disk.state().bytes.journal = vec![0; journal::LENGTH];
        super::create(disk.open().unwrap(), disk.path(), &Snapshot::empty()).unwrap();
        disk
    }

    fn state(&self) -> MutexGuard<'_, State> {
        (self.0.state.lock()).unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn medium(&self) -> Box<dyn Medium> {
        Box::new(self.clone())
    }

    /// Returns a copy of the disk with these bytes in its files.
    pub(crate) fn with_bytes(&self, bytes: Bytes) -> Disk {
        let state = State {
            bytes,
            mark: self.state().mark,
            ..State::default()
        };
        Disk(Arc::new(Inner {
            state: Mutex::new(state),
            changed: Condvar::default(),
        }))
    }

    /// Fills the disk. The file cannot grow beyond its length or its reserved space. If `writes`,
    /// writes within the file fail too.
    pub(crate) fn fill(&self, writes: bool) {
        let mut state = self.state();
        state.capacity = Some(state.bytes.store.len() as u64);
        state.no_space_to_write = writes;
    }

    /// Frees space again.
    pub(crate) fn free(&self) {
        let mut state = self.state();
        state.capacity = None;
        state.no_space_to_write = false;
    }

    pub(crate) fn fail_syncs(&self, kind: Option<io::ErrorKind>) {
        self.state().sync_error = kind;
    }

    pub(crate) fn fail_writes(&self, kind: Option<io::ErrorKind>) {
        self.state().write_error = kind;
    }

    /// Starts a log with the present content, all of which is durable.
    pub(crate) fn keep_log(&self) {
        let mut state = self.state();
        state.base = state.bytes.clone();
        state.log = Some(state.mark.map(Entry::Mark).into_iter().collect());
    }

    /// Returns the disk as a power cut after the first `done` entries of the log would leave it,
    /// and the last commit acknowledged by then. Of what was not synced, each write may be there,
    /// and of each such write each sector. Any of the marks may be there, as they are never synced.
    pub(crate) fn after_power_cut(&self, done: usize, chance: &mut fastrand::Rng) -> (Disk, u64) {
        let state = self.state();
        let log = &state.log()[..done];
        let synced = |part| {
            let sync = |entry: &Entry| matches!(entry, Entry::Sync(synced) if *synced == part);
            log.iter().rposition(sync).unwrap_or(0)
        };
        let (store, journal) = (synced(Part::Store), synced(Part::Journal));
        let is_synced = |at, part| match part {
            Part::Store => at < store,
            Part::Journal => at < journal,
        };
        let (mut acked, mut marks, mut bytes) = (0, vec![None], state.base.clone());
        for (at, entry) in log.iter().enumerate() {
            match entry {
                Entry::Write { part, offset, data } if is_synced(at, *part) => {
                    write(bytes.of(*part), *offset, data);
                }
                Entry::SetLen(len) if is_synced(at, Part::Store) || chance.bool() => {
                    bytes.store.resize(*len, 0);
                }
                Entry::Write { part, offset, data } if chance.bool() => {
                    for (nth, sector) in data.chunks(SECTOR).enumerate() {
                        if chance.u8(..8) != 0 {
                            write(bytes.of(*part), offset + nth * SECTOR, sector);
                        }
                    }
                }
                Entry::Mark(mark) => marks.push(Some(*mark)),
                Entry::Acked(sequence) => acked = *sequence,
                Entry::Write { .. } | Entry::SetLen(_) | Entry::Sync(_) => {}
            }
        }
        let mark = marks[chance.usize(..marks.len())];
        drop(state);
        let cut = self.with_bytes(bytes);
        cut.state().mark = mark;
        (cut, acked)
    }
}

fn write(bytes: &mut Vec<u8>, offset: usize, data: &[u8]) {
    let end = offset + data.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[offset..end].copy_from_slice(data);
}

impl State {
    fn check_fits(&self, len: u64) -> io::Result<()> {
        match self.capacity {
            Some(capacity) if len > capacity.max(self.reserved) => {
                Err(io::ErrorKind::StorageFull.into())
            }
            _ => Ok(()),
        }
    }

    /// Returns everything done since the log began; nothing if there is no log.
    fn log(&self) -> &[Entry] {
        self.log.as_deref().unwrap_or_default()
    }

    fn note(&mut self, entry: Entry) {
        if let Some(log) = &mut self.log {
            log.push(entry);
        }
    }
}

impl Medium for Disk {
    fn path(&self) -> &Path {
        Path::new("/simulated/store.redb")
    }

    fn open(&self) -> io::Result<Box<dyn StorageBackend>> {
        Ok(Box::new(File(self.clone(), Part::Store)))
    }

    fn open_journal(&self) -> io::Result<Box<dyn StorageBackend>> {
        Ok(Box::new(File(self.clone(), Part::Journal)))
    }

    fn size(&self) -> u64 {
        self.state().bytes.store.len() as u64
    }

    fn reserve(&self) -> io::Result<()> {
        let mut state = self.state();
        let wanted = state.bytes.store.len() as u64 + STEP;
        state.check_fits(wanted)?;
        state.reserved = state.reserved.max(wanted);
        Ok(())
    }

    fn check_location(&self) -> Result<(), Error> {
        Ok(())
    }

    fn load_mark(&self) -> Result<Option<AckMark>, Error> {
        Ok(self.state().mark)
    }

    fn save_mark(&self, mark: AckMark) -> Result<(), Error> {
        let mut state = self.state();
        state.mark = Some(mark);
        state.marks += 1;
        state.note(Entry::Mark(mark));
        Ok(())
    }

    fn sync_mark(&self) -> Result<(), Error> {
        Ok(())
    }
}

#[derive(Debug)]
struct File(Disk, Part);

impl StorageBackend for File {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.state().bytes.of(self.1).len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut state = self.0.state();
        let bytes = state.bytes.of(self.1);
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let found = (from.checked_add(out.len())).and_then(|end| bytes.get(from..end));
        out.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        assert_eq!(self.1, Part::Store, "the journal keeps its length");
        let mut state = self.0.state();
        if len > state.bytes.store.len() as u64 {
            state.check_fits(len)?;
        } else {
            state.reserved = len;
        }
        state.bytes.store.resize(len as usize, 0);
        state.note(Entry::SetLen(len as usize));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.0.state();
        state.syncs += 1;
        if state.hold_syncs {
            state.syncs_held += 1;
            self.0.0.changed.notify_all();
            let held = self.0.0.changed.wait_while(state, |state| state.hold_syncs);
            state = held.unwrap();
            state.syncs_held -= 1;
        }
        if let Some(kind) = state.sync_error {
            return Err(kind.into());
        }
        state.note(Entry::Sync(self.1));
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.0.state();
        if state.no_space_to_write {
            return Err(io::ErrorKind::StorageFull.into());
        }
        if let Some(kind) = state.write_error {
            return Err(kind.into());
        }
        let offset = offset as usize;
        write(state.bytes.of(self.1), offset, data);
        #[cfg(simulation)]
        state.digest_write(offset, data);
        state.note(Entry::Write {
            part: self.1,
            offset,
            data: data.to_vec(),
        });
        Ok(())
    }
}
