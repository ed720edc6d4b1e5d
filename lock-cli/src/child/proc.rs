//! What the system tells about processes: from /proc on Linux; elsewhere as near as the portable
//! calls come.

use rustix::process::{Pid, Signal};

pub(super) use self::imp::{group_is_alive, ignored_signals, is_stopped, parent_controls_jobs};

/// A set of signals, as a bit mask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SignalMask(u64);

impl SignalMask {
    pub fn contains(self, signal: Signal) -> bool {
        self.0 >> (signal.as_raw() - 1) & 1 == 1
    }
}

#[cfg(target_os = "linux")]
mod imp {
    use super::{Pid, SignalMask};

    use std::fs;

    /// What /proc/PID/stat says, as far as we need it.
    #[derive(Debug, PartialEq, Eq)]
    pub(super) struct Stat {
        pub state: char,
        pub parent: i32,
        pub group: i32,
        pub session: i32,
    }

    impl Stat {
        fn of(process: &str) -> Option<Self> {
            Stat::parse(&fs::read_to_string(format!("/proc/{process}/stat")).ok()?)
        }

        pub(super) fn parse(text: &str) -> Option<Self> {
            // The second field is the program's name in parentheses, and may itself contain
            // anything.
            let (_, fields) = text.rsplit_once(") ")?;
            let mut fields = fields.split(' ');
            Some(Stat {
                state: fields.next()?.chars().next()?,
                parent: fields.next()?.parse().ok()?,
                group: fields.next()?.parse().ok()?,
                session: fields.next()?.parse().ok()?,
            })
        }

        fn has_ended(&self) -> bool {
            matches!(self.state, 'Z' | 'X')
        }
    }

    /// Whether the group has a process that has not ended. If in doubt, it has.
    pub(in super::super) fn group_is_alive(group: Pid) -> bool {
        let Ok(processes) = fs::read_dir("/proc") else {
            return true;
        };
        processes
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| name.starts_with(|c: char| c.is_ascii_digit()))
            .filter_map(|process| Stat::of(&process))
            .any(|stat| stat.group == group.as_raw_nonzero().get() && !stat.has_ended())
    }

    /// Whether this process is stopped.
    pub(in super::super) fn is_stopped(process: Pid) -> bool {
        Stat::of(&process.as_raw_nonzero().to_string()).is_some_and(|stat| stat.state == 'T')
    }

    /// Whether there is a shell, or the like, that brings us back when we are stopped: a process
    /// above us in the same session that put us into a group other than its own. Without one our
    /// group is orphaned, as POSIX says, and the kernel lets no Ctrl-Z stop it.
    pub(in super::super) fn parent_controls_jobs() -> bool {
        let Some(own) = Stat::of("self") else {
            return false;
        };
        let mut parent = own.parent;
        while let Some(above) = Stat::of(&parent.to_string()) {
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

    /// The signals that this process ignores.
    pub(in super::super) fn ignored_signals() -> SignalMask {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        parse_ignored(&status).unwrap_or(SignalMask(0))
    }

    pub(super) fn parse_ignored(status: &str) -> Option<SignalMask> {
        let mask = status
            .lines()
            .find_map(|line| line.strip_prefix("SigIgn:"))?;
        u64::from_str_radix(mask.trim(), 16).ok().map(SignalMask)
    }
}

#[cfg(not(target_os = "linux"))]
mod imp {
    use rustix::process::{getpgid, getpgrp, getppid, getsid, test_kill_process_group};

    use super::{Pid, SignalMask};

    /// Whether the group has a process that has not ended.
    pub(in super::super) fn group_is_alive(group: Pid) -> bool {
        // The BSDs do not count those that have ended.
        test_kill_process_group(group).is_ok()
    }

    /// Whether this process is stopped. Not to be found out here: taken from what the kernel has
    /// just reported.
    pub(in super::super) fn is_stopped(_process: Pid) -> bool {
        true
    }

    /// Whether our parent is in our session and put us into a group other than its own, as a shell
    /// does.
    pub(in super::super) fn parent_controls_jobs() -> bool {
        getppid().is_some_and(|parent| {
            getsid(Some(parent)) == getsid(None)
                && getpgid(Some(parent)).is_ok_and(|group| group != getpgrp())
        })
    }

    /// The signals that this process ignores. Not to be found out here without unsafe code: none.
    pub(in super::super) fn ignored_signals() -> SignalMask {
        SignalMask(0)
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::imp::{Stat, parse_ignored};
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_confuse() {
        let stat = Stat::parse("4711 (a) R 1 2 3 (b) T 12 4711 40 34817 4711 4194304 0").unwrap();
        assert_eq!(
            stat,
            Stat {
                state: 'T',
                parent: 12,
                group: 4711,
                session: 40
            }
        );
        assert_eq!(Stat::parse("4711 (cut"), None);
    }

    #[test]
    fn ignored_signals_are_read_from_the_mask() {
        let mask =
            parse_ignored("Name:\tx\nSigBlk:\t0000000000000002\nSigIgn:\t0000000000004003\n")
                .unwrap();
        assert!(
            mask.contains(Signal::HUP) && mask.contains(Signal::INT) && mask.contains(Signal::TERM)
        );
        assert!(!mask.contains(Signal::QUIT));
        assert_eq!(parse_ignored("Name:\tx\n"), None);
    }

    #[test]
    fn a_group_of_zombies_is_not_alive() {
        use std::os::unix::process::CommandExt;
        use std::process::{Command, Stdio};

        let mut child = Command::new("cat")
            .stdin(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let group = Pid::from_child(&child);
        assert!(group_is_alive(group));
        drop(child.stdin.take());
        rustix::process::waitid(
            rustix::process::WaitId::Pid(group),
            rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT,
        )
        .unwrap();
        assert!(!group_is_alive(group));
        child.wait().unwrap();
    }
}
