//! The end of a coordinator that is told to stop.

use std::io;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::exit::{Exit, Failure};

/// It answers what is under way first; then it has to be gone.
const LIMIT: Timespec = Timespec {
    tv_sec: 15,
    tv_nsec: 0,
};

/// Tells the process to stop, and waits until it has ended.
///
/// # Errors
/// It may not be told, or it does not end.
pub fn stop(pid: Pid) -> Result<(), Failure> {
    let number = pid.as_raw_nonzero();
    let refused = |error: io::Error| {
        Failure::new(
            Exit::Refused,
            format!("cannot stop process {number}: {error}"),
        )
    };
    let process = pidfd_open(pid, PidfdFlags::empty()).map_err(|error| refused(error.into()))?;
    pidfd_send_signal(&process, Signal::TERM).map_err(|error| refused(error.into()))?;
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
        Ok(_) => Ok(()),
        Err(error) => Err(refused(error.into())),
    }
}
