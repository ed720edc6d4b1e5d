//! The subcommands, a file each.

#[cfg(feature = "bench")]
pub mod bench;
pub mod change;
#[cfg(feature = "conformance")]
pub mod chaos;
pub mod completions;
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod edit;
pub mod evict;
pub mod fence;
pub mod hold;
mod identity;
pub mod last_will;
pub mod ls;
pub mod man;
mod names;
pub mod queue;
pub mod run;
#[cfg(feature = "embedded")]
pub mod serve;
pub mod status;
#[cfg(feature = "embedded")]
pub mod stop;
mod supervise;
mod surrounding;
#[cfg(feature = "embedded")]
pub mod system;
pub mod token_offset;

use std::ffi::OsStr;
use std::future::Future;
use std::path::Path;
use std::time::Duration;

use turnlock::{Guard, LockName, Locks, Mode, OnRequeue, OnSessionLoss, Options, Release};

use self::names::name;
use crate::child::Signals;
use crate::cli::{Acquire, FlockFlags, Global};
use crate::coordinator;
use crate::exit::{Exit, Failure};
use crate::output::{inform, narrate};
use crate::waiting;

/// How long an answer to our last words is waited for.
const PARTING: Duration = Duration::from_secs(1);

/// Who has waited for less is shown as if it had not waited at all.
const LONG_WAIT: Duration = Duration::from_secs(1);

/// What a command asks for.
struct Wish<'a> {
    global: &'a Global,
    name: &'a LockName,
    mode: Mode,
    options: &'a Acquire,
    /// What is done under the lock, for others in the queue to see.
    command: String,
}

/// What came of waiting for the lock.
enum Turn {
    /// It is ours. The session ends with [`part`].
    Ours(Locks, Guard),
    /// A signal came that would have ended us, or whoever wanted the lock has gone.
    Interrupted(Exit),
}

/// Connects, and waits for the lock as the options say, until it is not wanted any more.
async fn turn(wish: &Wish<'_>, unwanted: impl Future<Output = Exit>) -> Result<Turn, Failure> {
    let locks = connect(wish).await?;
    let acquired = tokio::select! {
        acquired = acquire(&locks, wish) => acquired,
        exit = unwanted => {
            // Leaves the queue now instead of when the session ends.
            part(&locks).await;
            return Ok(Turn::Interrupted(exit));
        }
    };
    match acquired {
        Ok(Some(guard)) => {
            say_what_was_granted(wish, &guard);
            Ok(Turn::Ours(locks, guard))
        }
        Ok(None) => {
            let ours = surrounding::blocks(&locks, wish.name, wish.mode).await;
            part(&locks).await;
            Err(not_acquired(wish, ours))
        }
        Err(failure) => {
            part(&locks).await;
            Err(failure)
        }
    }
}

/// Resolves when a signal comes that would have ended us.
async fn deadly(signals: &mut Signals) -> Exit {
    Exit::Signal(signals.deadly().await)
}

/// Tells who asked for a longer time to live than the coordinator grants.
fn say_what_was_granted(wish: &Wish<'_>, guard: &Guard) {
    let (granted, asked) = (guard.ttl(), wish.options.ttl);
    if granted < asked {
        inform(format!(
            "{}: the coordinator grants {} s of the {} s asked for (--ttl)",
            wish.name,
            granted.as_secs_f64(),
            asked.as_secs_f64()
        ));
    }
}

/// How a hold with these flags is held; what flock has and we have not is refused.
fn mode(flags: &FlockFlags) -> Result<Mode, Failure> {
    let refused = |why, instead| Err(Failure::new(Exit::Usage, why).hint(instead));
    if flags.unlock {
        return refused(
            "-u: a lock is given back when its command or its `hold` ends, and not by a command of its own",
            "end that one; `turnlock evict NAME` takes a lock away from its holder",
        );
    }
    if flags.no_fork {
        return refused(
            "-F: turnlock stays beside the command, to renew the lock and to stop the command if it is lost",
            "leave it out: signals, standard streams and the exit status pass through all the same",
        );
    }
    Ok(if flags.shared {
        Mode::Shared
    } else {
        Mode::Exclusive
    })
}

/// The name of a program as others in the queue see it: arguments may have secrets.
fn shown(program: &OsStr) -> String {
    let base = Path::new(program).file_name().unwrap_or(program);
    base.to_string_lossy().into_owned()
}

