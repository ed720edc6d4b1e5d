//! `turnlock hold`: hold a lock until a signal comes.

use serde_json::json;
use turnlock::Release;

use crate::child::Signals;
use crate::cli::{Global, Hold};
use crate::commands::{Turn, mode, name, part, release, turn};
use crate::exit::{Exit, Failure};
use crate::output::{print, say};

pub async fn hold(global: Global, args: Hold) -> Result<Exit, Failure> {
    let name = name(&args.name, args.acquire.raw)?;
    let mut signals = Signals::install()?;
    let mode = mode(args.shared);
    let (locks, guard) = match turn(&global, &name, mode, &args.acquire, &mut signals).await? {
        Turn::Ours(locks, guard) => (locks, guard),
        Turn::Interrupted(exit) => return Ok(exit),
    };
    let token = guard.token();
    let shown = match global.json {
        true => json!({"name": name.as_str(), "mode": guard.mode(), "token": token}).to_string(),
        false => token.to_string(),
    };
    // Whoever reads our stdout may be gone; the lock is held all the same.
    print(shown).ok();
    let (lost, signal) = tokio::select! {
        reason = guard.lost() => (Some(reason), None),
        signal = signals.deadly() => (None, Some(signal)),
    };
    // A TERM is how it is meant to end. Ctrl-C is for the script around us as well.
    let ended = signal
        .filter(|signal| signal.is_a_terminals())
        .map_or(Exit::Success, Exit::Signal);
    let released = release(guard).await;
    part(&locks).await;
    match (lost, released) {
        (Some(reason), _) => Err(Failure::new(Exit::Lost, format!("{name}: lost: {reason}"))),
        (None, Release::AlreadyGone) => Err(Failure::new(
            Exit::Lost,
            format!("{name}: the lock had been lost before the release"),
        )),
        (None, Release::Released) => Ok(ended),
        (None, Release::Unknown) => {
            say(format!(
                "{name}: the coordinator did not answer the release; the lock is free within {} s",
                args.acquire.ttl.as_secs_f64()
            ));
            Ok(ended)
        }
    }
}
