//! Writes and reads journals: one file for each process, and one line for each record. A record is
//! written at once, so that a killed process loses at most the line that it was writing. A simulation,
//! whose processes share one memory, keeps its journal there.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lock_core::clock::{BootInstant, Clock};

use super::{Event, Record, Target};

/// A journal to write to. Clones write to the same one.
#[derive(Debug, Clone)]
pub struct Journal {
    sink: Sink,
    clock: Arc<dyn CommonClock>,
}

#[derive(Debug, Clone)]
enum Sink {
    File(Arc<Mutex<File>>),
    Memory(Arc<Mutex<Vec<Record>>>),
}

/// The clock of all records of a run.
pub trait CommonClock: fmt::Debug + Send + Sync {
    /// Returns the present instant.
    fn now(&self) -> BootInstant;

    /// Converts an instant by the clock of the process that writes the journal. Rounds up.
    fn to_common(&self, own: BootInstant) -> BootInstant;
}

/// The machine's clock, by which all processes of a run on one machine go.
impl CommonClock for Clock {
    fn now(&self) -> BootInstant {
        Clock::now(self)
    }

    fn to_common(&self, own: BootInstant) -> BootInstant {
        own
    }
}

impl Journal {
    /// Creates a journal.
    ///
    /// # Errors
    /// If there is one of this name, or the folder cannot be written to.
    pub fn create(path: &Path) -> io::Result<Self> {
        let file = File::options().append(true).create_new(true).open(path)?;
        Ok(Journal {
            sink: Sink::File(Arc::new(Mutex::new(file))),
            clock: Arc::new(Clock::system()),
        })
    }

    /// Creates a journal in memory, whose records have the times of this clock.
    pub fn in_memory(clock: Arc<dyn CommonClock>) -> Self {
        Journal {
            sink: Sink::Memory(Arc::default()),
            clock,
        }
    }

    /// Returns the same journal for a process that has this clock.
    #[must_use]
    pub fn with_clock(&self, clock: Arc<dyn CommonClock>) -> Self {
        Journal {
            sink: self.sink.clone(),
            clock,
        }
    }

    /// Takes the records out of a journal in memory. There are none in a file's.
    pub fn take_records(&self) -> Vec<Record> {
        match &self.sink {
            Sink::File(_) => vec![],
            Sink::Memory(records) => std::mem::take(&mut lock(records)),
        }
    }

    /// Converts an instant by the clock of this process to the clock of the records.
    pub fn to_common(&self, own: BootInstant) -> BootInstant {
        self.clock.to_common(own)
    }

    /// Returns the present instant.
    pub fn now(&self) -> BootInstant {
        self.clock.now()
    }

    /// Writes an event of this instant.
    ///
    /// # Panics
    /// If the file cannot be written to: a history with holes is no evidence.
    pub fn write(&self, event: Event) {
        self.write_at(self.now(), event);
    }

    /// Writes that a fault, which began at `from`, is over now.
    ///
    /// # Panics
    /// As [`write`](Journal::write).
    pub fn write_fault(&self, from: BootInstant, target: Target, what: &str) {
        let lasted = self.now().saturating_since(from);
        let event = Event::Fault {
            lasted: u64::try_from(lasted.as_nanos()).unwrap_or(u64::MAX),
            target,
            what: what.to_owned(),
        };
        self.write_at(from, event);
    }

    /// Writes an event of an earlier instant.
    ///
    /// # Panics
    /// As [`write`](Journal::write).
    pub fn write_at(&self, at: BootInstant, event: Event) {
        let record = Record {
            at: at.as_nanos(),
            event,
        };
        let file = match &self.sink {
            Sink::File(file) => file,
            Sink::Memory(records) => return lock(records).push(record),
        };
        let mut line = serde_json::to_vec(&record).expect("records serialise");
        line.push(b'\n');
        lock(file)
            .write_all(&line)
            .expect("the journal can be written");
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads a journal. The last line may be torn.
///
/// # Errors
/// If the file cannot be read, or a whole line of it is no record.
pub fn read(path: &Path) -> io::Result<Vec<Record>> {
    let text = fs::read_to_string(path)?;
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let record = |line: &str| {
        serde_json::from_str(line)
            .map_err(|error| io::Error::other(format!("{}: {error}: {line}", path.display())))
    };
    whole.lines().map(record).collect()
}

/// Returns the journals in a folder.
///
/// # Errors
/// If the folder cannot be read.
pub fn all(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = vec![];
    for file in fs::read_dir(folder)? {
        let path = file?.path();
        if path.extension().is_some_and(|ext| ext == "journal") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_last_line_is_left_out_and_a_damaged_one_is_not() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("1.journal");
        let journal = Journal::create(&path).expect("a new file");
        for life in [1, 2] {
            journal.write(Event::Died { contender: 1, life });
        }
        assert!(Journal::create(&path).is_err(), "there is one");
        let whole = fs::read(&path).expect("readable");
        fs::write(&path, &whole[..whole.len() - 3]).expect("writable");
        let read_back = read(&path).expect("the rest is whole");
        assert_eq!(read_back.len(), 1);
        assert!(read_back[0].at() <= journal.now());
        assert_eq!(
            all(folder.path()).expect("readable"),
            std::slice::from_ref(&path)
        );
        fs::write(&path, "{}\n").expect("writable");
        assert!(read(&path).is_err());
    }
}
