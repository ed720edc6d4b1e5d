//! Finds, signals and ends everything that this process has started, directly or not.
//!
//! The process is a subreaper: a descendant that loses its parent becomes its child. So no
//! descendant gets out of sight, whatever group or session it makes for itself.

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

/// The first arguments of a coordinator that a command has started. It serves other commands, and
/// ends by itself.
const COORDINATOR: &[u8] = b"turnlock\0serve\0--background\0";
/// The number of scans in a row without a new child after which a chain of processes that fork and
/// exit counts as stopped. They take longer than one of these processes lives.
const QUIET_LOOKS: usize = 64;
/// The largest number of scans for such a chain before all descendants are listed again.
const LOOKS: usize = 2048;
/// The number of passes that only stop new processes before all known ones are killed.
const STOPS: usize = 16;
/// The longest wait until all processes stand still before they are asked to end. One that hangs in
/// the kernel does not.
const STOP_LIMIT: Duration = Duration::from_millis(250);
/// The pause in which killed processes can end, and stopped processes come to a stand.
const PAUSE: Duration = Duration::from_millis(1);

/// Makes this process the parent of every process that its descendants leave behind.
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
    /// Returns what identifies this process, unlike its number, which another one may have later.
    fn key(&self) -> (i32, u64) {
        (self.process, self.stat.started)
    }

    /// Sends a signal to this process, and never to another one that may have its number by now.
    fn signal(&self, signal: Signal) -> rustix::io::Result<()> {
        let Some(pid) = proc::to_pid(self.process) else {
            return Ok(());
        };
        let sent = if self.stat.parent == own_id() {
            // A child keeps its number until this process reaps it.
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

/// Lists the descendants of this process that have not ended, except for coordinators.
pub(super) fn list_members() -> Vec<Member> {
    let mut children: HashMap<i32, Vec<Member>> = HashMap::new();
    for (process, stat) in proc::list_processes() {
        let member = Member { process, stat };
        children.entry(stat.parent).or_default().push(member);
    }
    let mut members = Vec::new();
    let mut parents = vec![own_id()];
    while let Some(parent) = parents.pop() {
        for member in children.remove(&parent).unwrap_or_default() {
            if proc::read_arguments(member.process).starts_with(COORDINATOR) {
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

/// Returns whether there are no descendants, except for coordinators. A list of all processes can
/// miss a process whose ancestors ended meanwhile. By then that process is a child of this process,
/// or a descendant of a child.
pub(super) fn is_extinct() -> bool {
    list_members().is_empty() && find_child().is_none()
}

/// Finds a child that is not a coordinator. A child that has ended counts until it is reaped: what
/// it started became a child of this process after the list was made.
fn find_child() -> Option<i32> {
    let is_coordinator = |child: &i32| proc::read_arguments(*child).starts_with(COORDINATOR);
    proc::list_children()
        .into_iter()
        .find(|child| !is_coordinator(child))
}

/// Reaps the children that have ended, each by its number.
pub(super) fn reap_children() {
    for child in proc::list_children() {
        if Stat::of(child).is_some_and(|stat| stat.has_ended()) {
            let _ = waitpid(proc::to_pid(child), WaitOptions::NOHANG);
        }
    }
}

/// Returns whether this process is one of the descendants.
pub(super) fn contains(process: i32) -> bool {
    list_members()
        .iter()
        .any(|member| member.process == process)
}

/// Sends this signal to the chosen descendants.
pub(super) fn signal(signal: Signal, chosen: impl Fn(&Member) -> bool) {
    for member in list_members().iter().filter(|member| chosen(member)) {
        // A process of another user cannot be signalled, just as with `kill`.
        let _ = member.signal(signal);
    }
}

/// Sends TERM to all descendants, and continues those that are stopped.
///
/// All of them stand still meanwhile. So a process whose fork is under way is signalled together
/// with its new child, and a process that another one starts in order to clean up is not signalled.
pub(super) fn terminate() {
    let members = stop_all();
    for member in &members {
        let _ = member.signal(Signal::TERM);
    }
    // Children come after their parents in the list, and continue before them. Otherwise the end of
    // a parent could leave a stopped group without job control, and the kernel sends HUP to that.
    for member in members.iter().rev() {
        let _ = member.signal(Signal::CONT);
    }
}

/// Stops all descendants, and those that they start meanwhile. Returns them.
fn stop_all() -> Vec<Member> {
    let until = Instant::now() + STOP_LIMIT;
    let mut sent = HashMap::new();
    let mut members = Vec::new();
    loop {
        // A fork that was under way is over once its process stands still. So a list that is made
        // afterwards has the new child.
        let still = stand_still(&members, &sent);
        members = list_members();
        let mut fresh = false;
        for member in &members {
            sent.entry(member.key()).or_insert_with(|| {
                fresh = true;
                member.signal(Signal::STOP).is_ok()
            });
        }
        if still && !fresh || Instant::now() >= until {
            return members;
        }
        if !fresh {
            thread::sleep(PAUSE);
        }
    }
}

/// Returns whether no thread of these processes runs, except for those that could not be sent a
/// stop because they belong to another user.
fn stand_still(members: &[Member], sent: &HashMap<(i32, u64), bool>) -> bool {
    let is_stopped = |state: &char| matches!(state, 'T' | 't' | 'Z' | 'X');
    let has_stopped_child = |parent: &Member| {
        let mut children = members
            .iter()
            .filter(|m| m.stat.parent == parent.process)
            .map(|child| proc::list_thread_states(child.process));
        children.any(|states| states.iter().all(is_stopped))
    };
    let stands_still = |member: &Member| {
        let states = proc::list_thread_states(member.process);
        // A thread that has started a process by vfork waits in the kernel for it.
        states
            .iter()
            .all(|s| is_stopped(s) || *s == 'D' && has_stopped_child(member))
    };
    let mut stopped = members.iter().filter(|member| sent[&member.key()]);
    stopped.all(stands_still)
}

/// Kills all descendants, and those that they start meanwhile. It calls `reap` repeatedly to reap
/// the processes that have ended.
///
/// # Errors
/// The id of a process that is left: it belongs to another user, or hangs in the kernel for longer
/// than this limit.
///
/// A process that is found is stopped first, so that it starts no other. Once a scan finds nothing
/// new, all are killed. A chain of processes that fork and exit at once escapes some scans, but the
/// loop catches it sooner or later: a scan is short, and each process of the chain lives longer.
pub(super) fn end(limit: Duration, mut reap: impl FnMut()) -> Result<(), i32> {
    let until = Instant::now() + limit;
    let mut stopped = HashSet::new();
    for pass in 1.. {
        reap();
        // After two passes, new processes appear faster than they are listed.
        if pass > 2 {
            stop_children();
        }
        let members = list_members();
        let Some(first) = members.first() else {
            match find_child() {
                None => return Ok(()),
                Some(child) if Instant::now() >= until => return Err(child),
                Some(_) => continue,
            }
        };
        let mut fresh = false;
        for member in &members {
            if stopped.insert(member.key()) {
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

/// Stops the children of this process, and those that take their place meanwhile.
fn stop_children() {
    let mut met = HashSet::new();
    let mut quiet = 0;
    for _ in 0..LOOKS {
        quiet += 1;
        for child in proc::list_children() {
            if met.insert(child) && !proc::read_arguments(child).starts_with(COORDINATOR) {
                quiet = 0;
                if let Some(child) = proc::to_pid(child) {
                    let _ = kill_process(child, Signal::STOP);
                }
            }
        }
        if quiet == QUIET_LOOKS {
            return;
        }
    }
}

fn own_id() -> i32 {
    getpid().as_raw_nonzero().get()
}
