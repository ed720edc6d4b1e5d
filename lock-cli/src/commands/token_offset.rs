//! `turnlock token-offset`: keep tokens from falling when a fleet moves to another coordinator.

use serde_json::json;
use turnlock::{Locks, Options, Raised};

use crate::cli::{Global, TokenOffset};
use crate::commands::release::close_session;
use crate::coordinator;
use crate::exit::{Exit, Failure};
use crate::output::{inform, print, print_json};

/// The lock that is acquired to see its token, and released at once.
const PROBE: &str = "@floor";

pub async fn token_offset(global: Global, args: TokenOffset) -> Result<Exit, Failure> {
    let locks = coordinator::connect(global.backend.as_deref(), Options::default()).await?;
    let offset = match args.raise_to {
        Some(offset) => raise(&locks, offset).await?,
        None => acquire_token(&locks).await?,
    };
    match global.json {
        // A string, as tokens are.
        true => print_json(&json!({ "token_offset": offset.to_string() })),
        false => print(offset.to_string()),
    }?;
    Ok(Exit::Success)
}

async fn raise(locks: &Locks, offset: u64) -> Result<u64, Failure> {
    match locks.raise_token_offset(offset).await? {
        Raised::To(offset) => Ok(offset.get()),
        _ => Err(Failure::new(
            Exit::NotAcquired,
            "the offset cannot be raised while locks are in use",
        )
        .hint(
            "stop all users of locks here: `turnlock ls` shows them; on ZooKeeper, a session \
             without a lock is in the way, too",
        )),
    }
}

/// Acquires a lock and returns its token. A coordinator numbers the holds of all locks from one
/// counter, so that token is the highest one.
async fn acquire_token(locks: &Locks) -> Result<u64, Failure> {
    if !locks.list("", None, 1).await?.is_empty() {
        inform("locks are in use: their next tokens will be higher than this");
    }
    let guard = locks.mutex(PROBE)?.acquire().await?;
    let offset = guard.token().0;
    close_session(locks).await;
    Ok(offset)
}
