//! One of the client processes: it holds a lock of its own, and many tasks of it wait for a lock that
//! all processes share, or ask again and again for a lock that is free.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lock_core::clock::{BootInstant, Clock};
use turnlock::observe::{Event, Observer, TraceContext};
use turnlock::{Error, ErrorKind, Guard, Locks, LossReason, OnSessionLoss, Options, Release};

use crate::support::{Home, Running, lines};

const ARGUMENT: &str = "--process";

/// The lock that all processes share.
pub const SHARED: &str = "shared";

/// The pause of a task that was refused without a word on when to come back.
const PAUSE: Duration = Duration::from_secs(1);

/// The tasks of a process.
#[derive(Debug, Clone, Copy)]
pub struct Tasks {
    /// So many wait for the shared lock.
    pub waiting: usize,
    /// So many ask for a free lock, from the moment when [`Journal::begin_to_ask`] is called.
    pub asking: usize,
}

/// What a process tells, with the time since the machine started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Note {
    /// It holds its own lock.
    Held,
    /// A task has the shared lock, with this token.
    Turn(u64),
    /// A task that asked was refused.
    Refused,
    /// A task that asked was served.
    Served,
    /// The hold of its own lock is lost. Its last deadline was so many nanoseconds after the machine
    /// started.
    Lost(u64),
    /// A session ended before it was closed.
    SessionEnded,
    /// A task has failed, and the process ends.
    Failed,
}

/// The file in which a process tells what happens to it: one line a note, in one write.
#[derive(Debug)]
pub struct Journal(PathBuf);

impl Journal {
    pub fn of(home: &Home, number: usize) -> Self {
        Journal(home.file(&format!("process-{number}")))
    }

    fn add(&self, note: Note) {
        let now = Clock::system().now().as_nanos();
        let line = match note {
            Note::Held => format!("{now} held"),
            Note::Turn(token) => format!("{now} turn {token}"),
            Note::Refused => format!("{now} refused"),
            Note::Served => format!("{now} served"),
            Note::Lost(deadline) => format!("{now} lost {deadline}"),
            Note::SessionEnded => format!("{now} ended"),
            Note::Failed => format!("{now} failed"),
        };
        let file = OpenOptions::new().create(true).append(true).open(&self.0);
        let mut file = file.expect("the journal opens");
        file.write_all(format!("{line}\n").as_bytes())
            .expect("it is written");
    }

    /// Returns the notes so far, each with the nanoseconds since the machine started.
    pub fn notes(&self) -> Vec<(u64, Note)> {
        let parse = |line: &String| {
            let words: Vec<&str> = line.split(' ').collect();
            let note = match words[1..] {
                ["held"] => Note::Held,
                ["turn", token] => Note::Turn(token.parse().expect("a number")),
                ["refused"] => Note::Refused,
                ["served"] => Note::Served,
                ["lost", deadline] => Note::Lost(deadline.parse().expect("a number")),
                ["ended"] => Note::SessionEnded,
                ["failed"] => Note::Failed,
                _ => panic!("{line:?}"),
            };
            (words[0].parse().expect("a number"), note)
        };
        lines(&self.0).iter().map(parse).collect()
    }

    /// Returns how many notes there are like this one.
    pub fn count(&self, like: impl Fn(Note) -> bool) -> usize {
        let notes = self.notes();
        notes.iter().filter(|(_, note)| like(*note)).count()
    }

    /// Lets those tasks begin that ask for a free lock.
    pub fn begin_to_ask(&self) {
        std::fs::write(self.signal(), "").expect("writable");
    }

    fn signal(&self) -> PathBuf {
        self.0.with_extension("ask")
    }
}

/// Returns the name of the lock that a process has for itself.
pub fn own_lock(number: usize) -> String {
    format!("own/{number}")
}

