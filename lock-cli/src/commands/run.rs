//! `turnlock run`: run a command under a lock, and stop it before the lock can be somebody else's.

use std::ffi::OsString;
use std::time::Duration;

use turnlock::Release;

use crate::child::{Child, Signals};
use crate::cli::{Global, Run};
use crate::commands::supervise::{environment, supervise};
use crate::commands::{Turn, Wish, deadly, mode, name, part, release, shown, turn};
use crate::exit::{Exit, Failure};
use crate::output::say;
use crate::surroundings::require_proc;

pub async fn run(global: Global, args: Run) -> Result<Exit, Failure> {
    let name = name(&args.name, args.acquire.raw)?;
    let mode = mode(&args.flags)?;
    let grace = grace(&args)?;
    let command = command(&args)?;
    require_proc()?;
    // Before anything is queued or started, so that no signal finds us unprepared.
    let mut signals = Signals::install()?;
    let wish = Wish {
        global: &global,
        name: &name,
        mode,
        options: &args.acquire,
        command: shown(&command[0]),
    };
    let (locks, guard) = match turn(&wish, deadly(&mut signals)).await? {
        Turn::Ours(locks, guard) => (locks, guard),
        Turn::Interrupted(exit) => return Ok(exit),
    };

    let child = match Child::spawn(&command, &environment(&guard), signals).await {
        Ok(child) => child,
        Err(error) => {
            release(guard).await;
            part(&locks).await;
            return Err(error.into());
        }
    };
    let (ended, lost) = supervise(child, &guard, args.on_lost, grace).await?;
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

/// The program and its arguments.
fn command(args: &Run) -> Result<Vec<OsString>, Failure> {
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
        true => failure.hint("a descriptor cannot be locked: `turnlock hold --while-open NAME` holds a lock for a script"),
        false => failure.hint("`turnlock run --help` shows examples"),
    })
}
