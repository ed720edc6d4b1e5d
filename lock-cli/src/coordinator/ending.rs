//! Stops a coordinator, and waits for its end.

use std::io;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal, test_kill_process};

use crate::exit::{Exit, Failure};

/// The time limit for a coordinator to finish the requests under way and to end.
const LIMIT: Timespec = Timespec {
    tv_sec: 15,
    tv_nsec: 0,
};

/// The time limit for the rest of a process that has nothing left to do, and for its parent to reap
/// it. In a container the parent is whichever program runs as the first process.
const GONE_LIMIT: Duration = Duration::from_secs(3);
/// The pause between two checks meanwhile.
const POLL: Duration = Duration::from_millis(2);

/// Waits until a process that has given its folder back, or has ended, is gone, so that `kill -0`
/// does not find it any more.
pub fn wait_until_gone(pid: Pid) {
    let started = Instant::now();
    while test_kill_process(pid).is_ok() && started.elapsed() < GONE_LIMIT {
        std::thread::sleep(POLL);
    }
}

/// Sends the process TERM, and waits until it has ended.
///
/// # Errors
/// The signal is not permitted, or the process does not end in time.
pub fn stop(pid: Pid) -> Result<(), Failure> {
    let number = pid.as_raw_nonzero();
    let to_failure = |error: io::Error| {
        Failure::new(
            Exit::Refused,
            format!("cannot stop process {number}: {error}"),
        )
    };
    let process = pidfd_open(pid, PidfdFlags::empty()).map_err(|error| to_failure(error.into()))?;
    pidfd_send_signal(&process, Signal::TERM).map_err(|error| to_failure(error.into()))?;
    // The descriptor is readable once the process has ended, reaped or not.
    let mut ended = [PollFd::new(&process, PollFlags::IN)];
    match poll(&mut ended, Some(&LIMIT)) {
        Ok(0) => Err(Failure::new(
            Exit::Unavailable,
            format!("process {number} was sent TERM and still runs"),
        )
        .hint(format!(
            "kill -9 {number} loses nothing that was acknowledged"
        ))),
        Ok(_) => {
            wait_until_gone(pid);
            Ok(())
        }
        Err(error) => Err(to_failure(error.into())),
    }
}
