//! The end of a coordinator that is told to stop.

use std::io;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal, test_kill_process};

use crate::exit::{Exit, Failure};

/// It answers what is under way first; then it has to be gone.
const LIMIT: Timespec = Timespec {
    tv_sec: 15,
    tv_nsec: 0,
};

/// How long the parent of a coordinator is given to fetch its status: whatever first process a container
/// has.
const REAPED: Duration = Duration::from_secs(3);
/// How often it is looked for meanwhile.
const LOOK: Duration = Duration::from_millis(2);

/// Waits until a process that has ended is gone for those, too, who look with `kill -0`.
fn wait_until_reaped(pid: Pid) {
    let started = Instant::now();
    while test_kill_process(pid).is_ok() && started.elapsed() < REAPED {
        std::thread::sleep(LOOK);
    }
}

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
        Ok(_) => {
            wait_until_reaped(pid);
            Ok(())
        }
        Err(error) => Err(refused(error.into())),
    }
}
