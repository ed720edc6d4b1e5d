//! `turnlock system`: switch between one coordinator for all users and one for each user.

use std::io;
use std::time::{Duration, Instant};

use rustix::process::geteuid;
use turnlock::Options;

use crate::cli::{Enable, System};
use crate::coordinator::users::{self, Usage, UserCoordinator};
use crate::coordinator::{ending, machine};
use crate::exit::{Exit, Failure};
use crate::output::{announce, print, say};

/// The longest time of a command from choosing its coordinator to opening a session there.
const SETTLE: Duration = Duration::from_secs(1);
/// The time limit for a coordinator to serve after its start.
const START: Duration = Duration::from_secs(10);
/// The pause between two checks whether it serves.
const POLL: Duration = Duration::from_millis(20);

pub async fn system(command: System) -> Result<Exit, Failure> {
    match command {
        System::Enable(args) => enable(args).await,
        System::Disable => disable().await,
        System::Show => show(),
    }
}

fn show() -> Result<Exit, Failure> {
    match machine::read_url()? {
        Some(url) => print(url).ok(),
        None => {
            announce("every user of this machine has a coordinator of their own");
            None
        }
    };
    Ok(Exit::Success)
}

async fn enable(args: Enable) -> Result<Exit, Failure> {
    require_root()?;
    let url = machine::parse_url(&args.url).map_err(|why| {
        Failure::new(
            Exit::Usage,
            format!("{:?} is not accepted: {why}", args.url),
        )
    })?;
    // A file with a mistake is replaced: no command uses the machine's coordinator under it.
    if let Ok(Some(present)) = machine::read_url() {
        if present == url {
            return Ok(Exit::Success);
        }
        let message = format!("{} names {present} already", machine::FILE);
        return Err(
            Failure::new(Exit::Configuration, message).hint("first `turnlock system disable`")
        );
    }
    // A coordinator that does not reply would stop all commands of the machine.
    let locks = turnlock::connect(&machine::with_server(url))?;
    locks.list("", None, 1).await.map_err(|error| {
        let failure = Failure::from(error);
        match machine::socket_path(url) {
            Some(_) => failure.hint("start it first: systemctl enable --now turnlock"),
            None => failure,
        }
    })?;
    refuse_if_in_use().await?;
    machine::write(url).map_err(to_failure)?;
    // From here on, only commands that had begun before still use a user's own coordinator.
    tokio::time::sleep(SETTLE).await;
    let idle = match refuse_if_in_use().await {
        Ok(idle) => idle,
        Err(failure) => {
            machine::remove().map_err(to_failure)?;
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
    announce(format!("all users of this machine now use {url}"));
    Ok(Exit::Success)
}

/// Returns the users' own coordinators if none of them is in use.
///
/// # Errors
/// One is in use, or cannot be asked.
async fn refuse_if_in_use() -> Result<Vec<UserCoordinator>, Failure> {
    let started = Instant::now();
    let all = loop {
        let all = users::list().map_err(|error| {
            let message = format!("cannot look for coordinators in /proc: {error}");
            Failure::new(Exit::Configuration, message)
        })?;
        if all.iter().all(UserCoordinator::listens) || started.elapsed() > START {
            break all;
        }
        tokio::time::sleep(POLL).await;
    };
    let mut in_use = Vec::new();
    for own in &all {
        match own.fetch_usage().await {
            Usage::Idle => {}
            Usage::Sessions(count) => {
                in_use.push(format!("{}: {count} sessions", own.describe()));
            }
            Usage::Unknown(why) => {
                in_use.push(format!("{}: cannot be asked: {why}", own.describe()));
            }
        }
    }
    if in_use.is_empty() {
        return Ok(all);
    }
    let message = format!(
        "nothing was changed, because users' own coordinators are in use: {}",
        in_use.join("; ")
    );
    Err(Failure::new(Exit::NotAcquired, message).hint(
        "locks that are held there would be granted a second time: let their users end, then try \
         again",
    ))
}

async fn disable() -> Result<Exit, Failure> {
    require_root()?;
    let Some(line) = machine::read_url()? else {
        announce("every user of this machine has a coordinator of their own");
        return Ok(Exit::Success);
    };
    let url = machine::with_server(&line);
    refuse_if_locks_are_held(&url).await?;
    machine::remove().map_err(to_failure)?;
    tokio::time::sleep(SETTLE).await;
    if let Err(failure) = refuse_if_locks_are_held(&url).await {
        machine::write(&line).map_err(to_failure)?;
        return Err(failure);
    }
    announce("every user of this machine now has a coordinator of their own");
    Ok(Exit::Success)
}

async fn refuse_if_locks_are_held(url: &str) -> Result<(), Failure> {
    let locks = turnlock::connect_with(url, Options::default())?;
    let held = locks.list("", None, 1).await.map_err(|error| {
        Failure::from(error).hint(format!(
            "it is safe to remove {} by hand when nobody on this machine holds a lock",
            machine::FILE
        ))
    })?;
    if held.is_empty() {
        return Ok(());
    }
    let message =
        "nothing was changed, because locks are held or waited for on the machine's coordinator";
    Err(Failure::new(Exit::NotAcquired, message).hint("`turnlock ls` shows them"))
}

fn require_root() -> Result<(), Failure> {
    if geteuid().is_root() {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Refused,
        "only root may choose the coordinator of the users of a machine",
    ))
}

fn to_failure(error: io::Error) -> Failure {
    Failure::new(Exit::File, format!("{}: {error}", machine::FILE))
}
