//! The command's process group, and the watchdog over it.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use super::watchdog::{Deadline, Watchdog};

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// By itself, with this exit status (0 to 255).
    Exited(u8),
    /// By the signal of this number.
    Killed(u8),
}

impl Ended {
    /// The status that a shell shows for it: the command's own, or 128 + the signal's number.
    pub fn status(self) -> u8 {
        match self {
            Ended::Exited(code) => code,
            Ended::Killed(signal) => 128 + signal,
        }
    }
}

impl From<process::ExitStatus> for Ended {
    fn from(status: process::ExitStatus) -> Self {
        // Both are 7 or 8 bits of the raw status.
        match (status.code(), status.signal()) {
            (_, Some(signal)) => Ended::Killed(signal as u8 & 0x7f),
            (code, None) => Ended::Exited(code.unwrap_or_default() as u8),
        }
    }
}

/// A process group whose leader is our child. Its id cannot be given to another group before the
/// leader is reaped, and until then the watchdog is armed. Dropped before that, all its processes
/// are killed.
#[derive(Debug)]
pub(super) struct Group {
    leader: process::Child,
    id: Pid,
    watchdog: Option<Watchdog>,
}

impl Group {
    /// Puts the group of this child, of which it is the leader, under guard.
    pub fn guard(leader: process::Child, watchdog: Watchdog) -> io::Result<Self> {
        let id = Pid::from_child(&leader);
        let mut group = Group {
            leader,
            id,
            watchdog: None,
        };
        group.watchdog.insert(watchdog).arm(id)?;
        Ok(group)
    }

    /// The group's id, which is also its leader's process id.
    pub fn id(&self) -> Pid {
        self.id
    }

    /// To tell the watchdog until when the group may live. `None` once it is reaped.
    pub fn deadline(&self) -> io::Result<Option<Deadline>> {
        self.watchdog.as_ref().map(Watchdog::deadline).transpose()
    }

    /// Sends a signal to every process of the group.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(kill_process_group(self.id, signal)?)
    }

    /// Kills every process of the group. The error is the leader's: a group of which only some can
    /// be killed is no error to the kernel.
    pub fn kill(&self) -> io::Result<()> {
        // Whatever it says of the group, the leader tells.
        let _ = kill_process_group(self.id, Signal::KILL);
        Ok(kill_process(self.id, Signal::KILL)?)
    }

    /// Disarms the watchdog, then waits for the leader and reaps it. The group is not to be
    /// signalled afterwards.
    pub fn reap(&mut self) -> io::Result<Ended> {
        self.watchdog = None;
        Ok(self.leader.wait()?.into())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if self.watchdog.is_some() {
            // The watchdog is disarmed after it. The leader stays a zombie, so nobody gets the
            // group's id.
            let _ = self.kill();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_what_a_shell_shows() {
        let exited = |code: i32| Ended::from(process::ExitStatus::from_raw(code << 8));
        let killed = |raw: i32| Ended::from(process::ExitStatus::from_raw(raw));
        assert_eq!(exited(0).status(), 0);
        assert_eq!(exited(255).status(), 255);
        assert_eq!(killed(9), Ended::Killed(9));
        assert_eq!(killed(9).status(), 137);
        // With a core dump.
        assert_eq!(killed(0x80 | 11).status(), 139);
    }
}
