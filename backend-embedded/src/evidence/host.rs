//! What this machine says of itself, of its clock and of its processes.

use std::fs;

use lock_core::process::ProcessName;

/// Where a coordinator runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Host {
    /// What tells the machine from others that may have the folder, too; 0 if nothing does.
    pub(super) machine: u128,
    /// The kernel's id of this boot.
    pub(super) boot: u128,
    /// The number of our namespace of process ids.
    pub(super) namespace: u64,
    /// By how much our clock is ahead of the machine's: it can be in a container.
    pub(super) clock_offset: i64,
}

impl Host {
    /// Returns what is known of this one; `None` where the system does not tell.
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

/// Zero on a kernel that has no namespaces of time.
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

/// A process of this machine, of this boot and of our namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Process {
    pub(super) pid: u32,
    /// When it was started, in the kernel's ticks since boot: ids are used again.
    pub(super) start: u64,
}

impl Process {
    /// Returns this very process.
    pub(crate) fn ours() -> Option<Process> {
        Process::from_pid(std::process::id())
    }

    /// Returns the process behind a connection, if it is the one that speaks on it: the kernel's
    /// word for the process that connected, and its own, are the same. They are not where something
    /// passes on what others say, on this machine or another one.
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

    /// Whether it is proven that the process has ended.
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
        // Looked up after the process was taken hold of: this is its own, or it has ended.
        if read_start_time(self.pid).is_some_and(|start| start != self.start) {
            return true;
        }
        // Readable once it has ended, also while nobody has asked for its status.
        let mut ended = [PollFd::new(&descriptor, PollFlags::IN)];
        let at_once = Timespec::default();
        poll(&mut ended, Some(&at_once)).is_ok() && ended[0].revents().contains(PollFlags::IN)
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn is_dead(self) -> bool {
        false
    }
}

/// When a process was started, by the 22nd field of its status line.
fn read_start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, the second field, may hold anything.
    let (_, after_the_name) = stat.rsplit_once(") ")?;
    after_the_name.split(' ').nth(19)?.parse().ok()
}