async fn connect(wish: &Wish<'_>) -> Result<Locks, Failure> {
    let options = Options {
        ttl: wish.options.ttl,
        owner: identity::user(),
        // It is for people, who can read around what is not UTF-8.
        note: wish
            .options
            .note
            .as_ref()
            .map(|note| note.to_string_lossy().into_owned()),
        command: Some(wish.command.clone()),
        announces: true,
        on_session_loss: OnSessionLoss::Requeue,
        // The machine slept, or the coordinator was away for longer than our time to live.
        on_requeue: Some(OnRequeue::new(|name, error| {
            inform(format!(
                "{name}: lost our place in the queue ({error}); queueing again"
            ));
        })),
    };
    coordinator::connect(wish.global.backend.as_deref(), options).await
}

/// Waits for the lock as the options say; `None` if somebody else has it.
async fn acquire(locks: &Locks, wish: &Wish<'_>) -> Result<Option<Guard>, Failure> {
    let name = wish.name;
    if !tries(wish.options) && surrounding::blocks(locks, name, wish.mode).await {
        return Err(Failure::new(
            Exit::Usage,
            format!("{name}: the `turnlock run` around this command holds it, so this would wait for itself"),
        )
        .hint("leave out the inner `turnlock run`, or give the inner work a lock of its own"));
    }
    let started = tokio::time::Instant::now();
    let waiting = waiting::report(locks, name);
    let acquired = tokio::select! {
        biased;
        acquired = queue_up(locks, name, wish.mode, wish.options) => acquired,
        never = waiting => match never {},
    }?;
    if let Some(guard) = &acquired {
        narrate(format!(
            "{name}: acquired ({}) after {:.3} s, token {}",
            guard.mode(),
            started.elapsed().as_secs_f64(),
            guard.token()
        ));
        if started.elapsed() > LONG_WAIT {
            announce(guard).await;
        }
    }
    Ok(acquired)
}

/// Lets others know that we hold the lock since now, and not since we queue. They can do without.
async fn announce(guard: &Guard) {
    let announced = tokio::time::timeout(PARTING, guard.announce()).await;
    if !matches!(announced, Ok(Ok(()))) {
        narrate(format!(
            "{}: `turnlock queue` will show it as held since it was asked for",
            guard.name()
        ));
    }
}

/// To wait for no time is to try.
fn tries(options: &Acquire) -> bool {
    options.nonblock || options.wait.is_some_and(|limit| limit.is_zero())
}

async fn queue_up(
    locks: &Locks,
    name: &LockName,
    mode: Mode,
    options: &Acquire,
) -> Result<Option<Guard>, Failure> {
    let lock = locks.rwlock(name)?;
    let acquired = match (tries(options), options.wait, mode) {
        (true, _, Mode::Shared) => lock.try_read().await,
        (true, _, Mode::Exclusive) => lock.try_write().await,
        (false, Some(limit), Mode::Shared) => lock.read_timeout(limit).await,
        (false, Some(limit), Mode::Exclusive) => lock.write_timeout(limit).await,
        (false, None, Mode::Shared) => lock.read().await.map(Some),
        (false, None, Mode::Exclusive) => lock.write().await.map(Some),
    };
    Ok(acquired?)
}

/// The failure of a lock that somebody else has; `ours` if that is the command that we run under.
fn not_acquired(wish: &Wish<'_>, ours: bool) -> Failure {
    let (name, options) = (wish.name, wish.options);
    let message = match options.wait {
        Some(limit) => format!("{name}: not acquired within {} s", limit.as_secs_f64()),
        None => format!("{name}: somebody else has the lock"),
    };
    let failure = Failure::new(Exit::Of(options.conflict_exit_code), message).expected();
    if ours {
        return failure.hint("it is the `turnlock run` around this command that holds it");
    }
    failure.hint(format!(
        "`turnlock queue {}{name}` shows who",
        if options.raw { "--raw " } else { "" }
    ))
}

/// Ends the session, so that nothing of ours stays in a queue. A coordinator that does not answer
/// is not waited for: the session ends with its time to live.
async fn part(locks: &Locks) {
    let _ = tokio::time::timeout(PARTING, locks.close()).await;
}

/// Gives the lock back. An answer that takes too long is not waited for.
async fn release(guard: Guard) -> Release {
    let name = guard.name().clone();
    let released = tokio::time::timeout(PARTING, guard.release())
        .await
        .unwrap_or(Release::Unknown);
    if released == Release::Released {
        narrate(format!("{name}: released"));
    }
    released
}
