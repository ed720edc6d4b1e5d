//! Reports the results of a run.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::AddAssign;

use lock_core::clock::BootInstant;
use serde::{Deserialize, Serialize};

use super::Settings;
use super::resource::Tally;
use crate::checker::{Blame, Violation};
use crate::history::{DataAccess, DataAnswer, History, Outcome};

/// The outcome of a run.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The servers: `embedded`, `etcd` or `zk`.
    pub backend: &'static str,
    /// The number of servers.
    pub nodes: usize,
    /// The time during which faults occurred, in seconds.
    pub seconds: u64,
    /// The seed of all random choices.
    pub seed: u64,
    /// The number of times that each fault occurred.
    pub faults: BTreeMap<String, usize>,
    /// The number of faults that lasted longer than the shortest time to live of a session.
    pub long_faults: usize,
    /// The outcomes of the acquires.
    pub acquires: Acquires,
    /// The outcomes of the requests for values, and of the raises of the token offset.
    pub data: Data,
    /// The outcomes of the writes.
    pub writes: Tally,
    /// The longest time between two grants of one lock, in seconds.
    pub longest_gap_seconds: f64,
    /// The violations that the rules found.
    pub violations: Vec<Violation>,
}

/// The acquires of a run by their outcome.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Acquires {
    /// The number of all acquires.
    pub called: usize,
    /// The acquires that got the lock.
    pub granted: usize,
    /// The acquires that failed because another client had the lock, or with an error.
    pub refused: usize,
    /// The acquires that were dropped before they returned.
    pub cancelled: usize,
    /// The acquires that ended with the death of their process.
    pub unanswered: usize,
    /// The holds that were lost and reported it.
    pub lost: usize,
}

impl Acquires {
    /// Counts the acquires of a history.
    pub fn of(history: &History) -> Self {
        let mut acquires = Acquires::default();
        for op in &history.ops {
            acquires.called += 1;
            acquires.lost += usize::from(!op.lost.is_empty());
            match op.outcome {
                Outcome::Open => acquires.unanswered += 1,
                Outcome::Granted(..) => acquires.granted += 1,
                Outcome::Refused(..) => acquires.refused += 1,
                Outcome::Cancelled(_) => acquires.cancelled += 1,
            }
        }
        acquires
    }
}

/// The requests for values under the holds of a run, and the raises of the token offset.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Data {
    /// The number of all requests for values.
    pub requests: usize,
    /// The requests for values of which it is not known whether they were carried out.
    pub in_doubt: usize,
    /// The number of all raises.
    pub raises: usize,
    /// The raises that were told the offset from then on.
    pub raised: usize,
}

impl Data {
    /// Counts those of a history.
    pub fn of(history: &History) -> Self {
        let requests = history.ops.iter().flat_map(|op| &op.data);
        let in_doubt = |request: &&DataAccess| request.answer == DataAnswer::InDoubt;
        let raises = history.raises.iter();
        Data {
            requests: requests.clone().count(),
            in_doubt: requests.filter(in_doubt).count(),
            raises: raises.len(),
            raised: raises.filter(|raise| raise.raised.is_some()).count(),
        }
    }
}

impl fmt::Display for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Data {
            requests,
            in_doubt,
            raises,
            raised,
        } = self;
        write!(
            f,
            "{requests} requests, {in_doubt} in doubt; offset raised {raised} times of {raises}"
        )
    }
}

impl AddAssign for Data {
    fn add_assign(&mut self, other: Self) {
        self.requests += other.requests;
        self.in_doubt += other.in_doubt;
        self.raises += other.raises;
        self.raised += other.raised;
    }
}

/// The shortest time to live of a session in a run.
const SHORTEST_TTL: std::time::Duration = std::time::Duration::from_secs(2);

impl Report {
    pub(super) fn new(
        settings: Settings,
        history: &History,
        writes: Tally,
        violations: Vec<Violation>,
    ) -> Self {
        let mut faults = BTreeMap::new();
        for fault in &history.faults {
            *faults.entry(fault.what.clone()).or_default() += 1;
        }
        let long =
            |fault: &&crate::history::Fault| fault.to.saturating_since(fault.from) > SHORTEST_TTL;
        Report {
            backend: settings.backend.name(),
            nodes: settings.nodes,
            seconds: settings.length.as_secs(),
            seed: settings.seed,
            long_faults: history.faults.iter().filter(long).count(),
            faults,
            acquires: Acquires::of(history),
            data: Data::of(history),
            writes,
            longest_gap_seconds: longest_gap(history),
            violations,
        }
    }

    /// Returns the number of violations for which Turnlock is to blame.
    pub fn count_ours(&self) -> usize {
        let ours = |violation: &&Violation| violation.blame == Blame::Ours;
        self.violations.iter().filter(ours).count()
    }
}

fn longest_gap(history: &History) -> f64 {
    let mut grants: BTreeMap<&str, Vec<BootInstant>> = BTreeMap::new();
    for op in &history.ops {
        if let Some((_, at)) = op.grant() {
            grants.entry(&op.lock).or_default().push(at);
        }
    }
    let gaps = grants.into_values().flat_map(|mut instants| {
        instants.sort_unstable();
        let gap = |pair: &[BootInstant]| pair[1].saturating_since(pair[0]);
        instants.windows(2).map(gap).collect::<Vec<_>>()
    });
    gaps.max().unwrap_or_default().as_secs_f64()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report {
            backend,
            nodes,
            seconds,
            seed,
            acquires,
            data,
            writes,
            ..
        } = self;
        writeln!(
            f,
            "chaos on {backend}, {nodes} nodes, {seconds} s, seed {seed}"
        )?;
        let faults: usize = self.faults.values().sum();
        writeln!(
            f,
            "\nfaults                  {faults}, {} of them longer than the shortest time to live",
            self.long_faults
        )?;
        for (what, count) in &self.faults {
            writeln!(f, "  {what:<22}{count}")?;
        }
        writeln!(f, "acquires                {}", acquires.called)?;
        writeln!(
            f,
            "  granted               {}, of which lost {}",
            acquires.granted, acquires.lost
        )?;
        writeln!(f, "  refused               {}", acquires.refused)?;
        writeln!(f, "  cancelled             {}", acquires.cancelled)?;
        writeln!(f, "  never answered        {}", acquires.unanswered)?;
        writeln!(f, "data                    {data}")?;
        writeln!(f, "writes accepted         {}", writes.accepted)?;
        writeln!(f, "writes refused as stale {}", writes.rejected)?;
        writeln!(
            f,
            "lost updates            {} with the token check, {} without",
            writes.lost_with_fence, writes.lost_without_fence
        )?;
        writeln!(
            f,
            "longest gap             {:.1} s without a grant of one of the locks",
            self.longest_gap_seconds
        )?;
        for violation in &self.violations {
            writeln!(f, "\n{violation}")?;
        }
        write!(
            f,
            "\n{} violations, {} of them ours",
            self.violations.len(),
            self.count_ours()
        )
    }
}
