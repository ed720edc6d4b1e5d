//! What a simulation does to a disk, and what a crash leaves of it.

use super::{Bytes, Disk, Entry, Part, State, write};

/// The most marks that a power cut may bring back. Older ones have long been written by then.
const MARKS: usize = 32;

impl Disk {
    /// Returns a disk with an empty store, as in a new folder.
    pub fn new() -> Disk {
        let disk = Disk::with_store();
        disk.keep_log();
        disk
    }

    /// Returns a checksum over everything that was ever written.
    pub fn digest(&self) -> u32 {
        self.state().digest
    }

    /// Sets whether the disk is full: then the store can use what it has reserved, and no more.
    pub fn set_full(&self, full: bool) {
        match full {
            true => self.fill(false),
            false => self.free(),
        }
    }

    /// Sets whether each write and each sync fails, as on a broken disk.
    pub fn set_broken(&self, broken: bool) {
        let error = broken.then_some(std::io::ErrorKind::Other);
        self.fail_writes(error);
        self.fail_syncs(error);
    }

    /// Returns the disk as the end of its process leaves it: with all that was written, up to any
    /// point of the commit that is under way.
    pub fn after_kill(&self, chance: &mut fastrand::Rng) -> Disk {
        let done = self.choose_point(chance);
        let state = self.state();
        let mut bytes = state.base.clone();
        let mut mark = state.mark;
        if let Some(entry) = state.log()[..done].iter().rev().find_map(as_mark) {
            mark = Some(entry);
        }
        for entry in &state.log()[..done] {
            match entry {
                Entry::Write { part, offset, data } => write(bytes.of(*part), *offset, data),
                Entry::SetLen(len) => bytes.store.resize(*len, 0),
                Entry::Mark(_) | Entry::Acked(_) | Entry::Sync(_) => {}
            }
        }
        let digest = state.digest;
        drop(state);
        self.successor(bytes, mark, digest)
    }

    /// Returns the disk as a power cut leaves it now, or at any point of the commit that is under way.
    pub fn after_cut(&self, chance: &mut fastrand::Rng) -> Disk {
        let done = self.choose_point(chance);
        let (cut, _) = self.after_power_cut(done, chance);
        let (bytes, mark) = {
            let state = cut.state();
            (state.bytes.clone(), state.mark)
        };
        self.successor(bytes, mark, self.digest())
    }

    /// Notes that a commit begins.
    pub(crate) fn begin_commit(&self) {
        let mut state = self.state();
        state.commit_began = Some(state.log().len());
    }

    /// Notes that a commit is over, and lets the log forget what is durable.
    pub(crate) fn end_commit(&self) {
        let mut state = self.state();
        state.commit_began = None;
        state.forget_durable();
    }

    fn choose_point(&self, chance: &mut fastrand::Rng) -> usize {
        let state = self.state();
        let now = state.log().len();
        chance.usize(state.commit_began.unwrap_or(now)..=now)
    }

    fn successor(&self, bytes: Bytes, mark: Option<super::AckMark>, digest: u32) -> Disk {
        let disk = self.with_bytes(bytes);
        {
            let mut state = disk.state();
            state.mark = mark;
            state.digest = digest;
        }
        disk.keep_log();
        disk
    }
}

fn as_mark(entry: &Entry) -> Option<super::AckMark> {
    match entry {
        Entry::Mark(mark) => Some(*mark),
        _ => None,
    }
}

impl State {
    pub(super) fn digest_write(&mut self, offset: usize, data: &[u8]) {
        let mut hasher = crc32fast::Hasher::new_with_initial(self.digest);
        hasher.update(&offset.to_le_bytes());
        hasher.update(data);
        self.digest = hasher.finalize();
    }

    /// Moves what is synced from the log to the base.
    fn forget_durable(&mut self) {
        let log = self.log.take().unwrap_or_default();
        let synced = |part| {
            let sync = |entry: &Entry| matches!(entry, Entry::Sync(synced) if *synced == part);
            log.iter().rposition(sync).unwrap_or(0)
        };
        let (store, journal) = (synced(Part::Store), synced(Part::Journal));
        let mut marks: Vec<Entry> = vec![];
        let mut rest: Vec<Entry> = vec![];
        for (at, entry) in log.into_iter().enumerate() {
            let is_durable = match &entry {
                Entry::Write { part, .. } | Entry::Sync(part) => match part {
                    Part::Store => at <= store,
                    Part::Journal => at <= journal,
                },
                Entry::SetLen(_) => at <= store,
                Entry::Mark(_) | Entry::Acked(_) => false,
            };
            match entry {
                Entry::Write { part, offset, data } if is_durable => {
                    write(self.base.of(part), offset, &data);
                }
                Entry::SetLen(len) if is_durable => self.base.store.resize(len, 0),
                Entry::Sync(_) if is_durable => {}
                Entry::Mark(_) => marks.push(entry),
                Entry::Acked(_) => {}
                other => rest.push(other),
            }
        }
        let old = marks.len().saturating_sub(MARKS);
        self.log = Some(marks.into_iter().skip(old).chain(rest).collect());
    }
}
