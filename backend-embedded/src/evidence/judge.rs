//! Whose time is over already when a coordinator is opened.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lock_core::clock::{BootInstant, Clock};

use super::file::{self, Header};
use super::{Claim, Evidence, Host, Process};
use crate::machine::op::LeaseId;

/// How long the command of a process that is found dead may take to be ended: its watchdog sees to
/// that at once, but it may have died just now.
const LAST_BREATH: Duration = Duration::from_secs(1);

/// What is found in a folder of the coordinator that had it before.
#[derive(Debug)]
pub(crate) struct Past {
    folder: PathBuf,
    claim: Claim,
    host: Option<Host>,
    last: Option<Last>,
}

/// A file that can be trusted: nobody has had the folder since it was written.
#[derive(Debug)]
pub(super) struct Last {
    pub(super) header: Header,
    pub(super) processes: HashMap<LeaseId, Process>,
}

/// Why a lease is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Over {
    /// Its process ran before the machine was started anew.
    OtherBoot,
    /// No renewal that can still hold was acknowledged.
    OutOfTime,
    /// Its process has ended.
    ProcessEnded,
}

impl Past {
    /// Reads what is there. `before` is the claim as it was found, `claim` as we leave it.
    pub(crate) fn read(folder: &Path, before: Option<Claim>, claim: Claim) -> Past {
        let last = file::read(folder).map(|(header, processes)| Last { header, processes });
        Past {
            folder: folder.to_path_buf(),
            claim,
            host: Host::ours(),
            last: last.filter(|last| Some(last.header.claim) == before),
        }
    }

    /// Finds the leases that are over, and begins the evidence for the rest of them. Waits a second
    /// if a process has ended.
    pub(crate) fn judge(self, leases: &[(LeaseId, Duration)]) -> (Vec<LeaseId>, Evidence) {
        let Some(host) = self.host else {
            tracing::info!("neither boots nor processes can be told apart here (no /proc)");
            return (Vec::new(), Evidence::default());
        };
        let now = Clock::system().now();
        let mut over = Vec::new();
        let mut processes = HashMap::new();
        let mut last_breath = Duration::ZERO;
        for &(id, ttl) in leases {
            let Some(last) = &self.last else {
                break;
            };
            match last.judge(&host, now, id, ttl) {
                Some(reason) => {
                    tracing::info!(id, ?reason, "a session ended while no coordinator ran");
                    if reason == Over::ProcessEnded {
                        last_breath = LAST_BREATH;
                    }
                    over.push(id);
                }
                None => {
                    let process = last.process(&host, id);
                    processes.extend(process.map(|process| (id, process)));
                }
            }
        }
        std::thread::sleep(last_breath);
        let evidence = Evidence::begin(&self.folder, self.claim, &host, &processes);
        let evidence = evidence.unwrap_or_else(|error| {
            tracing::warn!(%error, "after a restart every session will have its full time to live");
            Evidence::default()
        });
        (over, evidence)
    }
}

impl Last {
    /// Whether a lease is over, and why. With any doubt it is not, and has its full time to live.
    pub(super) fn judge(
        &self,
        host: &Host,
        now: BootInstant,
        id: LeaseId,
        ttl: Duration,
    ) -> Option<Over> {
        if self.header.host.boot != host.boot {
            // A folder may have come from another machine, where the process goes on.
            let same_machine = host.machine != 0 && self.header.host.machine == host.machine;
            let local = self.processes.contains_key(&id);
            return (same_machine && local).then_some(Over::OtherBoot);
        }
        if self.header.host.clock_offset != host.clock_offset {
            return None;
        }
        // Who was told of a renewal counts on it for less than the time to live from when it was
        // sent, on a clock that runs through suspend as this one does (`lock_core::clock`): on this
        // machine the same clock, on another one of a rate that the deadlines allow for.
        if now > BootInstant::from_nanos(self.header.until) + ttl {
            return Some(Over::OutOfTime);
        }
        let ended = self.process(host, id).is_some_and(Process::is_dead);
        ended.then_some(Over::ProcessEnded)
    }

    /// The process of a lease, if its id means the same to us.
    fn process(&self, host: &Host, id: LeaseId) -> Option<Process> {
        let theirs = self.header.host;
        let same = theirs.boot == host.boot
            && theirs.namespace == host.namespace
            && theirs.clock_offset == host.clock_offset;
        self.processes.get(&id).filter(|_| same).copied()
    }
}
