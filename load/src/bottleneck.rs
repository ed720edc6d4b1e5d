//! Which resource ends first when the load rises.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

use crate::LOAD_THREADS;
use crate::workload::Workload;

/// From this share on, a resource counts as used up: the rest is lost between measurements.
const USED_UP: f64 = 0.9;

/// The resource that ends first under a load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bottleneck {
    /// One lock, which all share.
    Lock,
    /// The processor time of this process. An embedded coordinator runs in it.
    Process,
    /// One thread of this process, such as the one that does the work of all sessions.
    Thread,
    /// The processors of this machine, most of whose time other processes take.
    Machine,
    /// The coordinator, with its disk, or the way to it: this machine waits for it.
    Coordinator,
}

impl Bottleneck {
    /// Returns what to change so that more work can be done.
    pub fn remedy(self) -> &'static str {
        match self {
            Bottleneck::Lock => {
                "split the resource into parts with a lock each, or make the work under the lock \
                 shorter"
            }
            Bottleneck::Process => {
                "spread the work over more processes and machines, or take faster processors"
            }
            Bottleneck::Thread => "spread the work over more processes",
            Bottleneck::Machine => {
                "give the coordinator a machine of its own, or more processors: see what else runs \
                 here"
            }
            Bottleneck::Coordinator => {
                "look at its slowest commits (`turnlock status`): take a disk that syncs faster, a \
                 shorter way to it, or a coordinator for each group of locks"
            }
        }
    }
}

impl fmt::Display for Bottleneck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Bottleneck::Lock => "the lock that all of them share",
            Bottleneck::Process => "the processor time of this process",
            Bottleneck::Thread => "one thread of this process, which is never idle",
            Bottleneck::Machine => "the processors of this machine, which others use as well",
            Bottleneck::Coordinator => "the coordinator, or the way to it",
        })
    }
}

/// The processor time that was used up to an instant.
#[derive(Debug)]
pub(crate) struct Usage {
    process: Duration,
    /// That of each thread of this process, in nanoseconds, by its id. None if the system does not
    /// tell it.
    threads: HashMap<OsString, u64>,
    /// That of all processes of the machine, and of none.
    machine: Option<MachineTime>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct MachineTime {
    busy: u64,
    idle: u64,
}

/// The shares of the processor time that were used between two instants.
#[derive(Debug, Clone, Copy)]
struct Shares {
    /// How many processors this process kept busy.
    process: f64,
    /// The largest part of a processor that one thread kept busy.
    thread: f64,
    /// The part of all processors that was busy, if the system tells it.
    machine: Option<f64>,
    processors: f64,
}

impl Usage {
    /// Reads the processor time up to now.
    pub(crate) fn read() -> Self {
        let process = clock_gettime(ClockId::ProcessCPUTime);
        let stat = fs::read_to_string("/proc/stat").ok();
        Usage {
            process: Duration::try_from(process).unwrap_or_default(),
            threads: read_threads(),
            machine: stat.and_then(|stat| parse_stat(&stat)),
        }
    }

    /// Returns what has limited a load of this kind since `self`, which was so long ago.
    pub(crate) fn find_bottleneck(&self, workload: Workload, length: Duration) -> Bottleneck {
        let now = Usage::read();
        let process = now.process.saturating_sub(self.process);
        let busy = |before: MachineTime, now: MachineTime| {
            let busy = now.busy.saturating_sub(before.busy) as f64;
            let idle = now.idle.saturating_sub(before.idle) as f64;
            busy / (busy + idle).max(1.0)
        };
        let threads = now.threads.iter().map(|(id, now)| {
            let before = self.threads.get(id).copied().unwrap_or_default();
            now.saturating_sub(before)
        });
        let thread = Duration::from_nanos(threads.max().unwrap_or_default());
        let share =
            |time: Duration| time.as_secs_f64() / length.as_secs_f64().max(f64::MIN_POSITIVE);
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        judge(
            workload,
            Shares {
                process: share(process),
                thread: share(thread),
                machine: self.machine.zip(now.machine).map(|(a, b)| busy(a, b)),
                processors: processors as f64,
            },
        )
    }
}

/// Reads the processor time of each thread of this process, in nanoseconds.
fn read_threads() -> HashMap<OsString, u64> {
    let threads = fs::read_dir("/proc/self/task").into_iter().flatten();
    let read = |thread: fs::DirEntry| {
        let times = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        let busy = times.split(' ').next()?.parse().ok()?;
        Some((thread.file_name(), busy))
    };
    threads.flatten().filter_map(read).collect()
}

/// Reads the first line of `/proc/stat`: user, nice, system, idle, iowait, irq, softirq, steal.
fn parse_stat(stat: &str) -> Option<MachineTime> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let times: Vec<u64> = line
        .split_whitespace()
        .map_while(|time| time.parse().ok())
        .collect();
    let [user, nice, system, idle, iowait, irq, softirq, steal, ..] = times[..] else {
        return None;
    };
    Some(MachineTime {
        busy: user + nice + system + irq + softirq + steal,
        idle: idle + iowait,
    })
}

