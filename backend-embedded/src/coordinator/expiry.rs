//! The expiry of leases, in a separate thread so that no commit delays it.

use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use super::shared::{Shared, State};
use crate::machine::{Changes, Machine};

/// The longest time between two checks while there are leases. If the thread wakes later than
/// planned by more than this, the process did not run or could not proceed, and renewals that were
/// sent meanwhile still wait to be applied. So a pause goes unnoticed for at most two ticks. A
/// client that renews at a third of the shortest time to live has more time left than that.
const TICK: Duration = Duration::from_millis(250);

/// Leases expired under one hold of the lock, so that a thousand sessions that die at once do not
/// block everyone else.
const MAX_BATCH: usize = 256;

/// Returns when to check for expired leases next.
fn next_check(machine: &Machine, now: Duration) -> Option<Duration> {
    let first = machine.next_expiry()?;
    Some(first.clamp(now, now + TICK))
}

/// Returns whether leases may be expired now, at a check that was planned for `planned`. After a
/// delay they may not: every lease is extended by the delay, and a tick passes in which the waiting
/// renewals are applied.
fn may_expire(machine: &mut Machine, planned: Duration, now: Duration) -> bool {
    let late = now.saturating_sub(planned);
    if late > TICK {
        tracing::warn!(?late, "woken late; every lease is extended by the delay");
        machine.extend_leases(late);
        return false;
    }
    true
}

/// The expiry. It works in steps. A thread carries them out ([`Expiry::run`]); in a simulation, a task
/// does.
#[derive(Debug)]
pub(super) struct Expiry {
    pub(super) shared: Arc<Shared>,
    /// When the next check is planned for, by the shared clock.
    planned: Option<Duration>,
}

/// What the expiry does next.
pub(super) enum Next {
    /// Waits for this long, or for the first lease. It may end early.
    Wait(Option<Duration>),
    End,
}

