//! Acquires a lock for a command: connects, queues, reports the wait, and gives up when the lock is
//! not wanted any more.

use std::ffi::OsStr;
use std::future::Future;
use std::path::Path;
use std::time::Duration;

use turnlock::nesting::Nesting;
use turnlock::{AcquireOptions, AnyGuard, LockName, Locks, Mode, OnSessionLoss, Options};

use crate::child::Signals;
use crate::cli::{Acquire, FlockFlags, Global};
use crate::commands::release::{REPLY_LIMIT, close_session};
use crate::commands::{hold_key::HoldKey, identity, outer_hold};
use crate::coordinator;
use crate::exit::{Exit, Failure};
use crate::output::{inform, narrate};
use crate::waiting;

/// A lock that was waited for no longer than this is shown as held since its entry was queued.
const LONG_WAIT: Duration = Duration::from_secs(1);

/// The lock that a command needs.
pub struct Request<'a> {
    pub global: &'a Global,
    pub name: &'a LockName,
    pub mode: Mode,
    pub options: &'a Acquire,
    /// The description of the work under the lock, for others in the queue to see.
    pub command: String,
    /// The key by which the programs under the lock are tied to it, if there are any.
    pub key: Option<&'a HoldKey>,
}

/// The result of a request that did not fail.
pub enum Acquisition {
    /// The lock is held. The session has to be ended with [`close_session`].
    Held(Locks, AnyGuard),
    /// The lock was not wanted any more, for instance because a signal arrived.
    Abandoned(Exit),
}

/// Connects and waits for the lock as the options say, until `abandoned` resolves.
pub async fn acquire(
    request: &Request<'_>,
    abandoned: impl Future<Output = Exit>,
) -> Result<Acquisition, Failure> {
    let locks = connect(request).await?;
    let acquired = tokio::select! {
        acquired = wait_for_lock(&locks, request) => acquired,
        exit = abandoned => {
            // Leaves the queue now instead of when the session ends.
            close_session(&locks).await;
            return Ok(Acquisition::Abandoned(exit));
        }
    };
    match acquired {
        Ok(Some(guard)) => {
            report_shorter_ttl(request, &guard);
            Ok(Acquisition::Held(locks, guard))
        }
        Ok(None) => {
            let by_outer = outer_hold::blocks(&locks, request.name, request.mode).await;
            close_session(&locks).await;
            Err(not_acquired(request, by_outer))
        }
        Err(failure) => {
            close_session(&locks).await;
            Err(failure)
        }
    }
}

/// Waits for a signal that would have ended this process.
pub async fn wait_for_deadly_signal(signals: &mut Signals) -> Exit {
    Exit::Signal(signals.wait_for_deadly().await)
}

/// Reads the mode of the hold from the flags. A flag that flock has and turnlock does not have is
/// refused with the reason.
pub fn parse_mode(flags: &FlockFlags) -> Result<Mode, Failure> {
    let refuse = |reason, instead| Err(Failure::new(Exit::Usage, reason).hint(instead));
    if flags.unlock {
        return refuse(
            "-u: a lock is given back when its command or its `hold` ends, and not by a command \
             of its own",
            "end that one; `turnlock evict NAME` takes a lock away from its holder",
        );
    }
    if flags.no_fork {
        return refuse(
            "-F: turnlock stays beside the command, to renew the lock and to stop the command if \
             it is lost",
            "leave it out: signals, standard streams and the exit status pass through all the same",
        );
    }
    Ok(if flags.shared {
        Mode::Shared
    } else {
        Mode::Exclusive
    })
}

/// Returns the name of a program as others in the queue see it. Its arguments are left out: they
/// may have secrets.
pub fn display_name(program: &OsStr) -> String {
    let base = Path::new(program).file_name().unwrap_or(program);
    base.to_string_lossy().into_owned()
}

