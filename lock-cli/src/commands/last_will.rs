//! Releases a lock whose `turnlock` was killed, once its command has been ended. Otherwise the lock
//! would stay taken until its session ends, a time to live later.

use std::io::{self, Read};
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};
use turnlock::{AnyGuard, EntryId, Incarnation, LockName, Options};

use crate::child::LAST_WILL;
use crate::cli::Global;
use crate::coordinator;

/// The time limit for the coordinator to reply. After that the session ends by itself.
const LIMIT: Duration = Duration::from_secs(10);

/// Encodes the entry to be removed and its queue.
pub fn to_bytes(global: &Global, guard: &AnyGuard) -> Vec<u8> {
    let (name, entry) = (guard.name(), guard.entry());
    let will = json!({
        "backend": global.backend,
        "name": name.as_str(),
        "raw": name.is_raw(),
        "key": &entry.key[..],
        "token": entry.incarnation.map(Incarnation::get),
    });
    will.to_string().into_bytes()
}

/// Removes the entry, if this process was started for that. Returns the exit status, or `None` in
/// any other process.
pub fn helper_main() -> Option<ExitCode> {
    if std::env::args_os().nth(1)? != LAST_WILL {
        return None;
    }
    let mut will = String::new();
    let read = io::stdin().read_to_string(&mut will);
    // Nobody would read an error message. The session ends by itself.
    let done = read.ok().and_then(|_| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .ok()?;
        let will = serde_json::from_str(&will).ok()?;
        runtime.block_on(async { tokio::time::timeout(LIMIT, carry_out(&will)).await.ok()? })
    });
    Some(match done {
        Some(()) => ExitCode::SUCCESS,
        None => ExitCode::FAILURE,
    })
}

async fn carry_out(will: &Value) -> Option<()> {
    let name = will["name"].as_str()?;
    let name = match will["raw"].as_bool()? {
        true => LockName::raw(name),
        false => LockName::new(name),
    };
    let byte = |byte: &Value| u8::try_from(byte.as_u64()?).ok();
    let key: Option<Vec<u8>> = will["key"].as_array()?.iter().map(byte).collect();
    let entry = EntryId {
        key: key?.into(),
        incarnation: Some(Incarnation::new(will["token"].as_u64()?)?),
    };
    let backend = will["backend"].as_str();
    let locks = coordinator::connect(backend, Options::default())
        .await
        .ok()?;
    locks.evict(&name.ok()?, &entry).await.ok()?;
    Some(())
}
