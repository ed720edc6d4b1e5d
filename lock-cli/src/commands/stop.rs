//! `turnlock stop`: end the user's own coordinator.

use std::io;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{PidfdFlags, Signal, kill_process, pidfd_open};

use crate::cli::Global;
use crate::coordinator::local::Home;
use crate::exit::{Exit, Failure};
use crate::output::say;

/// It answers what is under way first; then it has to be gone.
const LIMIT: Timespec = Timespec {
    tv_sec: 15,
    tv_nsec: 0,
};

pub async fn stop(global: Global) -> Result<Exit, Failure> {
    if global.backend.is_some() {
        return Err(Failure::new(
            Exit::Usage,
            "`stop` ends your own coordinator on this machine, and a backend is named",
        )
        .hint("leave --backend out and unset TURNLOCK_BACKEND"));
    }
    let home = Home::of_user()?;
    let found = home
        .find()
        .await
        .map_err(|error| Failure::new(Exit::Unavailable, error.to_string()))?;
    let Some(pid) = found else {
        say(format!("no coordinator runs in {}", home.dir().display()));
        return Ok(Exit::Success);
    };
    let number = pid.as_raw_nonzero();
    let refused = |error: io::Error| {
        Failure::new(
            Exit::Refused,
            format!("cannot stop process {number}: {error}"),
        )
    };
    let process = pidfd_open(pid, PidfdFlags::empty()).map_err(|error| refused(error.into()))?;
    kill_process(pid, Signal::TERM).map_err(|error| refused(error.into()))?;
    // Readable once the process has ended, reaped or not.
    let mut ended = [PollFd::new(&process, PollFlags::IN)];
    match poll(&mut ended, Some(&LIMIT)) {
        Ok(0) => Err(Failure::new(
            Exit::Unavailable,
            format!("process {number} was told to stop and still runs"),
        )
        .hint(format!(
            "kill -9 {number} loses nothing that was acknowledged"
        ))),
        Ok(_) => Ok(Exit::Success),
        Err(error) => Err(refused(error.into())),
    }
}
