//! `turnlock run`: run a command under a lock, and stop it before another can get the lock.

use std::ffi::OsString;
use std::time::Duration;

use turnlock::{AnyGuard, Guard, Locks, Release};

use crate::child::{Child, Plan, Signals, Watchdog};
use crate::cli::{Global, OnLost, Run};
use crate::commands::HoldKey;
use crate::commands::acquiring::{
    Acquisition, Request, acquire, display_name, parse_mode, wait_for_deadly_signal,
};
use crate::commands::last_will;
use crate::commands::names::parse_name;
use crate::commands::once::{Begun, Once};
use crate::commands::release::{REPLY_LIMIT, close_session, release};
use crate::commands::supervise::{default_grace, environment, kill_at, longest_grace, supervise};
use crate::exit::{Exit, Failure};
use crate::output::say;

pub async fn run(global: Global, args: Run) -> Result<Exit, Failure> {
    let name = parse_name(&args.name, args.acquire.raw)?;
    let mode = parse_mode(&args.flags)?;
    check_grace(&args)?;
    let command = parse_command(&args)?;
    let once = Once::parse(&args.once, &name, mode)?;
    // Installed before anything is queued or started, so that no signal is missed.
    let mut signals = Signals::install()?;
    let before = signals.initial_mask();
    let key = HoldKey::generate();
    let request = Request {
        global: &global,
        name: &name,
        mode,
        options: &args.acquire,
        command: display_name(&command[0]),
        key: key.as_ref(),
    };
    // The watchdog is started once the acquire has begun, and comes up during the wait.
    let (acquisition, watchdog) = tokio::join!(
        acquire(&request, wait_for_deadly_signal(&mut signals)),
        async move { Watchdog::start(before) }
    );
    let (locks, guard) = match acquisition? {
        Acquisition::Held(locks, guard) => (locks, guard),
        Acquisition::Abandoned(exit) => return Ok(exit),
    };
    let grace = match check_grace_fits(&args, &guard) {
        Ok(grace) => grace,
        Err(failure) => {
            let_go(guard, &locks).await;
            return Err(failure);
        }
    };
    let ttl = guard.ttl();
    let (guard, begun) = match &once {
        None => (guard, None),
        Some(once) => match begin_once(once, guard, &locks, &mut signals).await? {
            Begin::Run(guard, begun) => (guard, Some((once, begun))),
            Begin::Ended(exit) => return Ok(exit),
        },
    };

    let plan = Plan {
        command,
        env: environment(&guard, locks.session_id().zip(key.as_ref())),
        grace,
        whole: args.wait_all,
        deadline: (args.on_lost != OnLost::Ignore).then(|| kill_at(&guard)),
        last_will: last_will::to_bytes(&global, &guard),
    };
    let spawned = async { Child::spawn(watchdog?, plan, signals).await };
    let mut child = match spawned.await {
        Ok(child) => child,
        Err(error) => {
            let (guard, _) = end_once(begun, guard, false).await;
            let_go(guard, &locks).await;
            return Err(error.into());
        }
    };
    let (ended, lost) = supervise(&mut child, &guard, args.on_lost, grace).await?;
    let end = child.shared_end();
    // The record stays as it is if the end of the command is not known: after a loss, or if the
    // watchdog was killed, which alone knows how the command has ended.
    let begun = begun.filter(|_| !lost && !child.was_unwatched());
    let is_done = end.is_none() && ended.status() == 0;
    let (guard, recorded) = end_once(begun, guard, is_done).await;
    let released = release(guard).await;
    // Until now the watchdog would have released the lock in our place.
    child.leave(close_session(&locks)).await;
    let gone = matches!(&released, Ok(found) if *found != Release::Released);
    if gone && !lost {
        say(format!(
            "{name}: the lock had been lost before the command ended"
        ));
    }
    if let Err(why) = released
        && !lost
    {
        say(format!(
            "{name}: {why}; the lock is free within {} s",
            ttl.as_secs_f64()
        ));
    }
    if lost || gone {
        return Ok(Exit::Lost);
    }
    recorded?;
    Ok(end.map_or(Exit::Of(ended.status()), Exit::Signal))
}

