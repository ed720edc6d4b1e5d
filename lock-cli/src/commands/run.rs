//! `turnlock run`: run a command under a lock, and stop it before the lock can be somebody else's.

use std::ffi::OsString;
use std::time::Duration;

use turnlock::{Guard, LockName, Release, State, clock};

use crate::child::{Child, Deadline, Ended, Signals, SpawnError};
use crate::cli::{Global, OnLost, Run};
use crate::commands::{acquire, connect, name, not_acquired, part, release};
use crate::exit::{Exit, Failure};
use crate::output::say;

/// KILL comes this long before the deadline at the latest: the kernel needs a moment to end a
/// process.
const KILL_RESERVE: Duration = Duration::from_millis(100);

pub async fn run(global: Global, args: Run) -> Result<Exit, Failure> {
    let name = name(&args.name, args.acquire.raw)?;
    let grace = grace(&args)?;
    let command = command(&args);
    // Before anything is queued or started, so that no signal finds us unprepared.
    let mut signals = Signals::install()?;
    let locks = connect(&global, &args.acquire).await?;
    let acquired = tokio::select! {
        acquired = acquire(&locks, &name, &args.acquire) => acquired?,
        signal = signals.deadly() => {
            // Leaves the queue now instead of when the session ends.
            part(&locks).await;
            return Ok(Exit::Of(signal.status()));
        }
    };
    let Some(guard) = acquired else {
        part(&locks).await;
        return Err(not_acquired(&name, &args.acquire));
    };

    let child = match Child::spawn(&command, &environment(&name, &guard), signals).await {
        Ok(child) => child,
        Err(error) => {
            release(guard).await;
            part(&locks).await;
            let exit = match &error {
                SpawnError::NotFound(_) => Exit::NotFound,
                SpawnError::NotExecutable(..) => Exit::NotExecutable,
                SpawnError::Supervision(_) => Exit::Internal,
            };
            return Err(Failure::new(exit, error.to_string()));
        }
    };
    let (ended, lost) = supervise(child, &guard, args.on_lost, grace, &name).await?;
    let released = release(guard).await;
    part(&locks).await;
    if released == Release::AlreadyGone && !lost {
        say(format!(
            "{name}: the lock had been lost before the command ended"
        ));
    }
    if released == Release::Unknown && !lost {
        say(format!(
            "{name}: the coordinator did not answer the release; the lock is free within {} s",
            args.acquire.ttl.as_secs_f64()
        ));
    }
    if lost || released == Release::AlreadyGone {
        return Ok(Exit::Lost);
    }
    Ok(Exit::Of(ended.status()))
}

/// Waits for the command to end, and stops it when the lock is lost or about to be. Answers how it
/// ended and whether the lock was lost.
async fn supervise(
    mut child: Child,
    guard: &Guard,
    on_lost: OnLost,
    grace: Duration,
    name: &LockName,
) -> Result<(Ended, bool), Failure> {
    let reserve = match on_lost {
        OnLost::Term => grace + KILL_RESERVE,
        OnLost::Kill | OnLost::Ignore => KILL_RESERVE,
    };
    let deadline = match on_lost {
        OnLost::Ignore => None,
        OnLost::Term | OnLost::Kill => child.deadline()?,
    };
    tokio::select! {
        biased;
        ended = child.wait(|| may_continue(guard, reserve)) => {
            let ended = ended?;
            let State::Lost(reason) = guard.state() else {
                return Ok((ended, false));
            };
            say(format!("{name}: the lock is lost: {reason}; the command has ended"));
            return Ok((ended, true));
        }
        () = beyond_hope(guard, reserve, deadline.as_ref()) => {}
    }
    let why = match guard.state() {
        State::Lost(reason) => format!("the lock is lost: {reason}"),
        State::Held | State::Jeopardy => {
            "the lock could not be renewed and will soon be lost".to_owned()
        }
    };
    if on_lost == OnLost::Ignore {
        say(format!("{name}: {why}; the command runs on, as asked"));
        let ended = child.wait(|| true).await?;
        return Ok((ended, matches!(guard.state(), State::Lost(_))));
    }
    say(format!("{name}: {why}; stopping the command"));
    // Past the deadline another may hold: then there is no time left to be polite.
    let left = guard.remaining().saturating_sub(KILL_RESERVE);
    let term = on_lost == OnLost::Term && !left.is_zero();
    match child.stop(term, left.min(grace)).await {
        Ok(ended) => Ok((ended, true)),
        // It runs as another user: the lock is lost, and the command is not under our control.
        Err(error) => Err(Failure::new(
            Exit::Lost,
            format!("{name}: {error}; it runs on"),
        )),
    }
}

/// Resolves when less than `reserve` is left before the deadline, renewals or not, or the lock is
/// lost. Meanwhile it keeps the watchdog informed.
async fn beyond_hope(guard: &Guard, reserve: Duration, watchdog: Option<&Deadline>) {
    // Timers stand still while the machine sleeps; the deadline does not.
    const LONGEST_SLEEP: Duration = Duration::from_millis(500);
    let clock = clock::Clock::system();
    loop {
        let remaining = guard.remaining();
        if let Some(watchdog) = watchdog {
            // After our own turn to be polite, before the deadline.
            watchdog.set(clock.now() + remaining.saturating_sub(KILL_RESERVE / 2));
        }
        let spare = remaining.saturating_sub(reserve);
        if spare.is_zero() {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(spare.min(LONGEST_SLEEP)) => {}
            _ = guard.lost() => return,
        }
    }
}

/// A command that was stopped (Ctrl-Z) for too long must not run on.
fn may_continue(guard: &Guard, reserve: Duration) -> bool {
    guard.remaining() > reserve
}

fn grace(args: &Run) -> Result<Duration, Failure> {
    let ttl = args.acquire.ttl;
    match args.grace {
        Some(grace) if grace > ttl / 2 => Err(Failure::new(
            Exit::Usage,
            format!(
                "a grace of {} s does not fit into a ttl of {} s",
                grace.as_secs_f64(),
                ttl.as_secs_f64()
            ),
        )
        .hint("give at most half of the ttl, or a longer --ttl")),
        Some(grace) => Ok(grace),
        None => Ok(ttl / 5),
    }
}

fn command(args: &Run) -> Vec<OsString> {
    match &args.shell {
        Some(text) => {
            let shell = std::env::var_os("SHELL")
                .filter(|shell| !shell.is_empty())
                .unwrap_or_else(|| "/bin/sh".into());
            vec![shell, "-c".into(), text.into()]
        }
        None => args.command.clone(),
    }
}

/// What the command learns of its hold. Set after the inherited ones: those of an outer hold must
/// not win.
fn environment(name: &LockName, guard: &Guard) -> Vec<(OsString, OsString)> {
    let deadline =
        clock::unix_millis() + u64::try_from(guard.remaining().as_millis()).unwrap_or(u64::MAX);
    [
        ("TURNLOCK_NAME", name.to_string()),
        ("TURNLOCK_TOKEN", guard.token().to_string()),
        ("TURNLOCK_MODE", guard.mode().to_string()),
        // As of the start: renewals move it on while the command runs.
        ("TURNLOCK_DEADLINE_UNIX_MS", deadline.to_string()),
    ]
    .map(|(key, value)| (key.into(), value.into()))
    .to_vec()
}