fn judge(workload: Workload, shares: Shares) -> Bottleneck {
    // The workers run on so many threads.
    let most = shares.processors.min(LOAD_THREADS as f64);
    if shares.process >= USED_UP * most {
        return Bottleneck::Process;
    }
    if shares.machine.is_some_and(|busy| busy >= USED_UP) {
        return match shares.process >= shares.processors / 2.0 {
            true => Bottleneck::Process,
            false => Bottleneck::Machine,
        };
    }
    if shares.thread >= USED_UP {
        return Bottleneck::Thread;
    }
    match workload {
        Workload::Contended | Workload::Drain | Workload::Readers => Bottleneck::Lock,
        Workload::Raw | Workload::Uncontended | Workload::Churn => Bottleneck::Coordinator,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(workload: Workload, process: f64, machine: f64, processors: f64) -> Bottleneck {
        let shares = Shares {
            process,
            thread: 0.5,
            machine: Some(machine),
            processors,
        };
        judge(workload, shares)
    }

    #[test]
    fn what_is_used_up_is_named() {
        use Workload::{Contended, Uncontended};
        assert_eq!(found(Uncontended, 1.9, 0.99, 2.0), Bottleneck::Process);
        assert_eq!(found(Uncontended, 1.9, 0.3, 8.0), Bottleneck::Process);
        assert_eq!(found(Uncontended, 1.1, 0.95, 2.0), Bottleneck::Process);
        assert_eq!(found(Uncontended, 0.6, 0.95, 2.0), Bottleneck::Machine);
        assert_eq!(found(Uncontended, 0.6, 0.5, 2.0), Bottleneck::Coordinator);
        assert_eq!(found(Contended, 0.6, 0.5, 2.0), Bottleneck::Lock);
        assert_eq!(found(Contended, 1.9, 0.99, 2.0), Bottleneck::Process);
        let shares = Shares {
            process: 1.3,
            thread: 0.95,
            machine: Some(0.4),
            processors: 8.0,
        };
        assert_eq!(judge(Uncontended, shares), Bottleneck::Thread);
    }

    #[test]
    fn the_time_of_each_thread_is_read() {
        let spinning = std::thread::spawn(|| {
            let used = || Duration::try_from(clock_gettime(ClockId::ThreadCPUTime));
            while used().expect("positive") < Duration::from_millis(100) {}
            Usage::read()
        });
        let usage = spinning.join().expect("no panic");
        let most = usage.threads.values().max().expect("Linux has it");
        assert!(*most > 80_000_000, "{most}");
    }

    #[test]
    fn the_time_of_the_machine_is_read() {
        let stat = "cpu  10 1 5 100 7 2 3 4 99 99\ncpu0 1 1 1 1 1 1 1 1 0 0\n";
        let expected = MachineTime {
            busy: 25,
            idle: 107,
        };
        assert_eq!(parse_stat(stat), Some(expected));
        assert_eq!(parse_stat("cpu  10 1 5\n"), None);
        assert_eq!(parse_stat(""), None);
        assert!(Usage::read().machine.is_some(), "Linux has it");
    }
}
