//! Computes bounds for the times of revisions, because the server does not report the times.

use lock_core::clock::BootInstant;

use super::Case;
use crate::history::Cause;

/// Bounds for the times of revisions, which rise in real time. So a revision comes after every
/// request that made a lower one, or itself, was sent. It comes before every reply that mentions a
/// higher one, or itself.
#[derive(Debug, Default)]
pub struct Timeline {
    /// The lower bounds by revision. Each instant is the latest so far.
    lower: Vec<(u64, BootInstant)>,
    /// The upper bounds by revision. Each instant is the earliest from here on.
    upper: Vec<(u64, BootInstant)>,
}

impl Timeline {
    pub fn of(case: &Case) -> Self {
        let mut lower = vec![];
        let mut upper = case.history.seen.clone();
        for entry in &case.history.entries {
            let Some(op) = case.op_of(entry) else {
                continue;
            };
            let asked = op.asked.iter().find(|(id, _)| *id == entry.session);
            lower.extend(asked.map(|(_, at)| (entry.created, *at)));
            if let Some((token, at)) = op.placed
                && token == entry.token
            {
                upper.push((entry.created, at));
            }
            let Some(deletion) = entry.deleted else {
                continue;
            };
            // A request that found no entry shows nothing here: the rules are to judge it.
            let answered = op.removal().and_then(|removal| removal.answered);
            upper.extend(answered.map(|at| (deletion.to, at)));
            let by_request = match deletion.cause {
                Cause::Request(session) => session == entry.session,
                Cause::Unknown => case.lived_on(entry.session, deletion.to),
                Cause::SessionEnd => false,
            };
            let called = op.removals.first().filter(|_| by_request);
            lower.extend(called.map(|removal| (deletion.from, removal.called)));
        }
        lower.sort_unstable_by_key(|(revision, _)| *revision);
        let mut latest = BootInstant::from_nanos(0);
        for (_, at) in &mut lower {
            latest = latest.max(*at);
            *at = latest;
        }
        upper.sort_unstable_by_key(|(revision, _)| *revision);
        let mut earliest = BootInstant::from_nanos(u64::MAX);
        for (_, at) in upper.iter_mut().rev() {
            earliest = earliest.min(*at);
            *at = earliest;
        }
        Timeline { lower, upper }
    }

    /// Returns an instant at which a revision did not exist yet.
    pub fn not_before(&self, revision: u64) -> Option<BootInstant> {
        let end = self.lower.partition_point(|(known, _)| *known <= revision);
        Some(self.lower.get(end.checked_sub(1)?)?.1)
    }

    /// Returns an instant at which a revision existed.
    pub fn not_after(&self, revision: u64) -> Option<BootInstant> {
        let start = self.upper.partition_point(|(known, _)| *known < revision);
        Some(self.upper.get(start)?.1)
    }
}
