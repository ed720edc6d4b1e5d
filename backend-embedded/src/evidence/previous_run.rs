//! The previous run of a coordinator in the folder, and the leases that have ended with it or
//! since.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lock_core::clock::{BootInstant, Clock};

use super::file::{self, Header};
use super::{Evidence, Host, LockStamp, Process};
use crate::machine::op::LeaseId;

/// How long the watchdog of a dead process may take to end that process's command. The process may
/// have died just now.
const WATCHDOG_DELAY: Duration = Duration::from_secs(1);

/// What the previous coordinator left in the folder.
#[derive(Debug)]
pub(crate) struct PreviousRun {
    folder: PathBuf,
    written: LockStamp,
    host: Option<Host>,
    last: Option<PreviousRecord>,
}

/// A file that can be trusted: nobody has owned the folder since it was written.
#[derive(Debug)]
pub(super) struct PreviousRecord {
    pub(super) header: Header,
    pub(super) processes: HashMap<LeaseId, Process>,
}

/// Why a lease has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EndReason {
    /// Its process ran before the machine was rebooted.
    OtherBoot,
    /// No acknowledged renewal can still be in force.
    OutOfTime,
    /// Its process has ended.
    ProcessEnded,
}

impl PreviousRun {
    /// Reads what the previous coordinator left. `found` is the stamp of the lock as it was found,
    /// `written` the stamp of this owner.
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

    /// Finds the leases that have ended, and begins the evidence for the others. Waits a second if
    /// a process has ended.
    #[expect(
        clippy::disallowed_methods,
        reason = "a simulated store has no evidence"
    )]
    pub(crate) fn find_ended_leases(
        self,
        leases: &[(LeaseId, Duration)],
    ) -> (Vec<LeaseId>, Evidence) {
        let Some(host) = self.host else {
            tracing::info!("boots and processes cannot be identified on this system (no /proc)");
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
            tracing::warn!(
                %error,
                "cannot keep evidence; after a restart every session will have its full time to \
                 live"
            );
            Evidence::default()
        });
        (ended_leases, evidence)
    }
}

impl PreviousRecord {
    /// Returns why a lease has ended. In any doubt it has not, and has its full time to live.
    pub(super) fn find_end_reason(
        &self,
        host: &Host,
        now: BootInstant,
        id: LeaseId,
        ttl: Duration,
    ) -> Option<EndReason> {
        if self.header.host.boot != host.boot {
            // The folder may have come from another machine, where the process is still running.
            let same_machine = host.machine != 0 && self.header.host.machine == host.machine;
            let local = self.processes.contains_key(&id);
            return (same_machine && local).then_some(EndReason::OtherBoot);
        }
        if self.header.host.clock_offset != host.clock_offset {
            return None;
        }
        // A client relies on a renewal for less than the time to live, counted from when it sent
        // the request, on a clock that runs through suspend as this one does (`lock_core::clock`).
        // On this machine that is the same clock; on another one its rate is within the bounds that
        // the deadlines allow for.
        if now > BootInstant::from_nanos(self.header.until) + ttl {
            return Some(EndReason::OutOfTime);
        }
        let ended = self.process(host, id).is_some_and(Process::is_dead);
        ended.then_some(EndReason::ProcessEnded)
    }

    /// Returns the process of a lease, if its id has the same meaning here.
    fn process(&self, host: &Host, id: LeaseId) -> Option<Process> {
        let recorded = self.header.host;
        let same = recorded.boot == host.boot
            && recorded.namespace == host.namespace
            && recorded.clock_offset == host.clock_offset;
        self.processes.get(&id).filter(|_| same).copied()
    }
}
