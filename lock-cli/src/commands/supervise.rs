//! Supervises a command that runs under a lock: gives the command the facts about its hold, and
//! stops the command when the lock is lost.

use std::ffi::OsString;
use std::time::Duration;

use turnlock::clock::{BootInstant, Clock};
use turnlock::fence::FencingToken;
use turnlock::{AnyGuard, LockName, SessionId, State, clock};

use crate::child::{Child, Deadline, Ended, Error};
use crate::cli::OnLost;
use crate::commands::HoldKey;
use crate::commands::outer_hold;
use crate::exit::{Exit, Failure};
use crate::output::say;
use crate::trace;

/// The time before the deadline at which KILL is sent at the latest. The kernel needs a moment to
/// end a process.
const KILL_RESERVE: Duration = Duration::from_millis(100);

/// The share of the time left by renewals that can be relied on, because a renewal may be a little
/// late.
const PUNCTUALITY: f64 = 0.9;

/// Returns the time between TERM and KILL if the user gave none: a fifth of the granted time to
/// live.
pub fn default_grace(guard: &AnyGuard) -> Duration {
    (guard.ttl() / 5).min(longest_grace(guard))
}

/// Returns the longest time between TERM and KILL that does not stop the command while renewals
/// succeed.
pub fn longest_grace(guard: &AnyGuard) -> Duration {
    guard
        .min_remaining()
        .mul_f64(PUNCTUALITY)
        .saturating_sub(KILL_RESERVE)
}

/// Returns the time when the watchdog kills everything that runs under this hold, unless the hold
/// is renewed. It comes after this process has had its turn to stop the command politely, and
/// before the deadline.
pub fn kill_at(guard: &AnyGuard) -> BootInstant {
    Clock::system().now() + guard.remaining().saturating_sub(KILL_RESERVE / 2)
}

/// Returns the variables that describe the hold to the command, and its place in the trace. They are
/// set after the inherited ones, so that they override those of an outer hold. Without a key, the
/// command's own entries are not tied to the hold.
pub fn environment(
    guard: &AnyGuard,
    key: Option<(SessionId, &HoldKey)>,
) -> Vec<(OsString, OsString)> {
    let deadline =
        clock::unix_millis() + u64::try_from(guard.remaining().as_millis()).unwrap_or(u64::MAX);
    let hold = fencing_token(guard);
    let key = key.map(|(session, key)| outer_hold::key_variable(session, key, &hold));
    let of_hold = [
        ("TURNLOCK_NAME", guard.name().to_string()),
        ("TURNLOCK_TOKEN", guard.token().to_string()),
        ("TURNLOCK_MODE", guard.mode().to_string()),
        (outer_hold::VARIABLE, hold.to_string()),
        (outer_hold::KEY_VARIABLE, key.unwrap_or_default()),
        // The deadline at the start of the command: renewals move it on while the command runs.
        ("TURNLOCK_DEADLINE_UNIX_MS", deadline.to_string()),
    ]
    .map(|(key, value)| (key.into(), value.into()));
    of_hold.into_iter().chain(trace::environment()).collect()
}

/// Returns the portable form of the token. A reader has a token too, whose mode forbids writes.
fn fencing_token(guard: &AnyGuard) -> FencingToken {
    FencingToken::new(guard.name().clone(), guard.token()).with_mode(guard.mode())
}

/// Waits for the command to end, and stops the command when the lock is lost or about to be lost.
/// Returns how the command ended, and whether the lock was lost.
pub async fn supervise(
    child: &mut Child,
    guard: &AnyGuard,
    on_lost: OnLost,
    grace: Duration,
) -> Result<(Ended, bool), Failure> {
    let name = guard.name();
    let reserve = match on_lost {
        OnLost::Term => grace + KILL_RESERVE,
        OnLost::Kill | OnLost::Ignore => KILL_RESERVE,
    };
    let deadline = match on_lost {
        OnLost::Ignore => None,
        OnLost::Term | OnLost::Kill => Some(child.deadline()),
    };
    tokio::select! {
        biased;
        ended = child.wait() => {
            let ended = ended.map_err(|error| runs_on(name, &error))?;
            if child.was_unwatched() {
                say(format!(
                    "{name}: the watchdog process was killed; the command has been stopped"));
            }
            let State::Lost(reason) = guard.state() else {
                return Ok((ended, false));
            };
            say(format!("{name}: the lock is lost: {reason}; the command has ended"));
            return Ok((ended, true));
        }
        () = wait_until_reserve(guard, reserve, deadline.as_ref()) => {}
    }
    let why = match guard.state() {
        State::Lost(reason) => format!("the lock is lost: {reason}"),
        _ => "the lock could not be renewed and will soon be lost".to_owned(),
    };
    if on_lost == OnLost::Ignore {
        say(format!("{name}: {why}; the command runs on, as asked"));
        let ended = child.wait().await.map_err(|error| runs_on(name, &error))?;
        return Ok((ended, matches!(guard.state(), State::Lost(_))));
    }
    say(format!("{name}: {why}; stopping the command"));
    // Past the deadline another client may hold the lock, so there is no time left to be polite.
    let left = guard.remaining().saturating_sub(KILL_RESERVE);
    let term = on_lost == OnLost::Term && !left.is_zero();
    let stopped = child.stop(term, left.min(grace)).await;
    stopped
        .map(|ended| (ended, true))
        .map_err(|error| runs_on(name, &error))
}

/// Returns the failure for a command of which a process still runs as another user. This process
/// cannot end such a process, and soon the lock does not cover it.
fn runs_on(name: &LockName, error: &Error) -> Failure {
    Failure::new(Exit::Lost, format!("{name}: {error}; it runs on"))
}

/// Waits until the lock is lost, or until less than `reserve` is left before the deadline. Reports
/// each new deadline to the watchdog meanwhile.
async fn wait_until_reserve(guard: &AnyGuard, reserve: Duration, watchdog: Option<&Deadline>) {
    // Timers stop while the machine sleeps, but the deadline does not move.
    const LONGEST_SLEEP: Duration = Duration::from_millis(500);
    loop {
        let remaining = guard.remaining();
        if let Some(watchdog) = watchdog {
            watchdog.set(kill_at(guard));
        }
        let spare = remaining.saturating_sub(reserve);
        if spare.is_zero() {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(spare.min(LONGEST_SLEEP)) => {}
            _ = guard.lost() => return,
        }
    }
}
