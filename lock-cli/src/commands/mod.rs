//! The subcommands, a file each.

pub mod bench;
pub mod change;
pub mod chaos;
pub mod conformance;
pub mod edit;
pub mod fence;
pub mod floor;
pub mod hold;
pub mod last_will;
pub mod ls;
pub mod queue;
pub mod run;
#[cfg(feature = "embedded")]
pub mod serve;
#[cfg(feature = "embedded")]
pub mod stop;
mod supervise;
mod surrounding;

use std::time::Duration;

use turnlock::{ErrorKind, Guard, LockName, Locks, Mode, Options, Release};

use crate::child::Signals;
use crate::cli::{Acquire, Global};
use crate::coordinator;
use crate::exit::{Exit, Failure};
use crate::output::say;
use crate::waiting;

/// How long an answer to our last words is waited for.
const PARTING: Duration = Duration::from_secs(1);

/// The name as `--raw` has it read.
fn name(text: &str, raw: bool) -> Result<LockName, Failure> {
    let name = if raw {
        LockName::raw(text)
    } else {
        LockName::new(text)
    };
    name.map_err(|error| Failure::new(Exit::Usage, error.to_string()))
}

/// What came of waiting for the lock.
enum Turn {
    /// It is ours. The session ends with [`part`].
    Ours(Locks, Guard),
    /// A signal came that would have ended us.
    Interrupted(Exit),
}

/// Connects, and waits for the lock as the options say.
async fn turn(
    global: &Global,
    name: &LockName,
    mode: Mode,
    options: &Acquire,
    signals: &mut Signals,
) -> Result<Turn, Failure> {
    let locks = connect(global, options).await?;
    let acquired = tokio::select! {
        acquired = acquire(&locks, name, mode, options) => acquired?,
        signal = signals.deadly() => {
            // Leaves the queue now instead of when the session ends.
            part(&locks).await;
            return Ok(Turn::Interrupted(Exit::Signal(signal)));
        }
    };
    match acquired {
        Some(guard) => Ok(Turn::Ours(locks, guard)),
        None => {
            part(&locks).await;
            Err(not_acquired(name, options))
        }
    }
}

/// How a hold that is asked for with or without `-s` is held.
fn mode(shared: bool) -> Mode {
    if shared {
        Mode::Shared
    } else {
        Mode::Exclusive
    }
}

async fn connect(global: &Global, acquire: &Acquire) -> Result<Locks, Failure> {
    let options = Options {
        ttl: acquire.ttl,
        note: acquire.note.clone(),
        ..Options::default()
    };
    coordinator::connect(global.backend.as_deref(), options).await
}

/// Waits for the lock as the options say; `None` if somebody else has it.
async fn acquire(
    locks: &Locks,
    name: &LockName,
    mode: Mode,
    options: &Acquire,
) -> Result<Option<Guard>, Failure> {
    let waiting = waiting::report(locks, name);
    tokio::select! {
        biased;
        acquired = queue_up(locks, name, mode, options) => acquired,
        never = waiting => match never {},
    }
}

async fn queue_up(
    locks: &Locks,
    name: &LockName,
    mode: Mode,
    options: &Acquire,
) -> Result<Option<Guard>, Failure> {
    let lock = locks.rwlock(name)?;
    // To wait for no time is to try.
    let nonblock = options.nonblock || options.wait.is_some_and(|limit| limit.is_zero());
    let started = tokio::time::Instant::now();
    loop {
        let left = options
            .wait
            .map(|limit| limit.saturating_sub(started.elapsed()));
        let acquired = match (nonblock, left, mode) {
            (true, _, Mode::Shared) => lock.try_read().await,
            (true, _, Mode::Exclusive) => lock.try_write().await,
            (false, Some(limit), Mode::Shared) => lock.read_timeout(limit).await,
            (false, Some(limit), Mode::Exclusive) => lock.write_timeout(limit).await,
            (false, None, Mode::Shared) => lock.read().await.map(Some),
            (false, None, Mode::Exclusive) => lock.write().await.map(Some),
        };
        match acquired {
            // The machine slept, or the coordinator was away for longer than our time to live.
            Err(error) if matches!(error.kind(), ErrorKind::SessionLost(_)) && !nonblock => {
                say(format!(
                    "lost our place in the queue ({error}); queueing again"
                ));
            }
            other => return Ok(other?),
        }
    }
}

/// The failure of a lock that somebody else has.
fn not_acquired(name: &LockName, options: &Acquire) -> Failure {
    let message = match options.wait {
        Some(limit) => format!("{name}: not acquired within {} s", limit.as_secs_f64()),
        None => format!("{name}: somebody else has the lock"),
    };
    let failure = Failure::new(Exit::Of(options.conflict_exit_code), message);
    failure.hint(format!(
        "`turnlock queue {}{name}` shows who",
        if options.raw { "--raw " } else { "" }
    ))
}

/// Ends the session, so that nothing of ours stays in a queue. A coordinator that does not answer
/// is not waited for: the session ends with its time to live.
async fn part(locks: &Locks) {
    let _ = tokio::time::timeout(PARTING, locks.close()).await;
}

/// Gives the lock back. An answer that takes too long is not waited for.
async fn release(guard: Guard) -> Release {
    tokio::time::timeout(PARTING, guard.release())
        .await
        .unwrap_or(Release::Unknown)
}
