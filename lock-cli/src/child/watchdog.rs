//! The watchdog: a process that kills the command's group when we are gone without having ended it,
//! and when a deadline passes that we have not moved on: we may be stopped, and the command not.
//!
//! It learns of our end from a socket whose other end only we hold: the kernel closes it, whatever
//! ended us. To disarm it, we kill it. That needs no answer from it, works if it was stopped, and
//! once it is reaped it surely signals nobody.

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{self, Command, ExitCode, Stdio};
use std::time::Duration;

use nix::sys::signal::SigSet;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;
use rustix::net::{SendFlags, send};
use rustix::process::{Pid, Signal, kill_process_group};
use turnlock::clock::{BootInstant, Clock};

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

/// Tells the watchdog until when the command may run.
#[derive(Debug)]
pub struct Deadline(UnixStream);

impl Watchdog {
    pub fn deadline(&self) -> io::Result<Deadline> {
        self.line.try_clone().map(Deadline)
    }
}

impl Deadline {
    /// The group is killed at this instant, unless it is moved on before. Does not block: a
    /// watchdog that does not listen is stopped, or gone, and will not kill anybody either.
    pub fn set(&self, at: BootInstant) {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let _ = send(&self.0, &at.as_nanos().to_ne_bytes(), flags);
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
    // A TERM for all processes of a service, say, must not take the watchdog away while the command
    // lives.
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
    // The line ends here if the supervisor dies before there is a group. The launcher has not
    // executed anything then.
    line.read_exact(&mut group)?;
    let Some(group) =
        Pid::from_raw(i32::from_ne_bytes(group).max(0)).filter(|group| !group.is_init())
    else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    // If the supervisor is gone already, the next step finds out.
    let _ = line.write_all(&[1]);
    until_deadline_or_end(&mut line);
    // No other process can have got the group's id: its leader is reaped by the supervisor, after
    // the watchdog, or has been orphaned this very moment.
    Ok(kill_process_group(group, Signal::KILL)?)
}

/// Follows the deadline that the supervisor moves on. Returns when it has passed, or the supervisor
/// is gone.
fn until_deadline_or_end(line: &mut UnixStream) {
    // The timer stands still while the machine sleeps, the deadline does not.
    const LONGEST_SLEEP: Duration = Duration::from_millis(250);
    let clock = Clock::system();
    let mut deadline: Option<BootInstant> = None;
    loop {
        let left = deadline.map(|at| at.saturating_since(clock.now()));
        // Both fit: at most a quarter of a second.
        let timeout = left
            .map(|left| left.min(LONGEST_SLEEP))
            .map(|nap| Timespec {
                tv_sec: 0,
                tv_nsec: nap.subsec_nanos().into(),
            });
        let mut ready = [PollFd::new(&*line, PollFlags::IN)];
        match retry_on_intr(|| poll(&mut ready, timeout.as_ref())) {
            // Nothing newer is waiting to be read: it was not moved on.
            Ok(0) if left == Some(Duration::ZERO) => return,
            Ok(0) => continue,
            Ok(_) => {}
            Err(_) => return,
        }
        let mut nanos = [0; 8];
        match line.read_exact(&mut nanos) {
            Ok(()) => deadline = Some(BootInstant::from_nanos(u64::from_ne_bytes(nanos))),
            Err(_) => return,
        }
    }
}
