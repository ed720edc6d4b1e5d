//! Plans the faults of a run and their times: a pure function of the seed.

use std::time::Duration;

use fastrand::Rng;

use super::network::Trouble;
use crate::history::Target;

/// The facts that the plan depends on.
#[derive(Debug, Clone, Copy)]
pub struct Scope {
    /// The time during which faults occur.
    pub length: Duration,
    /// The time to live on which the lengths of the faults depend.
    pub ttl: Duration,
    /// The number of contenders.
    pub contenders: u32,
    /// The number of servers.
    pub members: u32,
    /// Whether members can be cut off from each other.
    pub isolates: bool,
}

/// A planned fault.
#[derive(Debug, Clone, PartialEq)]
pub struct Planned<H = Hit> {
    /// The time from the start of the run.
    pub at: Duration,
    /// The length of the fault.
    pub lasts: Duration,
    /// The fault and its target.
    pub hit: H,
}

/// The begin or the end of a planned fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Action {
    /// The time from the start of the run.
    pub at: Duration,
    /// Whether the fault begins. Of two actions at one time, the end of a fault goes first.
    pub begins: bool,
    /// The number of the fault in the plan.
    pub fault: usize,
}

/// Returns the begin and the end of each fault, in the order in which they are carried out.
pub fn agenda<H>(faults: &[Planned<H>]) -> Vec<Action> {
    let both = |(fault, planned): (usize, &Planned<H>)| {
        let action = |at, begins| Action { at, begins, fault };
        let end = planned.at + planned.lasts;
        [action(planned.at, true), action(end, false)]
    };
    let mut actions: Vec<_> = faults.iter().enumerate().flat_map(both).collect();
    actions.sort();
    actions
}

/// The faults that a plan is made of.
pub trait Vocabulary {
    /// A fault and its target.
    type Hit: Copy;

    /// Draws a fault of a contender, and whether it lasts.
    fn contender(&self, rng: &mut Rng, contender: u32) -> (Self::Hit, bool);

    /// Draws a fault of members: one that hits each of them.
    fn members(&self, rng: &mut Rng) -> Box<dyn Fn(u32) -> Self::Hit>;
}

/// The faults of real processes.
impl Vocabulary for Scope {
    type Hit = Hit;

    fn contender(&self, rng: &mut Rng, contender: u32) -> (Hit, bool) {
        let mishap = mishap(rng, *self);
        let lasts = !matches!(mishap, Mishap::Link(_, Trouble::Cut));
        (Hit::Contender(contender, mishap), lasts)
    }

    fn members(&self, rng: &mut Rng) -> Box<dyn Fn(u32) -> Hit> {
        let outage = match rng.u8(0..100) {
            0..30 if self.isolates => Outage::Isolate,
            0..65 => Outage::Pause,
            _ => Outage::Kill,
        };
        Box::new(move |member| Hit::Member(member, outage))
    }
}

/// A fault and its target.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Hit {
    /// Hits the contender with this number.
    Contender(u32, Mishap),
    /// Hits the server with this number.
    Member(u32, Outage),
}

/// The faults of contenders.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Mishap {
    /// The process is stopped.
    Pause,
    /// The process is killed, and started again when the fault ends.
    Kill,
    /// The link to one member, or to all, has this fault.
    Link(Option<usize>, Trouble),
}

/// The faults of members.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Outage {
    /// The process is stopped.
    Pause,
    /// The process is killed, and started again when the fault ends.
    Kill,
    /// The member is cut off from the others.
    Isolate,
}

impl Hit {
    /// Returns the target of the fault.
    pub fn target(self) -> Target {
        match self {
            Hit::Contender(contender, _) => Target::Contender(contender),
            Hit::Member(member, _) => Target::Member(member),
        }
    }

    /// Returns the name of the fault in reports.
    pub fn name(self) -> &'static str {
        match self {
            Hit::Contender(_, Mishap::Pause) => "contender paused",
            Hit::Contender(_, Mishap::Kill) => "contender killed",
            Hit::Contender(_, Mishap::Link(_, Trouble::Silence)) => "link silent",
            Hit::Contender(_, Mishap::Link(_, Trouble::Delay(_))) => "link slow",
            Hit::Contender(_, Mishap::Link(_, Trouble::Swallow)) => "replies swallowed",
            Hit::Contender(_, Mishap::Link(_, Trouble::Cut)) => "connections cut",
            Hit::Member(_, Outage::Pause) => "server paused",
            Hit::Member(_, Outage::Kill) => "server killed",
            Hit::Member(_, Outage::Isolate) => "server isolated",
        }
    }
}

