//! One of the processes: takes the lock, edits the file, and keeps a journal of what it was told.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use turnlock::Options;
use turnlock::fence::FileLocks;

use crate::support::{Home, Running};

const ARGUMENT: &str = "--edit";

/// What it notes: one line each, in one write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Note {
    /// It is about to edit.
    Try,
    /// It was told that the edit is done.
    Done,
    /// It was told that its token is stale.
    Stale,
}

impl Note {
    pub const ALL: [Note; 3] = [Note::Try, Note::Done, Note::Stale];

    pub fn word(self) -> &'static str {
        match self {
            Note::Try => "try",
            Note::Done => "done",
            Note::Stale => "stale",
        }
    }
}

pub fn spawn(home: &Home, url: &str, life: usize, edits: usize) -> Running {
    let child = std::process::Command::new(std::env::current_exe().expect("this program"))
        .args([ARGUMENT, url, &life.to_string(), &edits.to_string()])
        .current_dir(home.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    Running::of(child.expect("this program starts"))
}

pub fn main(ttl: Duration) -> Option<ExitCode> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, argument, url, life, edits] = &arguments[..] else {
        return None;
    };
    if argument != ARGUMENT {
        return None;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let edits = edits.parse().expect("a number");
    let life = life.parse().expect("a number");
    Some(match runtime.block_on(work(url, life, edits, ttl)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    })
}

async fn work(
    url: &str,
    life: u64,
    edits: usize,
    ttl: Duration,
) -> Result<(), Box<dyn std::error::Error>> {
    let options = Options {
        ttl,
        ..Options::default()
    };
    let mut journal = journal(life)?;
    let locks = turnlock::connect_with(url, options).await?;
    let ledger = locks.file(Path::new("ledger.json"))?;
    for serial in 0u64.. {
        let guard = match ledger.acquire().await {
            Ok(guard) => guard,
            // It was paused for too long while it waited.
            Err(error) if matches!(error.kind(), turnlock::ErrorKind::SessionLost(_)) => continue,
            Err(error) => return Err(error.into()),
        };
        let token = guard.lock().token().0;
        note(&mut journal, Note::Try, serial)?;
        let edited = guard.edit(move |old| add(old, [token, life, serial])).await;
        match edited {
            Ok(()) => note(&mut journal, Note::Done, serial)?,
            Err(error) if error.is_stale() => note(&mut journal, Note::Stale, serial)?,
            // Nothing was tried.
            Err(error) if error.kind() == turnlock::fence::ErrorKind::Lost => {
                note(&mut journal, Note::Stale, serial)?;
            }
            Err(error) => return Err(error.into()),
        }
        guard.release().await;
        if crate::checker::length(Path::new("ledger.json")) >= edits {
            break;
        }
    }
    locks.close().await.ok();
    Ok(())
}

fn add(old: &[u8], entry: [u64; 3]) -> Result<Vec<u8>, serde_json::Error> {
    // Programs think about what they write: here the pauses hit.
    std::thread::sleep(Duration::from_millis(fastrand::u64(0..10)));
    let mut entries: Vec<[u64; 3]> = match old {
        [] => Vec::new(),
        old => serde_json::from_slice(old)?,
    };
    entries.push(entry);
    serde_json::to_vec(&entries)
}

fn journal(life: u64) -> std::io::Result<File> {
    OpenOptions::new()
        .create_new(true)
        .append(true)
        .open(format!("journal.{life}"))
}

fn note(journal: &mut File, note: Note, serial: u64) -> std::io::Result<()> {
    journal.write_all(format!("{} {serial}\n", note.word()).as_bytes())
}
