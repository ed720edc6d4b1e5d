//! Runs one process of the fleet: takes the lock, edits the file, and keeps a journal of the
//! results.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use futures_executor::block_on;
use rustix::process::{Signal, getpid, kill_process};
use turnlock::Options;
use turnlock::fence::FencingToken;

use crate::store::Store;
use crate::support::{Home, Running};

const ARGUMENT: &str = "--edit";

/// The number of the process that stops once, when it has the lock and before it writes, until the
/// test wakes it.
pub const SLEEPER: u64 = 1;

/// A note in the journal: one line, in one write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Note {
    /// The process is about to edit.
    Try,
    /// The edit was reported as done.
    Done,
    /// The token was reported as stale.
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

pub fn spawn(home: &Home, url: &str, store: &str, life: u64, edits: usize) -> Running {
    let child = std::process::Command::new(std::env::current_exe().expect("this program"))
        .args([ARGUMENT, url, store, &life.to_string(), &edits.to_string()])
        .current_dir(home.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    Running::of(child.expect("this program starts"))
}

pub fn main(ttl: Duration) -> Option<ExitCode> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, argument, url, store, life, edits] = &arguments[..] else {
        return None;
    };
    if argument != ARGUMENT {
        return None;
    }
    let edits = edits.parse().expect("a number");
    let life = life.parse().expect("a number");
    Some(match work(url, store, life, edits, ttl) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:?}");
            ExitCode::FAILURE
        }
    })
}

fn work(
    url: &str,
    store: &str,
    life: u64,
    edits: usize,
    ttl: Duration,
) -> Result<(), Box<dyn std::error::Error>> {
    let options = Options::default().with_ttl(ttl);
    let mut journal = journal(life)?;
    let mut store = Store::open(store)?;
    let mut sleepy = life == SLEEPER;
    let locks = turnlock::connect_with(url, options)?;
    let ledger = locks.mutex("ledger")?;
    for serial in 0u64.. {
        let guard = match block_on(ledger.acquire()) {
            Ok(guard) => guard,
            // The process was paused for too long while it waited.
            Err(error) if matches!(error.kind(), turnlock::ErrorKind::SessionLost(_)) => continue,
            Err(error) => return Err(error.into()),
        };
        note(&mut journal, Note::Try, serial)?;
        if std::mem::take(&mut sleepy) {
            kill_process(getpid(), Signal::STOP)?;
        }
        let token = FencingToken::of(&guard);
        let entry = [guard.token().0, life, serial];
        // Programs spend time between the read and the write. The pauses hit here.
        let think = || std::thread::sleep(Duration::from_millis(fastrand::u64(0..10)));
        match store.add(&token, entry, think)? {
            true => note(&mut journal, Note::Done, serial)?,
            false => note(&mut journal, Note::Stale, serial)?,
        }
        let _ = block_on(guard.release());
        if store.length()? >= edits {
            break;
        }
    }
    block_on(locks.close()).ok();
    Ok(())
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