/// Returns all faults of a run, by the time at which they begin. No two hit one target at a time,
/// and a cluster has a rest after each fault.
pub fn plan<V: Vocabulary>(rng: &mut Rng, scope: Scope, faults: &V) -> Vec<Planned<V::Hit>> {
    let mut planned = vec![];
    for contender in 0..scope.contenders {
        let mut at = scope.ttl.mul_f64(rng.f64() * 3.0);
        while at < scope.length {
            let (hit, lasts) = faults.contender(rng, contender);
            let lasts = match lasts {
                true => length(rng, scope.ttl),
                false => Duration::ZERO,
            };
            planned.push(Planned { at, lasts, hit });
            at += lasts + scope.ttl.mul_f64(1.0 + rng.f64() * 3.0);
        }
    }
    let mut at = scope.ttl.mul_f64(1.0 + rng.f64());
    while at < scope.length {
        let outage = faults.members(rng);
        let lasts = length(rng, scope.ttl);
        let first = rng.u32(0..scope.members);
        // Now and then two members are hit, and the quorum is lost with them.
        let both = scope.members > 1 && rng.u8(0..100) < 15;
        let count = 1 + usize::from(both);
        let members = (0..scope.members).cycle().skip(first as usize);
        planned.extend(members.take(count).map(|member| Planned {
            at,
            lasts,
            hit: outage(member),
        }));
        at += lasts + scope.ttl.mul_f64(2.0 + rng.f64() * 4.0);
    }
    // A fault that would go on after the run ends with the run.
    for fault in &mut planned {
        fault.lasts = fault.lasts.min(scope.length.saturating_sub(fault.at));
    }
    planned.sort_by_key(|fault| fault.at);
    planned
}

fn mishap(rng: &mut Rng, scope: Scope) -> Mishap {
    let one = scope.members > 1 && rng.u8(0..100) < 30;
    let member = one.then(|| rng.u32(0..scope.members) as usize);
    match rng.u8(0..100) {
        0..30 => Mishap::Pause,
        30..45 => Mishap::Kill,
        45..65 => Mishap::Link(member, Trouble::Silence),
        65..80 => Mishap::Link(member, Trouble::Swallow),
        80..95 => {
            let delay = Duration::from_millis(rng.u64(20..800));
            Mishap::Link(member, Trouble::Delay(delay))
        }
        _ => Mishap::Link(member, Trouble::Cut),
    }
}

/// Draws the length of a fault. Two of three are longer than the time to live.
fn length(rng: &mut Rng, ttl: Duration) -> Duration {
    ttl.mul_f64(match rng.u8(0..3) {
        0 => 0.1 + 0.9 * rng.f64(),
        _ => 1.1 + 1.4 * rng.f64(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCOPE: Scope = Scope {
        length: Duration::from_secs(900),
        ttl: Duration::from_secs(3),
        contenders: 6,
        members: 3,
        isolates: true,
    };

    #[test]
    fn a_seed_gives_one_plan_in_which_at_least_half_of_the_faults_outlast_the_ttl() {
        for seed in 0..20 {
            let planned = plan(&mut Rng::with_seed(seed), SCOPE, &SCOPE);
            assert_eq!(planned, plan(&mut Rng::with_seed(seed), SCOPE, &SCOPE));
            let long = planned.iter().filter(|fault| fault.lasts > SCOPE.ttl);
            assert!(long.count() * 2 >= planned.len(), "seed {seed}");
            for name in ["contender paused", "server killed", "server isolated"] {
                let drawn = planned.iter().any(|fault| fault.hit.name() == name);
                assert!(drawn, "seed {seed}: {name}");
            }
        }
    }

    #[test]
    fn no_two_faults_hit_one_target_at_a_time_and_all_end_in_time() {
        let planned = plan(&mut Rng::with_seed(1), SCOPE, &SCOPE);
        for (i, fault) in planned.iter().enumerate() {
            let end = fault.at + fault.lasts;
            assert!(end <= SCOPE.length);
            let same = |other: &&Planned| other.hit.target() == fault.hit.target();
            for other in planned[i + 1..].iter().filter(same) {
                assert!(end < other.at, "{fault:?} and {other:?}");
            }
        }
    }
}
