//! The hold of the `turnlock run` that we run inside.

use turnlock::fence::FencingToken;
use turnlock::{LockName, Locks, Mode};

use crate::exit::{Exit, Failure};

/// Where `run` tells its command the portable form of its token.
pub const VARIABLE: &str = "TURNLOCK_FENCING_TOKEN";

/// The token of the innermost hold around us, if there is one.
pub fn token() -> Result<Option<FencingToken>, Failure> {
    let Some(text) = std::env::var_os(VARIABLE).filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let parsed = text.to_string_lossy().parse();
    parsed.map(Some).map_err(|error: turnlock::fence::Error| {
        Failure::new(Exit::Configuration, format!("{VARIABLE}: {error}"))
            .hint("`turnlock run` sets it; leave it as it is, or unset it")
    })
}

/// Whether a hold of this lock would have to wait for the hold around us. The coordinator is asked,
/// and only where the environment tells of the same lock: a daemon keeps that for long.
pub async fn blocks(locks: &Locks, name: &LockName, mode: Mode) -> bool {
    // Whether the variable is sound is for those to say who need it.
    let Ok(Some(outer)) = token() else {
        return false;
    };
    if outer.lock != *name {
        return false;
    }
    let Ok(queue) = locks.queue(name).await else {
        return false;
    };
    let host = rustix::system::uname();
    let host = host.nodename().to_string_lossy();
    let mut holders = queue.entries.iter().take(queue.holders());
    holders.any(|entry| {
        // Two coordinators may count alike.
        let here = entry.metadata.as_ref().is_some_and(|m| m.host == host);
        let alone = entry.mode == Mode::Exclusive || mode == Mode::Exclusive;
        entry.token == outer.token && here && alone
    })
}
