//! `turnlock system`: one coordinator for all users of the machine, or each his own.

use std::io;
use std::time::{Duration, Instant};

use rustix::process::geteuid;
use turnlock::Options;

use crate::cli::{Enable, System};
use crate::coordinator::others::{self, Own, Use};
use crate::coordinator::{ending, machine};
use crate::exit::{Exit, Failure};
use crate::output::{print, say};

/// A command that had chosen its coordinator before a change is at work there by then, and is seen.
const SETTLE: Duration = Duration::from_secs(1);
/// A coordinator that is about to serve does so by then, or has failed.
const START: Duration = Duration::from_secs(10);
/// How often it is looked for.
const POLL: Duration = Duration::from_millis(20);

pub async fn system(command: System) -> Result<Exit, Failure> {
    match command {
        System::Enable(args) => enable(args).await,
        System::Disable => disable().await,
        System::Show => show(),
    }
}

fn show() -> Result<Exit, Failure> {
    match machine::line()? {
        Some(url) => print(url).ok(),
        None => {
            say("every user of this machine has a coordinator of his own");
            None
        }
    };
    Ok(Exit::Success)
}

async fn enable(args: Enable) -> Result<Exit, Failure> {
    require_root()?;
    let url = machine::parse(&args.url)
        .map_err(|why| Failure::new(Exit::Usage, format!("{:?} is not taken: {why}", args.url)))?;
    // Under a file that is wrong nobody uses the machine's coordinator.
    if let Ok(Some(present)) = machine::line() {
        if present == url {
            return Ok(Exit::Success);
        }
        let message = format!("{} names {present} already", machine::FILE);
        return Err(
            Failure::new(Exit::Configuration, message).hint("first `turnlock system disable`")
        );
    }
    // One that is wrong, or does not answer, would stop all commands of the machine.
    let locks = turnlock::connect(&machine::with_server(url))?;
    locks.list("", None, 1).await.map_err(|error| {
        let failure = Failure::from(error);
        match machine::socket(url) {
            Some(_) => failure.hint("start it first: systemctl enable --now turnlock"),
            None => failure,
        }
    })?;
    refuse_if_in_use().await?;
    machine::write(url).map_err(of_file)?;
    // From here on nobody comes to a coordinator of his own, but those who were on their way.
    tokio::time::sleep(SETTLE).await;
    let idle = match refuse_if_in_use().await {
        Ok(idle) => idle,
        Err(failure) => {
            machine::remove().map_err(of_file)?;
            return Err(failure);
        }
    };
    for own in idle {
        if let Some(pid) = own.pid()
            && let Err(failure) = ending::stop(pid)
        {
            say(format!("{}: {}", own.describe(), failure.message));
        }
    }
    say(format!("all users of this machine now use {url}"));
    Ok(Exit::Success)
}

/// The coordinators of users' own, none of which is in use.
async fn refuse_if_in_use() -> Result<Vec<Own>, Failure> {
    let started = Instant::now();
    let all = loop {
        let all = others::all().map_err(|error| {
            let message = format!("cannot look for coordinators in /proc: {error}");
            Failure::new(Exit::Configuration, message)
        })?;
        if all.iter().all(Own::listens) || started.elapsed() > START {
            break all;
        }
        tokio::time::sleep(POLL).await;
    };
    let mut in_use = Vec::new();
    for own in &all {
        match own.usage().await {
            Use::Idle => {}
            Use::Sessions(count) => {
                in_use.push(format!("{}: {count} sessions", own.describe()));
            }
            Use::Unknown(why) => {
                in_use.push(format!("{}: cannot be asked: {why}", own.describe()));
            }
        }
    }
    if in_use.is_empty() {
        return Ok(all);
    }
    let message = format!(
        "nothing was changed, since coordinators of users' own are in use: {}",
        in_use.join("; ")
    );
    Err(Failure::new(Exit::NotAcquired, message).hint(
        "locks held there would be granted a second time: let their users end, and try again",
    ))
}

async fn disable() -> Result<Exit, Failure> {
    require_root()?;
    let Some(line) = machine::line()? else {
        say("every user of this machine has a coordinator of his own");
        return Ok(Exit::Success);
    };
    let url = machine::with_server(&line);
    refuse_if_locks_are_held(&url).await?;
    machine::remove().map_err(of_file)?;
    tokio::time::sleep(SETTLE).await;
    if let Err(failure) = refuse_if_locks_are_held(&url).await {
        machine::write(&line).map_err(of_file)?;
        return Err(failure);
    }
    say("every user of this machine now has a coordinator of his own");
    Ok(Exit::Success)
}

async fn refuse_if_locks_are_held(url: &str) -> Result<(), Failure> {
    let locks = turnlock::connect_with(url, Options::default())?;
    let held = locks.list("", None, 1).await.map_err(|error| {
        Failure::from(error).hint(format!(
            "to remove {} by hand is safe when nobody on this machine holds a lock",
            machine::FILE
        ))
    })?;
    if held.is_empty() {
        return Ok(());
    }
    let message =
        "nothing was changed, since locks are held or waited for at the machine's coordinator";
    Err(Failure::new(Exit::NotAcquired, message).hint("`turnlock ls` shows them"))
}

fn require_root() -> Result<(), Failure> {
    if geteuid().is_root() {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Refused,
        "only root says which coordinator the users of a machine use",
    ))
}

fn of_file(error: io::Error) -> Failure {
    Failure::new(Exit::File, format!("{}: {error}", machine::FILE))
}
