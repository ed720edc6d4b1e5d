//! All that a process has started, however deep: found, signalled and ended.
//!
//! The process is a subreaper: what loses its parent becomes its child, so nothing that descends
//! from it gets out of its sight, whatever group or session it makes for itself.

use std::collections::{HashMap, HashSet};
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, getpid, kill_process, pidfd_open, pidfd_send_signal,
    set_child_subreaper, waitpid,
};

use super::proc::{self, Stat};

/// How the arguments of a coordinator begin that a command has started in passing: it serves others,
/// and ends by itself.
const COORDINATOR: &[u8] = b"turnlock\0serve\0--background\0";
/// A chain of processes that fork and exit is looked for so often in a row, which takes longer than
/// one of them lives.
const QUIET_LOOKS: usize = 64;
/// It is chased no longer than for so many looks before all are looked at again.
const LOOKS: usize = 2048;
/// So often new processes are only stopped before all that are known are killed.
const STOPS: usize = 16;
/// Killed processes need a moment.
const PAUSE: Duration = Duration::from_millis(1);

/// Makes this process the parent of all that its descendants leave behind.
pub(super) fn adopt_orphans() -> io::Result<()> {
    Ok(set_child_subreaper(Some(getpid()))?)
}

/// A descendant of this process that has not ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Member {
    pub process: i32,
    pub stat: Stat,
}

impl Member {
    /// Sends it a signal, and nobody else who might have got its number by now.
    fn signal(&self, signal: Signal) -> rustix::io::Result<()> {
        let Some(pid) = proc::pid(self.process) else {
            return Ok(());
        };
        let sent = if self.stat.parent == own() {
            // Its number is its own until we reap it.
            kill_process(pid, signal)
        } else {
            self.signal_exactly(pid, signal)
        };
        match sent {
            Err(Errno::SRCH) => Ok(()),
            sent => sent,
        }
    }

    fn signal_exactly(&self, pid: Pid, signal: Signal) -> rustix::io::Result<()> {
        let process = pidfd_open(pid, PidfdFlags::empty())?;
        match Stat::of(self.process) {
            Some(now) if now.started == self.stat.started => pidfd_send_signal(process, signal),
            _ => Ok(()),
        }
    }
}

/// All descendants of this process that have not ended, except for coordinators.
pub(super) fn members() -> Vec<Member> {
    let mut children: HashMap<i32, Vec<Member>> = HashMap::new();
    for (process, stat) in proc::all() {
        let member = Member { process, stat };
        children.entry(stat.parent).or_default().push(member);
    }
    let mut members = Vec::new();
    let mut parents = vec![own()];
    while let Some(parent) = parents.pop() {
        for member in children.remove(&parent).unwrap_or_default() {
            if proc::arguments(member.process).starts_with(COORDINATOR) {
                continue;
            }
            parents.push(member.process);
            if !member.stat.has_ended() {
                members.push(member);
            }
        }
    }
    members
}

/// Whether there are no descendants, except for coordinators. A look at all processes can miss one
/// that others have started and died for meanwhile; it is our child by then, or below one.
pub(super) fn is_extinct() -> bool {
    members().is_empty() && first_child().is_none()
}

/// A child that is not a coordinator. One that has ended and is not reaped counts: what it started
/// became our child after this list was made.
fn first_child() -> Option<i32> {
    let is_coordinator = |child: &i32| proc::arguments(*child).starts_with(COORDINATOR);
    proc::children()
        .into_iter()
        .find(|child| !is_coordinator(child))
}

/// Reaps the children that have ended, each by its number.
pub(super) fn reap_children() {
    for child in proc::children() {
        if Stat::of(child).is_some_and(|stat| stat.has_ended()) {
            let _ = waitpid(proc::pid(child), WaitOptions::NOHANG);
        }
    }
}

/// Whether this process is one of the descendants.
pub(super) fn contains(process: i32) -> bool {
    members().iter().any(|member| member.process == process)
}

/// Sends these signals, in this order, to the descendants that are chosen.
pub(super) fn signal(signals: &[Signal], chosen: impl Fn(&Member) -> bool) {
    for member in members().iter().filter(|member| chosen(member)) {
        for signal in signals {
            // One that runs as another user: as after `kill`, there is nothing to be done.
            let _ = member.signal(*signal);
        }
    }
}

/// Kills all descendants, and those that they start meanwhile; `reap` is called again and again to
/// fetch what has ended. Answers the process that is left, if one cannot be killed, for another
/// user's rights or because it hangs in the kernel for longer than this limit.
///
/// What is found is stopped first, so that it starts no more; once a look finds nothing new, all are
/// killed. A process that forks and exits at once leads the look a chase through its children,
/// which the loop wins sooner or later: it needs one short instant, the other a long one.
pub(super) fn end(limit: Duration, mut reap: impl FnMut()) -> Result<(), i32> {
    let until = Instant::now() + limit;
    let mut stopped = HashSet::new();
    for pass in 1.. {
        reap();
        // What is new after two looks is made faster than we look.
        if pass > 2 {
            chase();
        }
        let members = members();
        let Some(first) = members.first() else {
            match first_child() {
                None => return Ok(()),
                Some(child) if Instant::now() >= until => return Err(child),
                Some(_) => continue,
            }
        };
        let mut fresh = false;
        for member in &members {
            if stopped.insert((member.process, member.stat.started)) {
                fresh = true;
                let _ = member.signal(Signal::STOP);
            }
        }
        if fresh && pass % STOPS != 0 && Instant::now() < until {
            continue;
        }
        let killed: Vec<_> = members.iter().map(|m| m.signal(Signal::KILL)).collect();
        let denied = |sent: &rustix::io::Result<()>| *sent == Err(Errno::PERM);
        if killed.iter().all(denied) || Instant::now() >= until {
            let survivor = members.iter().zip(&killed).find(|(_, sent)| denied(sent));
            return Err(survivor.map_or(first.process, |(member, _)| member.process));
        }
        thread::sleep(PAUSE);
    }
    Ok(())
}

/// Stops our children, and what takes their place meanwhile.
fn chase() {
    let mut met = HashSet::new();
    let mut quiet = 0;
    for _ in 0..LOOKS {
        quiet += 1;
        for child in proc::children() {
            if met.insert(child) && !proc::arguments(child).starts_with(COORDINATOR) {
                quiet = 0;
                if let Some(child) = proc::pid(child) {
                    let _ = kill_process(child, Signal::STOP);
                }
            }
        }
        if quiet == QUIET_LOOKS {
            return;
        }
    }
}

fn own() -> i32 {
    getpid().as_raw_nonzero().get()
}
