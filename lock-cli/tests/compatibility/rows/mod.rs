//! The rows of the page, in the order of the protos. What each says is checked by its requests.

mod auth;
mod election;
mod kv;
mod lease;
mod lock;
mod maintenance;
mod watch;

use crate::probe::{Probe, Verdict};

const fn row(
    name: &'static str,
    verdict: Verdict,
    reason: &'static str,
    steps: &'static [&'static str],
) -> Probe {
    Probe {
        name,
        verdict,
        reason,
        steps,
    }
}

const fn same(name: &'static str, steps: &'static [&'static str]) -> Probe {
    row(name, Verdict::AsEtcd, "", steps)
}

const fn limited(
    name: &'static str,
    reason: &'static str,
    steps: &'static [&'static str],
) -> Probe {
    row(name, Verdict::Limited, reason, steps)
}

const fn refused(
    name: &'static str,
    reason: &'static str,
    steps: &'static [&'static str],
) -> Probe {
    row(name, Verdict::Refused, reason, steps)
}

/// Returns all rows.
pub fn all() -> Vec<Probe> {
    [
        kv::KV,
        watch::WATCH,
        lease::LEASE,
        maintenance::CLUSTER,
        maintenance::MAINTENANCE,
        auth::AUTH,
        election::ELECTION,
        lock::LOCK,
    ]
    .concat()
}