/// Starts a process that reaches the coordinator at this URL.
pub fn spawn(home: &Home, url: &str, number: usize, ttl: Duration, tasks: Tasks) -> Running {
    let numbers = [number, tasks.waiting, tasks.asking].map(|number| number.to_string());
    let child = Command::new(std::env::current_exe().expect("this program"))
        .args([ARGUMENT, url, &ttl.as_secs().to_string()])
        .args(numbers)
        .arg(Journal::of(home, number).0)
        .current_dir(home.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    Running::of(child.expect("this program starts"))
}

/// Runs a process if this program was started as one.
pub fn main() -> Option<ExitCode> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, argument, url, ttl, number, waiting, asking, journal] = &arguments[..] else {
        return None;
    };
    if argument != ARGUMENT {
        return None;
    }
    let parse = |number: &String| number.parse::<usize>().expect("a number");
    let tasks = Tasks {
        waiting: parse(waiting),
        asking: parse(asking),
    };
    let ttl = Duration::from_secs(ttl.parse().expect("seconds"));
    let journal = Arc::new(Journal(Path::new(journal).to_owned()));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let ended =
        runtime
            .expect("a runtime")
            .block_on(run(url, ttl, parse(number), tasks, journal.clone()));
    Some(match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:?}");
            journal.add(Note::Failed);
            ExitCode::FAILURE
        }
    })
}

async fn run(
    url: &str,
    ttl: Duration,
    number: usize,
    tasks: Tasks,
    journal: Arc<Journal>,
) -> Result<(), Error> {
    let sessions = Arc::new(Sessions {
        journal: journal.clone(),
        deadline: AtomicU64::new(0),
    });
    let options = Options::default()
        .with_ttl(ttl)
        .with_on_session_loss(OnSessionLoss::Requeue)
        .with_observer(sessions.clone());
    let locks = turnlock::connect_with(url, options)?;
    let own = locks.mutex(own_lock(number))?.acquire().await?;
    journal.add(Note::Held);
    let waiting = (0..tasks.waiting).map(|_| tokio::spawn(wait(locks.clone(), journal.clone())));
    let asking = (0..tasks.asking).map(|task| {
        let name = format!("asked/{number}/{task}");
        tokio::spawn(ask(locks.clone(), name, journal.clone()))
    });
    let tasks: Vec<_> = waiting.chain(asking).collect();
    let watching = tokio::spawn(watch(own, sessions.clone()));
    for task in tasks {
        let ended = task.await;
        if ended.is_err() {
            sessions.journal.add(Note::Failed);
        }
        ended.expect("no panic")?;
    }
    watching.abort();
    // Gives back its own lock, too.
    locks.close().await
}

/// Waits for the end of the hold, which is lost if it comes before the process ends.
async fn watch(own: Guard, sessions: Arc<Sessions>) {
    own.lost().await;
    let deadline = sessions.deadline.load(Ordering::SeqCst);
    sessions.journal.add(Note::Lost(deadline));
}

async fn wait(locks: Locks, journal: Arc<Journal>) -> Result<(), Error> {
    let guard = locks.mutex(SHARED)?.acquire().await?;
    journal.add(Note::Turn(guard.token().0));
    assert_eq!(guard.release().await?, Release::Released);
    Ok(())
}

/// Asks for a free lock as a service would that has something to do: again after each refusal.
async fn ask(locks: Locks, name: String, journal: Arc<Journal>) -> Result<(), Error> {
    while !journal.signal().exists() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let lock = locks.mutex(name)?;
    loop {
        match lock.acquire().await {
            Ok(guard) => {
                journal.add(Note::Served);
                assert_eq!(guard.release().await?, Release::Released);
                return Ok(());
            }
            Err(error) if error.kind() == ErrorKind::Exhausted => {
                journal.add(Note::Refused);
                tokio::time::sleep(error.retry_after().unwrap_or(PAUSE)).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Notes the ends of sessions, but for the last, which the process closes.
#[derive(Debug)]
struct Sessions {
    journal: Arc<Journal>,
    /// The deadline after the latest renewal, in nanoseconds since the machine started.
    deadline: AtomicU64,
}

impl Observer for Sessions {
    fn observe(&self, event: &Event<'_>) {
        match event {
            Event::SessionOpened { liveness, .. } => {
                let deadline = liveness.deadline().map_or(0, BootInstant::as_nanos);
                self.deadline.store(deadline, Ordering::SeqCst);
            }
            Event::Renewed { left, .. } => {
                let deadline = Clock::system().now() + *left;
                self.deadline.store(deadline.as_nanos(), Ordering::SeqCst);
            }
            Event::SessionEnded { reason, .. } if *reason != LossReason::Closed => {
                self.journal.add(Note::SessionEnded);
            }
            _ => {}
        }
    }

    fn trace_context(&self) -> Option<TraceContext> {
        None
    }
}
