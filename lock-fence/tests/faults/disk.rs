//! The folder on the disk, what system calls do to it, and what a power cut may leave of that.
//!
//! A file's content is durable once the file was synced, and a name once the folder was. Of all else,
//! any part may be lost: each name and each truncation by itself, and of a write any sectors, also with
//! a file that has grown and has zeros where the data were to be. A sector is written whole or not at
//! all.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

/// The number of a file in this model.
pub type Inode = usize;

/// The bytes that a disk writes whole or not at all.
const SECTOR_BYTES: usize = 512;

/// What a system call does.
#[derive(Clone, PartialEq, Eq)]
pub enum Event {
    /// Makes an empty file.
    Link {
        name: String,
        inode: Inode,
    },
    Unlink {
        name: String,
    },
    Rename {
        from: String,
        to: String,
        inode: Inode,
    },
    Write {
        inode: Inode,
        at: usize,
        data: Vec<u8>,
    },
    Truncate {
        inode: Inode,
        length: usize,
    },
    SyncFile {
        inode: Inode,
    },
    SyncFolder,
}

/// The names in the folder, and the files.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Disk {
    pub names: BTreeMap<String, Inode>,
    pub files: BTreeMap<Inode, Vec<u8>>,
}

impl Disk {
    /// Returns the number for a file that is to be made.
    pub fn new_inode(&self) -> Inode {
        self.files.keys().last().map_or(0, |last| last + 1)
    }

    pub fn apply(&mut self, event: &Event) {
        match event {
            Event::Link { name, inode } => {
                self.names.insert(name.clone(), *inode);
                self.files.entry(*inode).or_default();
            }
            Event::Unlink { name } => drop(self.names.remove(name)),
            Event::Rename { from, to, inode } => {
                self.names.remove(from);
                self.names.insert(to.clone(), *inode);
                self.files.entry(*inode).or_default();
            }
            Event::Write { inode, at, data } => {
                let file = self.files.entry(*inode).or_default();
                file.resize(file.len().max(at + data.len()), 0);
                file[*at..at + data.len()].copy_from_slice(data);
            }
            Event::Truncate { inode, length } => {
                self.files.entry(*inode).or_default().resize(*length, 0);
            }
            Event::SyncFile { .. } | Event::SyncFolder => {}
        }
    }

    /// Returns what is seen of the disk: the names and the contents behind them.
    pub fn visible(&self) -> BTreeMap<&str, &[u8]> {
        let content = |inode| self.files.get(inode).map_or(&[][..], Vec::as_slice);
        let names = self.names.iter();
        names
            .map(|(name, inode)| (name.as_str(), content(inode)))
            .collect()
    }

    /// Returns every disk that a power cut after these events may leave, each once.
    pub fn after_power_cut(&self, events: &[Event]) -> HashSet<Disk> {
        let mut disks = HashSet::from([self.clone()]);
        for (at, event) in events.iter().enumerate() {
            let outcomes = match is_synced(event, &events[at + 1..]) {
                true => vec![vec![event.clone()]],
                false => outcomes(event),
            };
            let after = |disk: &Disk, outcome: &Vec<Event>| {
                let mut disk = disk.clone();
                outcome.iter().for_each(|event| disk.apply(event));
                disk
            };
            disks = disks
                .iter()
                .flat_map(|disk| outcomes.iter().map(move |outcome| after(disk, outcome)))
                .collect();
        }
        disks
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Link { name, inode } => write!(f, "make {name} (file {inode})"),
            Event::Unlink { name } => write!(f, "remove {name}"),
            Event::Rename { from, to, inode } => {
                write!(f, "rename {from} to {to} (file {inode})")
            }
            Event::Write { inode, at, data } => {
                write!(f, "write {} bytes at {at} of file {inode}", data.len())
            }
            Event::Truncate { inode, length } => write!(f, "cut file {inode} at {length}"),
            Event::SyncFile { inode } => write!(f, "sync file {inode}"),
            Event::SyncFolder => f.write_str("sync the folder"),
        }
    }
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts = self.visible().into_iter();
        let texts = texts.map(|(name, content)| (name, String::from_utf8_lossy(content)));
        f.debug_map().entries(texts).finish()
    }
}

fn is_synced(event: &Event, later: &[Event]) -> bool {
    let sync = match event {
        Event::Link { .. } | Event::Unlink { .. } | Event::Rename { .. } => Event::SyncFolder,
        Event::Write { inode, .. } | Event::Truncate { inode, .. } => {
            Event::SyncFile { inode: *inode }
        }
        Event::SyncFile { .. } | Event::SyncFolder => return true,
    };
    later.contains(&sync)
}

/// Returns what may be left of an event that was not synced, as the events that are left.
fn outcomes(event: &Event) -> Vec<Vec<Event>> {
    let Event::Write { inode, at, data } = event else {
        return vec![Vec::new(), vec![event.clone()]];
    };
    let sectors = split(*at, data);
    let mut all = Vec::new();
    for included in 0..=sectors.len() {
        for subset in 0..1_u32 << included {
            let written = |number: usize| subset & (1 << number) != 0;
            // A sector of nothing but zeros, where the file has grown, but the data are not there.
            let grown = (0..included).map(|number| match written(number) {
                true => sectors[number].clone(),
                false => (sectors[number].0, Vec::new()),
            });
            all.push(grown.collect::<Vec<_>>());
        }
    }
    let to_event = |(number, (at, data)): (usize, (usize, Vec<u8>))| Event::Write {
        inode: *inode,
        // An empty write at its end makes the file as long as the sector would have.
        at: match data.is_empty() {
            true => at + sectors[number].1.len(),
            false => at,
        },
        data,
    };
    let outcomes = all.into_iter();
    outcomes
        .map(|outcome| outcome.into_iter().enumerate().map(to_event).collect())
        .collect()
}

/// Splits a write into the parts that lie in one sector each.
fn split(at: usize, data: &[u8]) -> Vec<(usize, Vec<u8>)> {
    let mut parts = Vec::new();
    let mut from = at;
    while from < at + data.len() {
        let to = (at + data.len()).min((from / SECTOR_BYTES + 1) * SECTOR_BYTES);
        parts.push((from, data[from - at..to - at].to_vec()));
        from = to;
    }
    parts
}
