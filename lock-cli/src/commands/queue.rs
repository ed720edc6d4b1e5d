//! `turnlock queue`: who holds a lock and who waits for it, in order.

use serde_json::json;
use turnlock::{Entry, Options};

use crate::cli::{Global, Queue};
use crate::commands::name;
use crate::coordinator;
use crate::exit::{Exit, Failure};
use crate::output::{age, human, print, safe, table, who};

pub async fn queue(global: Global, args: Queue) -> Result<Exit, Failure> {
    let name = name(&args.name, args.raw)?;
    let url = global.backend.as_deref();
    let queue = match coordinator::connect_existing(url, Options::default()).await? {
        Some(locks) => locks.queue(&name).await?,
        None => turnlock::Queue {
            name,
            entries: vec![],
        },
    };
    let holders = queue.holders();
    let states = (0..queue.entries.len()).map(|i| if i < holders { "holds" } else { "waits" });
    if global.json {
        for (state, entry) in states.zip(&queue.entries) {
            print(line(state, entry).to_string()).ok();
        }
        return Ok(Exit::Success);
    }
    let mut rows = vec![
        ["STATE", "MODE", "TOKEN", "AGE", "WHO", "NOTE"]
            .map(str::to_owned)
            .to_vec(),
    ];
    rows.extend(
        states
            .zip(&queue.entries)
            .map(|(state, entry)| row(state, entry)),
    );
    if rows.len() > 1 {
        print(table(&rows)).ok();
    }
    Ok(Exit::Success)
}

fn row(state: &str, entry: &Entry) -> Vec<String> {
    let note = entry.metadata.as_ref().and_then(|m| m.note.as_deref());
    vec![
        state.to_owned(),
        entry.mode.to_string(),
        entry.token.to_string(),
        age(entry).map_or_else(|| "-".to_owned(), human),
        who(entry),
        note.map(safe).unwrap_or_default(),
    ]
}

fn line(state: &str, entry: &Entry) -> serde_json::Value {
    let metadata = entry.metadata.clone().unwrap_or_default();
    json!({
        "state": state,
        "mode": entry.mode,
        "token": entry.token,
        "session": entry.session.map(|session| session.to_string()),
        "owner": metadata.owner,
        "host": metadata.host,
        "pid": metadata.pid,
        "since_unix_ms": metadata.since_unix_ms,
        "note": metadata.note,
    })
}
