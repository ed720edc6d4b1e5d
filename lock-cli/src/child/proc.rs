//! Reads about processes in /proc.

use std::fs;
use std::path::Path;

use rustix::process::{Pid, Signal, getpid};

use super::ended::Ended;

/// The signals that ask a command to end. Sent to this process, they are meant for everything that
/// runs under the lock.
pub(super) const DEADLY: [Signal; 4] = [Signal::TERM, Signal::INT, Signal::QUIT, Signal::HUP];

/// A set of signals, as a bit mask.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct SignalMask(u64);

impl SignalMask {
    pub fn contains(self, signal: i32) -> bool {
        self.0 >> (signal - 1) & 1 == 1
    }

    pub fn insert(&mut self, signal: i32) {
        self.0 |= 1 << (signal - 1);
    }

    /// Returns whether it contains the signal that asked for this end.
    pub fn contains_end(self, ended: Ended) -> bool {
        let mut deadly = DEADLY.iter().map(|signal| signal.as_raw());
        deadly.any(|signal| self.contains(signal) && ended.is_by(signal))
    }

    pub fn contains_any(self, signals: &[Signal]) -> bool {
        signals.iter().any(|signal| self.contains(signal.as_raw()))
    }
}

/// The number of a process group outside of our process namespace, as seen from inside.
pub(super) const UNSEEN: i32 = 0;

/// Returns the process group of this process, or of another one; [`UNSEEN`] if it has no number
/// here.
pub(super) fn group_of(process: Option<Pid>) -> i32 {
    let process = process.unwrap_or_else(getpid).as_raw_nonzero().get();
    Stat::of(process).map_or(UNSEEN, |stat| stat.group)
}

/// The fields of /proc/PID/stat that are used here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stat {
    pub state: char,
    pub parent: i32,
    pub group: i32,
    pub session: i32,
    threads: u32,
    /// The start time in ticks since the boot. Together with the process id it identifies the
    /// process.
    pub started: u64,
}

impl Stat {
    pub fn of(process: i32) -> Option<Self> {
        Stat::read(format!("/proc/{process}/stat"))
    }

    fn read(path: impl AsRef<Path>) -> Option<Self> {
        Stat::parse(&fs::read_to_string(path).ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        // The second field is the program's name in parentheses, and may itself contain anything.
        let (_, fields) = text.rsplit_once(") ")?;
        let fields: Vec<&str> = fields.split(' ').collect();
        Some(Stat {
            state: fields.first()?.chars().next()?,
            parent: fields.get(1)?.parse().ok()?,
            group: fields.get(2)?.parse().ok()?,
            session: fields.get(3)?.parse().ok()?,
            threads: fields.get(17)?.parse().ok()?,
            started: fields.get(19)?.parse().ok()?,
        })
    }

    /// Returns whether the process has ended. Its first thread may end before the others.
    pub fn has_ended(&self) -> bool {
        matches!(self.state, 'Z' | 'X') && self.threads <= 1
    }
}

/// Returns whether /proc is mounted and belongs to our process namespace.
pub(super) fn is_usable() -> bool {
    fs::read_link("/proc/self").is_ok_and(|own| own.as_os_str() == getpid().to_string().as_str())
}

/// Lists the processes of this machine that are visible here.
pub(super) fn list_processes() -> Vec<(i32, Stat)> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|process| Some((process, Stat::of(process)?)))
        .collect()
}

/// Lists the state of each thread of a process.
pub(super) fn list_thread_states(process: i32) -> Vec<char> {
    let Ok(threads) = fs::read_dir(format!("/proc/{process}/task")) else {
        return Vec::new();
    };
    threads
        .filter_map(|thread| Stat::read(thread.ok()?.path().join("stat")))
        .map(|stat| stat.state)
        .collect()
}

/// Lists the children of this process, including those that have ended. The list is empty if the
/// kernel does not support it.
pub(super) fn list_children() -> Vec<i32> {
    let Ok(threads) = fs::read_dir("/proc/self/task") else {
        return Vec::new();
    };
    threads
        .filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("children")).ok())
        .flat_map(|children| {
            let parsed = children.split_whitespace().map(str::parse);
            parsed.filter_map(Result::ok).collect::<Vec<i32>>()
        })
        .collect()
}

/// Reads the arguments of a process, each followed by a zero byte.
pub(super) fn read_arguments(process: i32) -> Vec<u8> {
    fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default()
}

/// Returns whether a shell, or another program with job control, would continue this process after
/// a stop: an ancestor in the same session that put this process into another group than its own.
/// Without one, POSIX calls the group orphaned, and the kernel does not stop it at Ctrl-Z. Here the
/// kernel would, because the watchdog is in the same session and in another group, too.
pub(super) fn has_job_control() -> bool {
    let Some(own) = Stat::of(getpid().as_raw_nonzero().get()) else {
        return false;
    };
    let mut parent = own.parent;
    while let Some(above) = Stat::of(parent) {
        if above.session != own.session {
            return false;
        }
        if above.group != own.group {
            return true;
        }
        parent = above.parent;
    }
    false
}

/// Returns the signals that this process ignores.
pub(super) fn read_ignored_signals() -> SignalMask {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    parse_ignored(&status).unwrap_or_default()
}

fn parse_ignored(status: &str) -> Option<SignalMask> {
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))?;
    u64::from_str_radix(mask.trim(), 16).ok().map(SignalMask)
}

/// Converts a process id as the kernel writes it.
pub(super) fn to_pid(process: i32) -> Option<Pid> {
    // A number below zero would mean other processes.
    Pid::from_raw(process.max(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str =
        "4711 (a) R 1 2 3 (b) T 12 4711 40 34817 4711 4194304 0 0 0 0 0 0 0 0 20 0 2 0 99 7 8";

    #[test]
    fn a_name_with_parentheses_does_not_confuse() {
        let stat = Stat::parse(STAT).unwrap();
        let expected = Stat {
            state: 'T',
            parent: 12,
            group: 4711,
            session: 40,
            threads: 2,
            started: 99,
        };
        assert_eq!(stat, expected);
        assert_eq!(Stat::parse("4711 (cut"), None);
    }

    #[test]
    fn a_process_whose_first_thread_has_ended_lives() {
        let mut stat = Stat::parse(STAT).unwrap();
        stat.state = 'Z';
        assert!(!stat.has_ended());
        stat.threads = 1;
        assert!(stat.has_ended());
    }

    #[test]
    fn ignored_signals_are_read_from_the_mask() {
        let mask =
            parse_ignored("Name:\tx\nSigBlk:\t0000000000000002\nSigIgn:\t0000000000004003\n")
                .unwrap();
        for signal in [Signal::HUP, Signal::INT, Signal::TERM] {
            assert!(mask.contains(signal.as_raw()));
        }
        assert!(!mask.contains(Signal::QUIT.as_raw()));
        assert_eq!(parse_ignored("Name:\tx\n"), None);
    }

    #[test]
    fn this_process_is_seen() {
        let own = getpid().as_raw_nonzero().get();
        assert!(is_usable());
        let (_, stat) = list_processes()
            .into_iter()
            .find(|(process, _)| *process == own)
            .unwrap();
        assert!(!stat.has_ended());
    }
}
