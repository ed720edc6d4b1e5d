//! `turnlock stop`: stop the user's own coordinator.

use std::fs;
use std::path::PathBuf;

use rustix::process::Pid;

use crate::cli::Global;
use crate::coordinator::ending;
use crate::coordinator::local::{Home, ServerState};
use crate::coordinator::users::has_lock;
use crate::exit::{Exit, Failure};
use crate::output::say;

pub async fn stop(global: Global) -> Result<Exit, Failure> {
    if global.backend.is_some() {
        return Err(Failure::new(
            Exit::Usage,
            "`stop` stops your own coordinator on this machine, but a backend is named",
        )
        .hint("leave out --backend, and unset TURNLOCK_BACKEND"));
    }
    let home = Home::of_user()?;
    let first = home.find().await?;
    // A coordinator that lost its socket ends by itself. One that starts will have a socket soon.
    let found = match first {
        ServerState::Unresponsive(_) => home.find_settled().await?,
        ref found => found.clone(),
    };
    match found {
        ServerState::Serving(Some(pid)) if !is_coordinator(pid) => Err(Failure::new(
            Exit::Refused,
            format!(
                "process {}, which listens for the coordinator in {}, is a service manager",
                pid.as_raw_nonzero(),
                home.dir().display()
            ),
        )
        .hint("stop its units: systemctl stop NAME.socket NAME.service")),
        ServerState::Serving(Some(pid)) => {
            ending::stop(pid)?;
            Ok(Exit::Success)
        }
        ServerState::Serving(None) => Err(Failure::new(
            Exit::Unavailable,
            format!(
                "a coordinator runs in {}, in another process namespace, where signals from here \
                 do not reach it",
                home.dir().display()
            ),
        )
        .hint("run `turnlock stop` there: in the container, or on the host")),
        ServerState::Unresponsive(pid) => Err(home.to_unresponsive_failure(pid)),
        ServerState::Absent => {
            say(match first {
                ServerState::Unresponsive(pid) => {
                    let pid = pid.and_then(|pid| Pid::from_raw(pid.try_into().ok()?));
                    if let Some(pid) = pid {
                        ending::wait_until_gone(pid);
                    }
                    format!(
                        "the coordinator in {}, which had lost its socket, has ended",
                        home.dir().display()
                    )
                }
                _ => format!("no coordinator runs in {}", home.dir().display()),
            });
            Ok(Exit::Success)
        }
    }
}

/// Returns whether the process is a coordinator, as far as this user may see it.
fn is_coordinator(pid: Pid) -> bool {
    let process = PathBuf::from(format!("/proc/{}", pid.as_raw_nonzero()));
    fs::read_dir(process.join("fd")).is_err() || has_lock(&process)
}
