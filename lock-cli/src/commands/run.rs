//! `turnlock run`: run a command under a lock, and stop it before the lock can be somebody else's.

use std::ffi::OsString;
use std::time::Duration;

use turnlock::Release;

use crate::child::{Child, Plan, Signals, Watchdog};
use crate::cli::{Global, Run};
use crate::commands::supervise::{environment, supervise};
use crate::commands::{Turn, last_will, mode, name, part, release, turn};
use crate::exit::{Exit, Failure};
use crate::output::say;

pub async fn run(global: Global, args: Run) -> Result<Exit, Failure> {
    let name = name(&args.name, args.acquire.raw)?;
    let grace = grace(&args)?;
    let command = command(&args);
    // Before anything is queued or started, so that no signal finds us unprepared.
    let mut signals = Signals::install()?;
    // It comes up while we queue.
    let watchdog = Watchdog::start(&signals)?;
    let mode = mode(args.shared);
    let (locks, guard) = match turn(&global, &name, mode, &args.acquire, &mut signals).await? {
        Turn::Ours(locks, guard) => (locks, guard),
        Turn::Interrupted(exit) => return Ok(exit),
    };

    let plan = Plan {
        command,
        env: environment(&guard),
        grace,
        whole: args.wait_all,
        last_will: last_will::text(&global, &guard),
    };
    let mut child = match Child::spawn(watchdog, plan, signals).await {
        Ok(child) => child,
        Err(error) => {
            release(guard).await;
            part(&locks).await;
            return Err(error.into());
        }
    };
    let (ended, lost) = supervise(&mut child, &guard, args.on_lost, grace).await?;
    let end = child.shared_end();
    let released = release(guard).await;
    // Until now, it would have released the lock in our place.
    child.leave();
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
    Ok(end.map_or(Exit::Of(ended.status()), Exit::Signal))
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
