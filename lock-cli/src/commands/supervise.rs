//! A command that runs under a lock: what it learns of its hold, and its end when the lock is lost.

use std::ffi::OsString;
use std::time::Duration;

use turnlock::clock::{BootInstant, Clock};
use turnlock::fence::FencingToken;
use turnlock::{AnyGuard, LockName, State, clock};

use crate::child::{Child, Deadline, Ended, Error};
use crate::cli::OnLost;
use crate::commands::outer_hold;
use crate::exit::{Exit, Failure};
use crate::output::say;

/// KILL comes this long before the deadline at the latest: the kernel needs a moment to end a
/// process.
const KILL_RESERVE: Duration = Duration::from_millis(100);

/// What renewals leave is not counted on to the last: one may be a little late.
const PUNCTUALITY: f64 = 0.9;

/// The time between TERM and KILL if none is asked for: a fifth of the time to live that was granted.
pub fn default_grace(guard: &AnyGuard) -> Duration {
    (guard.ttl() / 5).min(longest_grace(guard))
}

/// The longest time between TERM and KILL that does not stop the command while all is well.
pub fn longest_grace(guard: &AnyGuard) -> Duration {
    guard
        .assured()
        .mul_f64(PUNCTUALITY)
        .saturating_sub(KILL_RESERVE)
}

/// Returns when the watchdog kills what runs under this hold, unless the hold is renewed: after our own
/// turn to be polite, before the deadline.
pub fn kill_at(guard: &AnyGuard) -> BootInstant {
    Clock::system().now() + guard.remaining().saturating_sub(KILL_RESERVE / 2)
}

/// What the command learns of its hold. Set after the inherited ones: those of an outer hold must
/// not win.
pub fn environment(guard: &AnyGuard) -> Vec<(OsString, OsString)> {
    let deadline =
        clock::unix_millis() + u64::try_from(guard.remaining().as_millis()).unwrap_or(u64::MAX);
    [
        ("TURNLOCK_NAME", guard.name().to_string()),
        ("TURNLOCK_TOKEN", guard.token().to_string()),
        ("TURNLOCK_MODE", guard.mode().to_string()),
        (outer_hold::VARIABLE, fencing_token(guard).to_string()),
        // As of the start: renewals move it on while the command runs.
        ("TURNLOCK_DEADLINE_UNIX_MS", deadline.to_string()),
    ]
    .map(|(key, value)| (key.into(), value.into()))
    .to_vec()
}

/// Returns the portable form of the token. A reader has one too: it says that nothing may be written.
fn fencing_token(guard: &AnyGuard) -> FencingToken {
    FencingToken {
        mode: guard.mode(),
        ..FencingToken::new(guard.name().clone(), guard.token())
    }
}

/// Waits for the command to end, and stops it when the lock is lost or about to be. Answers how it
/// ended and whether the lock was lost.
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
                say(format!("{name}: the watchdog process was killed; the command has been stopped"));
            }
            let State::Lost(reason) = guard.state() else {
                return Ok((ended, false));
            };
            say(format!("{name}: the lock is lost: {reason}; the command has ended"));
            return Ok((ended, true));
        }
        () = beyond_hope(guard, reserve, deadline.as_ref()) => {}
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
    // Past the deadline another may hold: then there is no time left to be polite.
    let left = guard.remaining().saturating_sub(KILL_RESERVE);
    let term = on_lost == OnLost::Term && !left.is_zero();
    let stopped = child.stop(term, left.min(grace)).await;
    stopped
        .map(|ended| (ended, true))
        .map_err(|error| runs_on(name, &error))
}

/// Something of it runs as another user: it is not under our control, and soon not under the lock.
fn runs_on(name: &LockName, error: &Error) -> Failure {
    Failure::new(Exit::Lost, format!("{name}: {error}; it runs on"))
}

/// Resolves when less than `reserve` is left before the deadline, renewals or not, or the lock is
/// lost. Meanwhile it keeps the watchdog informed.
async fn beyond_hope(guard: &AnyGuard, reserve: Duration, watchdog: Option<&Deadline>) {
    // Timers stand still while the machine sleeps; the deadline does not.
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
