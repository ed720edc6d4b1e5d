//! Checks the invariants of the store, at every moment and at the end.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::store::{Entry, Store};
use crate::support::{Home, Running, text};
use crate::worker::Note;

/// The results of the edits.
pub struct Tally {
    pub in_store: usize,
    pub acknowledged: usize,
    pub stale: usize,
}

/// Reads the store until the test is over, and returns the number of reads. An entry must never
/// disappear.
pub fn read_all_the_time(store: &str, over: &AtomicBool) -> usize {
    let mut store = Store::open(store).expect("it opens");
    let mut seen: Vec<Entry> = Vec::new();
    let mut reads = 0;
    while !over.load(Ordering::Relaxed) {
        let now = store.entries().expect("it reads and parses");
        assert!(
            now.starts_with(&seen),
            "an accepted edit was lost: {:?} after {:?}",
            now.last(),
            seen.last()
        );
        seen = now;
        reads += 1;
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    reads
}

pub fn must_have_been_killed(worker: Running) {
    let output = worker.wait();
    assert_eq!(output.status.signal(), Some(9), "{}", text(&output.stderr));
}

pub fn must_be_done_or_killed(worker: Running) {
    let output = worker.wait();
    let fine = output.status.success() || output.status.signal() == Some(9);
    assert!(fine, "{:?}: {}", output.status, text(&output.stderr));
}

/// Compares the store with the results that the processes noted.
pub fn judge(home: &Home, store: &mut Store) -> Tally {
    let entries = store.entries().expect("it reads and parses");
    let tokens: Vec<u64> = entries.iter().map(|[token, ..]| *token).collect();
    assert!(
        tokens.windows(2).all(|pair| pair[0] < pair[1]),
        "tokens rise, one edit a hold"
    );

    let written: BTreeSet<(u64, u64)> = entries
        .iter()
        .map(|[_, life, serial]| (*life, *serial))
        .collect();
    assert_eq!(written.len(), entries.len(), "no edit is there twice");
    let noted = |which: Note| -> BTreeSet<(u64, u64)> { notes(home, which).collect() };
    let (tried, done, stale) = (noted(Note::Try), noted(Note::Done), noted(Note::Stale));
    let lost: Vec<_> = done.difference(&written).collect();
    assert!(lost.is_empty(), "acknowledged and not there: {lost:?}");
    let kept: Vec<_> = stale.intersection(&written).collect();
    assert!(kept.is_empty(), "refused and there all the same: {kept:?}");
    assert!(written.is_subset(&tried), "nobody else wrote");
    Tally {
        in_store: entries.len(),
        acknowledged: done.len(),
        stale: stale.len(),
    }
}

/// Returns the process's number and the number of the edit, of all notes of this kind.
pub fn notes(home: &Home, which: Note) -> impl Iterator<Item = (u64, u64)> {
    let journals = fs::read_dir(home.path()).expect("readable");
    let mut found = Vec::new();
    for journal in journals {
        let path = journal.expect("readable").path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or("");
        let Some(life) = name.strip_prefix("journal.") else {
            continue;
        };
        let life: u64 = life.parse().expect("a number");
        for line in crate::support::lines(&path) {
            let (word, serial) = line.split_once(' ').expect("a note");
            let note = Note::ALL.into_iter().find(|note| note.word() == word);
            if note == Some(which) {
                found.push((life, serial.parse().expect("a number")));
            }
        }
    }
    found.into_iter()
}