impl Expiry {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Expiry {
            shared,
            planned: None,
        }
    }

    /// Runs until the coordinator has stopped.
    pub(super) fn run(mut self) {
        let shared = self.shared.clone();
        let mut state = shared.state();
        loop {
            let next;
            (state, next) = self.step(&shared, state);
            match next {
                Next::Wait(timeout) => state = shared.granted.wait(state, timeout),
                Next::End => break,
            }
        }
        drop(state);
        self.finish_run();
    }

    /// Expires the leases that are to expire now, and returns what comes next.
    pub(super) fn step<'a>(
        &mut self,
        shared: &'a Shared,
        mut state: MutexGuard<'a, State>,
    ) -> (MutexGuard<'a, State>, Next) {
        loop {
            if state.is_over() {
                return (state, Next::End);
            }
            let now = shared.clock().now();
            // The plan stays if the wait for it is interrupted, by a new lease or for no reason: a
            // lease granted meanwhile lives longer than a tick.
            let planned = self.planned.or_else(|| next_check(&state.machine, now));
            self.planned = planned;
            let Some(planned) = planned else {
                return (state, Next::Wait(None));
            };
            if let Some(left) = planned.checked_sub(now)
                && !left.is_zero()
            {
                return (state, Next::Wait(Some(left)));
            }
            self.planned = None;
            if shared.evidence().is_refresh_due() {
                // If the disk takes long for this, the check is late and every lease is extended.
                drop(state);
                let refreshed = shared.refresh_evidence();
                state = shared.state();
                if refreshed.is_err() {
                    continue; // The coordinator has stopped.
                }
            }
            let now = shared.clock().now();
            if state.is_over() {
                continue;
            }
            if !may_expire(&mut state.machine, planned, now) {
                #[cfg(feature = "server")]
                shared.figures().count_delay(now.saturating_sub(planned));
                continue;
            }
            #[cfg(feature = "server")]
            (shared.figures()).note_revision(state.machine.revision(), now);
            for _ in 0..MAX_BATCH {
                let Some(id) = state.machine.first_expired(now) else {
                    break;
                };
                let mut changes = Changes::default();
                if state.machine.revoke(id, &mut changes).is_ok() {
                    tracing::debug!(id, "lease expired");
                    #[cfg(feature = "server")]
                    shared.figures().count_expiry();
                }
                shared.record(&mut state, changes);
            }
            if state.machine.first_expired(now).is_some() {
                drop(state);
                state = shared.state();
            }
        }
    }

    /// Ends a coordinator in memory: there is no committer that could report the end.
    pub(super) fn finish_run(self) {
        let in_memory = self.shared.state().recording.is_none();
        if in_memory {
            self.shared.finish_close();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Limits;
    use crate::machine::op::LeaseId;

    const TTL: Duration = Duration::from_secs(3);

    /// Runs the loop of [`Expiry::run`] on simulated time, and returns when each lease expired. `paused`
    /// maps a time at which the process does not run to the time at which it runs again. While the
    /// process runs, `client` is called every few milliseconds.
    fn simulate(
        machine: &mut Machine,
        end: Duration,
        paused: impl Fn(Duration) -> Option<Duration>,
        mut client: impl FnMut(&mut Machine, Duration),
    ) -> Vec<(LeaseId, Duration)> {
        let mut expired = Vec::new();
        let mut now = Duration::ZERO;
        while now < end {
            let Some(planned) = next_check(machine, now) else {
                break;
            };
            while now < planned {
                now += Duration::from_millis(5);
                now = paused(now).unwrap_or(now);
                // After a pause the expiry thread may be the first to run.
                if now < planned {
                    client(machine, now);
                }
            }
            if may_expire(machine, planned, now) {
                while let Some(id) = machine.first_expired(now) {
                    machine.revoke(id, &mut Changes::default()).unwrap();
                    expired.push((id, now));
                }
            }
            client(machine, now);
        }
        expired
    }

    fn machine_with_leases(ids: &[LeaseId]) -> Machine {
        let mut machine = Machine::new(Limits::default());
        for &id in ids {
            let mut changes = Changes::default();
            machine
                .grant(Duration::ZERO, id, TTL, &mut changes)
                .unwrap();
        }
        machine
    }

    /// Renews lease 1 every third of its time to live, counted from the last renewal.
    fn renewing() -> impl FnMut(&mut Machine, Duration) {
        let mut last = Duration::ZERO;
        move |machine, now| {
            if now >= last + TTL / 3 {
                last = now;
                machine
                    .renew(now, 1)
                    .expect("a lease that is renewed never expires");
            }
        }
    }

    #[test]
    fn a_lease_nobody_renews_expires_within_a_tick() {
        let mut machine = machine_with_leases(&[1, 2]);
        let expired = simulate(&mut machine, TTL * 10, |_| None, renewing());
        let [(2, at)] = expired[..] else {
            panic!("{expired:?}");
        };
        assert!(at >= TTL && at <= TTL + TICK, "{at:?}");
    }

    #[test]
    fn no_pause_expires_a_lease_that_is_renewed() {
        for pause in [100, 240, 260, 499, 510, 1_000, 2_900, 3_100, 6_000, 60_000] {
            let pause = Duration::from_millis(pause);
            for start in (0..4_000).step_by(45).map(Duration::from_millis) {
                let until = start + pause;
                let paused = |now| (start <= now && now < until).then_some(until);
                let mut machine = machine_with_leases(&[1, 2]);
                let expired = simulate(&mut machine, until + TTL * 4, paused, renewing());
                let [(2, at)] = expired[..] else {
                    panic!("paused from {start:?} for {pause:?}: {expired:?}");
                };
                // A lease that is not renewed continues from where it was.
                assert!(at >= TTL && at <= TTL + pause + TICK * 3, "{at:?}");
            }
        }
    }

    #[test]
    fn renewals_that_waited_out_a_pause_are_taken_before_anything_is_judged() {
        let mut machine = machine_with_leases(&[1]);
        // The renewal is sent just before the deadline, while the process does not run.
        let (start, until) = (TTL - Duration::from_millis(100), TTL * 6);
        let mut renewed = false;
        let expired = simulate(
            &mut machine,
            until + TTL / 2,
            |now| (start <= now && now < until).then_some(until),
            |machine, now| {
                if now >= start && !renewed {
                    renewed = true;
                    machine.renew(now, 1).expect("the renewal was sent in time");
                }
            },
        );
        assert_eq!(expired, []);
    }

    #[test]
    fn pauses_over_and_over_do_not_either() {
        let mut chance = fastrand::Rng::with_seed(1);
        let mut pauses = Vec::new();
        let mut at = Duration::ZERO;
        for _ in 0..500 {
            at += Duration::from_millis(chance.u64(20..2_000));
            let until = at + Duration::from_millis(chance.u64(50..8_000));
            pauses.push((at, until));
            at = until;
        }
        let paused = |now| {
            let next = pauses.partition_point(|(_, until)| *until <= now);
            pauses
                .get(next)
                .filter(|(start, _)| *start <= now)
                .map(|(_, until)| *until)
        };
        let mut machine = machine_with_leases(&[1]);
        let expired = simulate(&mut machine, at, paused, renewing());
        assert_eq!(expired, []);
    }
}
