//! Whose time is over already when a coordinator is opened.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lock_core::clock::{BootInstant, Clock};

use super::file::{self, Header};
use super::{Evidence, Host, LockStamp, Process};
use crate::machine::op::LeaseId;

/// How long the command of a process that is found dead may take to be ended: its watchdog sees to
/// that at once, but it may have died just now.
const WATCHDOG_DELAY: Duration = Duration::from_secs(1);

/// What is found in a folder of the coordinator that had it before.
#[derive(Debug)]
pub(crate) struct PreviousRun {
    folder: PathBuf,
    written: LockStamp,
    host: Option<Host>,
    last: Option<PreviousRecord>,
}

/// A file that can be trusted: nobody has had the folder since it was written.
#[derive(Debug)]
pub(super) struct PreviousRecord {
    pub(super) header: Header,
    pub(super) processes: HashMap<LeaseId, Process>,
}

/// Why a lease is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EndReason {
    /// Its process ran before the machine was started anew.
    OtherBoot,
    /// No renewal that can still hold was acknowledged.
    OutOfTime,
    /// Its process has ended.
    ProcessEnded,
}

impl PreviousRun {
    /// Reads what is there. `before` is the claim as it was found, `claim` as we leave it.
    pub(crate) fn read(folder: &Path, found: Option<LockStamp>, written: LockStamp) -> PreviousRun {
        let last =
            file::read(folder).map(|(header, processes)| PreviousRecord { header, processes });
        PreviousRun {
            folder: folder.to_path_buf(),
            written,
            host: Host::current(),
            last: last.filter(|last| Some(last.header.lock_stamp) == found),
        }
    }

    /// Finds the leases that are over, and begins the evidence for the rest of them. Waits a second
    /// if a process has ended.
    pub(crate) fn find_ended_leases(
        self,
        leases: &[(LeaseId, Duration)],
    ) -> (Vec<LeaseId>, Evidence) {
        let Some(host) = self.host else {
            tracing::info!("neither boots nor processes can be told apart here (no /proc)");
            return (Vec::new(), Evidence::default());
        };
        let now = Clock::system().now();
        let mut ended_leases = Vec::new();
        let mut processes = HashMap::new();
        let mut watchdog_delay = Duration::ZERO;
        for &(id, ttl) in leases {
            let Some(last) = &self.last else {
                break;
            };
            match last.find_end_reason(&host, now, id, ttl) {
                Some(reason) => {
                    tracing::info!(id, ?reason, "a session ended while no coordinator ran");
                    if reason == EndReason::ProcessEnded {
                        watchdog_delay = WATCHDOG_DELAY;
                    }
                    ended_leases.push(id);
                }
                None => {
                    let process = last.process(&host, id);
                    processes.extend(process.map(|process| (id, process)));
                }
            }
        }
        std::thread::sleep(watchdog_delay);
        let evidence = Evidence::begin(&self.folder, self.written, &host, &processes);
        let evidence = evidence.unwrap_or_else(|error| {
            tracing::warn!(%error, "after a restart every session will have its full time to live");
            Evidence::default()
        });
        (ended_leases, evidence)
    }
}

impl PreviousRecord {
    /// Whether a lease is over, and why. With any doubt it is not, and has its full time to live.
    pub(super) fn find_end_reason(
        &self,
        host: &Host,
        now: BootInstant,
        id: LeaseId,
        ttl: Duration,
    ) -> Option<EndReason> {
        if self.header.host.boot != host.boot {
            // A folder may have come from another machine, where the process goes on.
            let same_machine = host.machine != 0 && self.header.host.machine == host.machine;
            let local = self.processes.contains_key(&id);
            return (same_machine && local).then_some(EndReason::OtherBoot);
        }
        if self.header.host.clock_offset != host.clock_offset {
            return None;
        }
        // Who was told of a renewal counts on it for less than the time to live from when it was
        // sent, on a clock that runs through suspend as this one does (`lock_core::clock`): on this
        // machine the same clock, on another one of a rate that the deadlines allow for.
        if now > BootInstant::from_nanos(self.header.until) + ttl {
            return Some(EndReason::OutOfTime);
        }
        let ended = self.process(host, id).is_some_and(Process::is_dead);
        ended.then_some(EndReason::ProcessEnded)
    }

    /// The process of a lease, if its id means the same to us.
    fn process(&self, host: &Host, id: LeaseId) -> Option<Process> {
        let recorded = self.header.host;
        let same = recorded.boot == host.boot
            && recorded.namespace == host.namespace
            && recorded.clock_offset == host.clock_offset;
        self.processes.get(&id).filter(|_| same).copied()
    }
}
