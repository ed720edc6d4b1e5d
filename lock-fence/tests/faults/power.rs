//! A power cut at every point of an operation: every state that the disk may be in is made, and the
//! real code goes on from there.

use std::collections::HashSet;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::UNIX_EPOCH;

use libtest_mimic::Trial;
use lock_fence::read;

use crate::disk::{Disk, Event};
use crate::helper::OPERATIONS;
use crate::scene::{Before, Expected, Scene, folder, judge, scene, trace};
use crate::syscalls::{OPTIONS, parse};

const FILE: &str = "ledger";
const MARK: &str = ".ledger.fence";
const DRAFT: &str = ".ledger.new";
/// The bytes of the first line of a mark.
const LINE_BYTES: usize = 256;

/// What each operation cannot do without: if this sync is left out, some power cut does harm.
const NEEDED: [(&str, Synced); 8] = [
    ("replace", Synced::File(MARK)),
    ("replace", Synced::File(DRAFT)),
    ("replace", Synced::Folder),
    ("append", Synced::File(MARK)),
    ("append", Synced::File(FILE)),
    ("edit", Synced::File(MARK)),
    ("edit", Synced::File(DRAFT)),
    ("admit", Synced::File(MARK)),
];

#[derive(Debug, Clone, Copy)]
enum Synced {
    /// The file that has this name when it is synced.
    File(&'static str),
    Folder,
}

pub fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for operation in OPERATIONS {
        for before in Before::ALL {
            let name = format!("{operation}_on_{before:?}_survives_a_power_cut").to_lowercase();
            trials.push(Trial::test(name, move || {
                let run = Run::record(operation, before);
                let states = run.check(&run.events)?;
                println!("{operation} on {before:?}: {states} states");
                Ok(())
            }));
        }
    }
    for (operation, synced) in NEEDED {
        let name = match synced {
            Synced::File(name) => name.trim_start_matches('.').replace('.', "_"),
            Synced::Folder => "folder".to_owned(),
        };
        let name = format!("{operation}_needs_the_sync_of_the_{name}");
        trials.push(Trial::test(name, move || {
            let run = Run::record(operation, Before::Fenced);
            let fewer = run.without(synced);
            assert!(fewer.len() < run.events.len(), "{:?}", run.events);
            match run.check(&fewer) {
                Ok(states) => Err(format!("no harm is seen in {states} states").into()),
                Err(_) => Ok(()),
            }
        }));
    }
    trials
}

/// An operation that was done once, with what it asked of the disk.
struct Run {
    operation: &'static str,
    before: Before,
    old: Option<&'static [u8]>,
    new: Option<Vec<u8>>,
    disk: Disk,
    /// The inode number that the file had, which the mark may contain.
    inode: u64,
    events: Vec<Event>,
}

impl Run {
    fn record(operation: &'static str, before: Before) -> Run {
        // So long that it lies in several sectors.
        let input = [b'n'; 1200];
        let Scene { dir, path, old } = scene(before);
        let mut disk = Disk::default();
        for name in [FILE, MARK] {
            if let Ok(content) = fs::read(dir.path().join(name)) {
                let inode = disk.new_inode();
                disk.names.insert(name.to_owned(), inode);
                disk.files.insert(inode, content);
            }
        }
        let inode = fs::metadata(&path).map_or(0, |found| found.ino());
        let (output, trace) = trace(operation, &path, &input, &OPTIONS);
        assert!(output.status.success(), "{output:?}");
        Run {
            operation,
            before,
            old,
            new: read(&path).ok(),
            events: parse(&trace, &disk),
            disk,
            inode,
        }
    }

    /// Returns the events without these syncs.
    fn without(&self, synced: Synced) -> Vec<Event> {
        let mut disk = self.disk.clone();
        let mut events = self.events.clone();
        events.retain(|event| {
            let is_it = match (event, synced) {
                (Event::SyncFolder, Synced::Folder) => true,
                (Event::SyncFile { inode }, Synced::File(name)) => {
                    disk.names.get(name) == Some(inode)
                }
                _ => false,
            };
            disk.apply(event);
            !is_it
        });
        events
    }

    /// Makes every state that a power cut may leave, and checks each. Returns their number.
    ///
    /// # Errors
    /// The first state in which something does not hold.
    fn check(&self, events: &[Event]) -> Result<usize, String> {
        let mut seen = HashSet::new();
        for cut in 0..=events.len() {
            let is_done = cut == events.len();
            for disk in self.disk.after_power_cut(&events[..cut]) {
                if !seen.insert((is_done, format!("{:?}", disk.visible()))) {
                    continue;
                }
                let dir = folder();
                self.make(&disk, dir.path());
                let expected = Expected {
                    operation: self.operation,
                    old: self.old,
                    new: self.new.as_deref(),
                    is_done,
                    is_plain: self.operation != "append" && self.before != Before::Torn,
                };
                judge(&dir.path().join(FILE), expected).map_err(|error| {
                    let last = events[..cut].last();
                    format!("{error}, when power is cut after {last:?} and leaves {disk:?}")
                })?;
            }
        }
        Ok(seen.len())
    }

    fn make(&self, disk: &Disk, folder: &Path) {
        for (name, content) in disk.visible() {
            fs::write(folder.join(name), content).expect("writable");
        }
        // A mark names the file of an append by its inode, and the file that was made has another.
        let file = (disk.names.get(FILE)).filter(|inode| self.disk.names.get(FILE) == Some(inode));
        let mark = folder.join(MARK);
        if file.is_some()
            && let Ok(bytes) = fs::read(&mark)
        {
            let made = File::open(folder.join(FILE)).and_then(|file| file.metadata());
            let sealed = reseal(&bytes, self.inode, &made.expect("made"));
            fs::write(&mark, sealed).expect("writable");
        }
    }
}

/// Returns a mark that names this file instead of the one with this inode number.
fn reseal(mark: &[u8], inode: u64, file: &fs::Metadata) -> Vec<u8> {
    let was = format!(" inode={inode} ");
    let Some((line, lock)) = mark.split_at_checked(LINE_BYTES) else {
        return mark.to_vec();
    };
    let line = String::from_utf8_lossy(line);
    let (Some((facts, _)), true) = (line.split_once(" check="), line.contains(&was)) else {
        return mark.to_vec();
    };
    let born = file.created().ok();
    let born = born.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    let born = born.map_or(0, |since| since.as_nanos());
    let words = facts.split(' ').map(|word| match word.split_once('=') {
        Some(("inode", _)) => format!("inode={}", file.ino()),
        Some(("born", _)) => format!("born={born}"),
        _ => word.to_owned(),
    });
    let facts = words.collect::<Vec<_>>().join(" ");
    let mut checksum = crc32fast::Hasher::new();
    checksum.update(facts.as_bytes());
    checksum.update(lock);
    let line = format!("{facts} check={:08x}", checksum.finalize());
    let width = LINE_BYTES - 1;
    [format!("{line:<width$}\n").as_bytes(), lock].concat()
}