/// What becomes of a command that is wanted once.
enum Begin {
    /// It is to be run.
    Run(AnyGuard, Begun),
    /// It is not. The lock is released.
    Ended(Exit),
}

/// Finds out whether a command that is wanted once is to be run.
async fn begin_once(
    once: &Once<'_>,
    guard: AnyGuard,
    locks: &Locks,
    signals: &mut Signals,
) -> Result<Begin, Failure> {
    let guard = to_exclusive(guard);
    let ended = tokio::select! {
        begun = once.begin(&guard) => match begun {
            Ok(Some(begun)) => return Ok(Begin::Run(guard.into(), begun)),
            Ok(None) => Ok(Begin::Ended(Exit::Success)),
            Err(failure) => Err(failure),
        },
        exit = wait_for_deadly_signal(signals) => {
            // The start may have been recorded. After an error the lock is lost, or nothing was.
            let _ = tokio::time::timeout(REPLY_LIMIT, once.withdraw(&guard)).await;
            Ok(Begin::Ended(exit))
        }
    };
    let_go(guard.into(), locks).await;
    ended
}

/// Records how a command that is wanted once has ended.
async fn end_once(
    begun: Option<(&Once<'_>, Begun)>,
    guard: AnyGuard,
    is_done: bool,
) -> (AnyGuard, Result<(), Failure>) {
    let Some((once, begun)) = begun else {
        return (guard, Ok(()));
    };
    let guard = to_exclusive(guard);
    let recorded = once.end(&guard, begun, is_done).await;
    (guard.into(), recorded)
}

/// Releases a lock under which nothing was run. If that fails, the lock is free once its session
/// ends.
async fn let_go(guard: AnyGuard, locks: &Locks) {
    let _ = release(guard).await;
    close_session(locks).await;
}

fn to_exclusive(guard: AnyGuard) -> Guard {
    Guard::try_from(guard)
        .unwrap_or_else(|_| unreachable!("a command that is wanted once is alone"))
}

/// Refuses a grace that does not fit into the requested time to live, before it connects to a
/// coordinator.
fn check_grace(args: &Run) -> Result<(), Failure> {
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
        _ => Ok(()),
    }
}

/// Returns the grace, if it fits into the time to live that the coordinator granted. With a longer
/// one the command would be stopped as soon as it runs, or at the first renewal that is a little
/// late.
fn check_grace_fits(args: &Run, guard: &AnyGuard) -> Result<Duration, Failure> {
    let most = longest_grace(guard);
    match args.grace {
        Some(grace) if grace > most && args.on_lost == OnLost::Term => Err(Failure::new(
            Exit::Usage,
            format!(
                "{}: a grace of {} s does not fit into the {} s that the coordinator grants: its \
                 renewals leave {:.1} s",
                guard.name(),
                grace.as_secs_f64(),
                guard.ttl().as_secs_f64(),
                most.as_secs_f64()
            ),
        )
        .hint("give a shorter --grace, or have the coordinator grant longer sessions")),
        Some(grace) => Ok(grace),
        None => Ok(default_grace(guard)),
    }
}

/// Returns the program to run and its arguments.
fn parse_command(args: &Run) -> Result<Vec<OsString>, Failure> {
    if let Some(text) = &args.shell {
        let shell = std::env::var_os("SHELL")
            .filter(|shell| !shell.is_empty())
            .unwrap_or_else(|| "/bin/sh".into());
        return Ok(vec![shell, "-c".into(), text.clone()]);
    }
    if !args.command.is_empty() {
        return Ok(args.command.clone());
    }
    let failure = Failure::new(Exit::Usage, "a command is required: COMMAND, or -c TEXT");
    let number = args
        .name
        .to_str()
        .is_some_and(|name| name.parse::<u32>().is_ok());
    Err(match number {
        true => failure.hint(
            "a descriptor cannot be locked: `turnlock hold --while-open NAME` holds a lock for a \
             script",
        ),
        false => failure.hint("`turnlock run --help` shows examples"),
    })
}
