//! What identifies this machine, its clock and its processes.

use std::fs;

use lock_core::process::ProcessName;

/// Where a coordinator runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Host {
    /// What distinguishes the machine from others that may have the folder too; 0 if unknown.
    pub(super) machine: u128,
    /// The kernel's id of this boot.
    pub(super) boot: u128,
    /// The number of our process namespace.
    pub(super) namespace: u64,
    /// By how many nanoseconds our clock is ahead of the machine's, which is possible in a
    /// container.
    pub(super) clock_offset: i64,
}

impl Host {
    /// Returns the present host; `None` where the system does not identify it.
    pub(crate) fn current() -> Option<Host> {
        let name = ProcessName::ours()?;
        Some(Host {
            machine: read_machine_id().unwrap_or(0),
            boot: name.boot,
            namespace: name.namespace,
            clock_offset: read_clock_offset()?,
        })
    }
}

fn read_machine_id() -> Option<u128> {
    let text = fs::read_to_string("/etc/machine-id").ok()?;
    u128::from_str_radix(text.trim(), 16).ok()
}

/// Reads the offset of the clock. It is zero on a kernel without time namespaces.
fn read_clock_offset() -> Option<i64> {
    let Ok(text) = fs::read_to_string("/proc/self/timens_offsets") else {
        return Some(0);
    };
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("boottime"))?;
    let mut numbers = line.split_whitespace().map(str::parse);
    let (seconds, nanos): (i64, i64) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    seconds.checked_mul(1_000_000_000)?.checked_add(nanos)
}

/// A process of this machine, of this boot and of our process namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Process {
    pub(super) pid: u32,
    /// When the process was started, in the kernel's ticks since boot, because process ids are used
    /// again.
    pub(super) start: u64,
}

impl Process {
    /// Returns this process.
    #[expect(
        clippy::disallowed_methods,
        reason = "the kernel is asked about the real process"
    )]
    pub(crate) fn current() -> Option<Process> {
        Process::from_pid(std::process::id())
    }

    /// Returns the process behind a connection, if it names itself in `user_agent` as the kernel
    /// names the process that connected. The two names differ if something forwards the messages of
    /// another process, on this machine or another one.
    #[cfg(any(feature = "server", test))]
    pub(crate) fn from_peer(pid: u32, user_agent: &str) -> Option<Process> {
        let (name, own) = (ProcessName::find_in(user_agent)?, ProcessName::ours()?);
        let same = name.pid == pid && name.namespace == own.namespace && name.boot == own.boot;
        same.then(|| Process::from_pid(pid)).flatten()
    }

    fn from_pid(pid: u32) -> Option<Process> {
        let start = read_start_time(pid)?;
        Some(Process { pid, start })
    }

    /// Returns whether the process has certainly ended.
    #[cfg(target_os = "linux")]
    pub(super) fn is_dead(self) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        use rustix::io::Errno;
        use rustix::process::{Pid, PidfdFlags, pidfd_open};

        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else {
            return false;
        };
        let descriptor = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(descriptor) => descriptor,
            Err(error) => return error == Errno::SRCH,
        };
        // Read after the process was opened: this is its own start time, unless it has ended.
        if read_start_time(self.pid).is_some_and(|start| start != self.start) {
            return true;
        }
        // Readable once the process has ended, also while its parent has not collected its status.
        let mut ended = [PollFd::new(&descriptor, PollFlags::IN)];
        let at_once = Timespec::default();
        poll(&mut ended, Some(&at_once)).is_ok() && ended[0].revents().contains(PollFlags::IN)
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn is_dead(self) -> bool {
        false
    }
}

/// Reads when a process was started: the 22nd field of its status line.
fn read_start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name is the second field, and may contain anything.
    let (_, after_the_name) = stat.rsplit_once(") ")?;
    after_the_name.split(' ').nth(19)?.parse().ok()
}
