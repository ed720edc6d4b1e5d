//! Reads the hold of the `turnlock run` under which this process runs, if there is one.

use turnlock::fence::FencingToken;
use turnlock::{LockName, Locks, Mode};

use crate::exit::{Exit, Failure};

/// The variable in which `turnlock run` passes its command the portable form of its token.
pub const VARIABLE: &str = "TURNLOCK_FENCING_TOKEN";

/// Reads the token of the innermost hold around this process, if there is one.
///
/// # Errors
/// With the status of a wrong configuration if the variable has no token.
pub fn read_token() -> Result<Option<FencingToken>, Failure> {
    let Some(text) = std::env::var_os(VARIABLE).filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let parsed = text.to_string_lossy().parse();
    parsed.map(Some).map_err(|error: turnlock::fence::Error| {
        Failure::new(Exit::Configuration, format!("{VARIABLE}: {error}"))
            .hint("`turnlock run` sets it; leave it as it is, or unset it")
    })
}

/// Returns whether a hold of this lock would have to wait for the hold around this process. The
/// environment alone does not show that, because a daemon keeps its variables for long. If it names
/// the same lock, the coordinator's queue decides.
pub async fn blocks(locks: &Locks, name: &LockName, mode: Mode) -> bool {
    // A malformed variable is reported by the commands that need it.
    let Ok(Some(outer)) = read_token() else {
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
        // The tokens of two coordinators may be the same.
        let is_here = entry.metadata.as_ref().is_some_and(|m| m.host == host);
        let excludes = entry.mode == Mode::Exclusive || mode == Mode::Exclusive;
        entry.token == outer.token && is_here && excludes
    })
}
