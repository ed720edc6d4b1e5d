//! The thread that starts the command and waits for it.
//!
//! One thread does both because the kernel's "kill me when my parent dies" means the thread that
//! started the process, not the whole process: this one lives until the command has ended.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;
use std::thread;

use rustix::io::retry_on_intr;
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use tokio::sync::{mpsc, oneshot};

use super::error::{Error, SpawnError};
use super::group::Group;
use super::launcher;
use super::terminal::Terminal;
use super::watchdog::Watchdog;

/// Events that are not fetched yet. The thread waits when there are more: the kernel keeps what
/// happens meanwhile.
const EVENTS: usize = 4;

/// What to start.
pub(super) struct Plan {
    pub command: Vec<OsString>,
    pub env: Vec<(OsString, OsString)>,
}

/// A command that runs.
pub(super) struct Started {
    pub group: Group,
    pub terminal: Option<Terminal>,
    /// The terminal was given to it.
    pub foreground: bool,
}

/// What happens to the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// It was stopped by the signal of this number.
    Stopped(i32),
    /// It has ended, and is not reaped.
    Ended,
}

type Start = oneshot::Receiver<Result<Started, SpawnError>>;

/// Starts the thread, which starts the command. Nobody waiting for the answer, the command is
/// killed.
pub(super) fn start(plan: Plan) -> Result<(Start, mpsc::Receiver<Event>), SpawnError> {
    let (answer, started) = oneshot::channel();
    let (tell, events) = mpsc::channel(EVENTS);
    thread::Builder::new()
        .name("command".to_owned())
        .spawn(move || {
            let launched = launch(&plan);
            let leader = launched.as_ref().ok().map(|started| started.group.id());
            if answer.send(launched).is_ok()
                && let Some(leader) = leader
            {
                watch(leader, &tell);
            }
        })
        .map_err(|source| Error::new("start a thread", source))?;
    Ok((started, events))
}

fn launch(plan: &Plan) -> Result<Started, SpawnError> {
    let refused = |what| move |source| SpawnError::from(Error::new(what, source));
    let Some(program) = plan.command.first() else {
        return Err(not_executed(
            OsStr::new(""),
            io::ErrorKind::InvalidInput.into(),
        ));
    };
    // Side by side: neither needs the other to come up.
    let watchdog = Watchdog::start().map_err(refused("start the watchdog process"))?;
    let (process, launch) = launcher::start(&plan.command, &plan.env)
        .map_err(|source| not_launched(program, source))?;
    let mut group = Group::guard(process, watchdog).map_err(refused("arm the watchdog process"))?;
    let terminal = Terminal::open();
    let foreground = Terminal::is_stdio()
        && terminal
            .as_ref()
            .is_some_and(|terminal| terminal.give(group.id()));
    match launch.go() {
        Ok(()) => Ok(Started {
            group,
            terminal,
            foreground,
        }),
        Err(source) => {
            if let Some(terminal) = &terminal {
                terminal.take_back(group.id());
            }
            // The launcher ends by itself; whatever the answer, there is nothing left of the group.
            let _ = group.reap();
            Err(not_executed(program, source))
        }
    }
}

/// The launcher could not be started. Only what the command itself is to blame for counts as its
/// failure.
fn not_launched(program: &OsStr, source: io::Error) -> SpawnError {
    match source.kind() {
        io::ErrorKind::ArgumentListTooLong | io::ErrorKind::InvalidInput => {
            SpawnError::NotExecutable(program.to_owned(), source)
        }
        _ => Error::new("start the launcher process", source).into(),
    }
}

fn not_executed(program: &OsStr, source: io::Error) -> SpawnError {
    if source.kind() != io::ErrorKind::NotFound {
        return SpawnError::NotExecutable(program.to_owned(), source);
    }
    let path = Path::new(program);
    if path.components().count() > 1 && path.exists() {
        let source = io::Error::other("the interpreter that it names was not found");
        return SpawnError::NotExecutable(program.to_owned(), source);
    }
    SpawnError::NotFound(program.to_owned())
}

/// Reports stops until the process has ended, which it reports too. Does not reap it.
fn watch(leader: Pid, tell: &mpsc::Sender<Event>) {
    let wait = |options| retry_on_intr(|| waitid(WaitId::Pid(leader), options));
    loop {
        let event =
            match wait(WaitIdOptions::EXITED | WaitIdOptions::STOPPED | WaitIdOptions::NOWAIT) {
                Ok(Some(status)) if status.stopped() => {
                    // Looked at, not fetched yet. If it is gone, the process was continued
                    // meanwhile.
                    match wait(WaitIdOptions::STOPPED | WaitIdOptions::NOHANG) {
                        Ok(Some(status)) => status.stopping_signal().map(Event::Stopped),
                        _ => None,
                    }
                }
                Ok(_) => Some(Event::Ended),
                // The closed channel says that something is wrong.
                Err(_) => return,
            };
        if let Some(event) = event
            && (tell.blocking_send(event).is_err() || event == Event::Ended)
        {
            return;
        }
    }
}
