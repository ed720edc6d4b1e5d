//! What the store's tests observe of a disk, and how they hold it.

use super::{Bytes, Disk, Entry, Part, write};

impl Disk {
    pub(crate) fn bytes(&self) -> Bytes {
        self.state().bytes.clone()
    }

    /// Returns the disk as a kill of the process would leave it now.
    pub(crate) fn after_kill(&self) -> Disk {
        self.with_bytes(self.bytes())
    }

    pub(crate) fn syncs(&self) -> usize {
        self.state().syncs
    }

    /// Returns the number of marks saved, which is one for each commit.
    pub(crate) fn commits(&self) -> usize {
        self.state().marks
    }

    /// Makes syncs wait, or lets them continue.
    pub(crate) fn hold_syncs(&self, hold: bool) {
        self.state().hold_syncs = hold;
        self.0.changed.notify_all();
    }

    /// Returns whether a sync is being held.
    pub(crate) fn is_sync_held(&self) -> bool {
        self.state().syncs_held > 0
    }

    pub(crate) fn log_acked(&self, sequence: u64) {
        self.state().note(Entry::Acked(sequence));
    }

    /// Returns how often the journal was begun, by the log.
    pub(crate) fn journal_rounds(&self) -> usize {
        let begins = |entry: &&Entry| {
            let (journal, first) = (Part::Journal, 0);
            matches!(
                entry,
                Entry::Write { part, offset, .. } if *part == journal && *offset == first
            )
        };
        let state = self.state();
        state.log().iter().filter(begins).count()
    }

    /// Returns the length of the log.
    pub(crate) fn log_len(&self) -> usize {
        self.state().log().len()
    }

    /// Returns the disk as a kill after the first `done` entries of the log would leave it, and the
    /// last commit acknowledged by then.
    pub(crate) fn after_kill_at(&self, done: usize) -> (Disk, u64) {
        let state = self.state();
        let (mut acked, mut last_mark, mut bytes) = (0, None, state.base.clone());
        for entry in &state.log()[..done] {
            match entry {
                Entry::Write { part, offset, data } => write(bytes.of(*part), *offset, data),
                Entry::SetLen(len) => bytes.store.resize(*len, 0),
                Entry::Mark(mark) => last_mark = Some(*mark),
                Entry::Acked(sequence) => acked = *sequence,
                Entry::Sync(_) => {}
            }
        }
        drop(state);
        let killed = self.with_bytes(bytes);
        killed.state().mark = last_mark;
        (killed, acked)
    }
}
