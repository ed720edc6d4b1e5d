//! The watchdog: a process that kills the command's group when we are gone without having ended it.
//!
//! It learns of our end from a socket whose other end only we hold: the kernel closes it, whatever ended us. To disarm
//! it, we kill it. That needs no answer from it, works if it was stopped, and once it is reaped it surely signals nobody.

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{self, Command, ExitCode, Stdio};

use nix::sys::signal::SigSet;
use rustix::process::{Pid, Signal, kill_process_group};

use super::helper::{WATCHDOG, this_program};

/// The handle on the watchdog process. Dropped, it disarms the watchdog and ends it.
#[derive(Debug)]
pub(super) struct Watchdog {
    process: process::Child,
    line: UnixStream,
}

impl Watchdog {
    /// Starts the process. It guards nothing yet.
    pub fn start() -> io::Result<Self> {
        let (line, theirs) = UnixStream::pair()?;
        let process = Command::new(this_program()?)
            .arg(WATCHDOG)
            .stdin(OwnedFd::from(theirs))
            // Whoever reads our output must not have to wait for the watchdog.
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // What is sent to our group is not meant for it.
            .process_group(0)
            .spawn()?;
        Ok(Watchdog { process, line })
    }

    /// Has it guard this group. Answers when it does.
    pub fn arm(&mut self, group: Pid) -> io::Result<()> {
        self.line
            .write_all(&group.as_raw_nonzero().get().to_ne_bytes())?;
        self.line.read_exact(&mut [0])
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        // Our own child, not reaped yet: neither can fail.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The watchdog process.
pub(super) fn main() -> ExitCode {
    // A TERM for all processes of a service, say, must not take the watchdog away while the command lives.
    let _ = SigSet::all().thread_block();
    // Not to be taken for what it guards, by `killall` for one.
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::set_name(c"lock-watchdog");
    match watch() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn watch() -> io::Result<()> {
    let mut line = UnixStream::from(rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?);
    let mut group = [0; 4];
    // The line ends here if the supervisor dies before there is a group. The launcher has not executed anything then.
    line.read_exact(&mut group)?;
    let Some(group) =
        Pid::from_raw(i32::from_ne_bytes(group).max(0)).filter(|group| !group.is_init())
    else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    // If the supervisor is gone already, the next step finds out.
    let _ = line.write_all(&[1]);
    // Nothing more is ever sent: this is the end of the line.
    let _ = line.read_to_end(&mut Vec::new());
    // No other process can have got the group's id: its leader is reaped by the supervisor, after the watchdog, or has
    // been orphaned this very moment.
    Ok(kill_process_group(group, Signal::KILL)?)
}