async fn connect(request: &Request<'_>) -> Result<Locks, Failure> {
    let mut options = Options::default()
        .with_ttl(request.options.ttl)
        .with_owner(identity::user_name())
        .with_command(request.command.clone())
        .with_announces(true)
        .with_on_session_loss(OnSessionLoss::Requeue)
        // The machine slept, or the coordinator was away for longer than our time to live.
        .with_on_requeue(|name, error| {
            inform(format!(
                "{name}: lost our place in the queue ({error}); queueing again"
            ));
        });
    let key = request.key.map(HoldKey::public);
    let outer = outer_hold::Outer::from_environment();
    if key.is_some() || outer.is_some() {
        options = options.with_nesting(move |session| {
            let mut nesting = Nesting::default();
            nesting.key = key;
            nesting.outer = outer.as_ref().map(|outer| outer.claim(session));
            nesting
        });
    }
    // The note is for people, who can read around bytes that are not UTF-8.
    let note = request.options.note.as_ref();
    options.note = note.map(|note| note.to_string_lossy().into_owned());
    coordinator::connect(request.global.backend.as_deref(), options).await
}

/// Waits for the lock as the options say. Returns `None` if somebody else has it.
async fn wait_for_lock(locks: &Locks, request: &Request<'_>) -> Result<Option<AnyGuard>, Failure> {
    let name = request.name;
    if !is_try(request.options) && outer_hold::blocks(locks, name, request.mode).await {
        return Err(Failure::new(
            Exit::Usage,
            format!(
                "{name}: the `turnlock run` around this command holds it, so this would wait for \
                 itself"
            ),
        )
        .hint("leave out the inner `turnlock run`, or give the inner work a lock of its own"));
    }
    let started = tokio::time::Instant::now();
    let report = waiting::report(locks, name);
    let acquired = tokio::select! {
        biased;
        acquired = queue_up(locks, name, request.mode, request.options) => acquired,
        never = report => match never {},
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

async fn queue_up(
    locks: &Locks,
    name: &LockName,
    mode: Mode,
    options: &Acquire,
) -> Result<Option<AnyGuard>, Failure> {
    let request = AcquireOptions::new().mode(mode);
    let request = match (is_try(options), options.wait) {
        (true, _) => request.no_wait(),
        (false, Some(limit)) => request.timeout(limit),
        (false, None) => request,
    };
    Ok(locks.rwlock(name)?.acquire_with(request).await?)
}

/// Returns whether the lock is only tried for: to wait for no time is to try.
fn is_try(options: &Acquire) -> bool {
    options.nonblock || options.wait.is_some_and(|limit| limit.is_zero())
}

/// Reports to others that the lock is held since now, and not since its entry was queued. A failure
/// is ignored, because they can do without.
async fn announce(guard: &AnyGuard) {
    let announced = tokio::time::timeout(REPLY_LIMIT, guard.announce()).await;
    if !matches!(announced, Ok(Ok(()))) {
        narrate(format!(
            "{}: `turnlock queue` will show it as held since it was asked for",
            guard.name()
        ));
    }
}

/// Reports on stderr that the coordinator granted a shorter time to live than was asked for.
fn report_shorter_ttl(request: &Request<'_>, guard: &AnyGuard) {
    let (granted, asked) = (guard.ttl(), request.options.ttl);
    if granted < asked {
        inform(format!(
            "{}: the coordinator grants {} s of the {} s asked for (--ttl)",
            request.name,
            granted.as_secs_f64(),
            asked.as_secs_f64()
        ));
    }
}

/// Makes the failure of a lock that somebody else has. `by_outer` means that the holder is the
/// command under which this command runs.
fn not_acquired(request: &Request<'_>, by_outer: bool) -> Failure {
    let (name, options) = (request.name, request.options);
    let message = match options.wait {
        Some(limit) => format!("{name}: not acquired within {} s", limit.as_secs_f64()),
        None => format!("{name}: somebody else has the lock"),
    };
    let failure = Failure::new(Exit::Of(options.conflict_exit_code), message).hide_if_quiet();
    if by_outer {
        return failure.hint("it is the `turnlock run` around this command that holds it");
    }
    failure.hint(format!(
        "`turnlock queue {}{name}` shows who",
        if options.raw { "--raw " } else { "" }
    ))
}
