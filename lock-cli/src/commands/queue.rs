//! `turnlock queue`: show the holders and waiters of a lock, in order.

use serde_json::json;
use turnlock::{Entry, Metadata, Options};

use crate::cli::{Global, Queue};
use crate::commands::names::parse_name;
use crate::coordinator;
use crate::exit::{Exit, Failure};
use crate::output::{
    Shrinks, describe_owner, escape_controls, format_age, format_queued, format_table, print,
    print_json,
};

/// The word for an entry that holds the lock.
const HOLDS: &str = "holds";

/// The columns that are shortened on a narrow terminal: first the note, then the command, then the
/// owner.
const SHRINKS: &[Shrinks] = &[(7, 8), (6, 8), (5, 8)];

pub async fn queue(global: Global, args: Queue) -> Result<Exit, Failure> {
    let name = parse_name(&args.name, args.raw)?;
    let url = global.backend.as_deref();
    let queue = match coordinator::connect_existing(url, Options::default()).await? {
        Some(locks) => locks.queue(&name).await?,
        None => turnlock::Queue::new(name.clone(), vec![]),
    };
    let holders = queue.holders();
    let states = (0..queue.entries.len()).map(|i| if i < holders { HOLDS } else { "waits" });
    let entries = states.zip(&queue.entries);
    if global.json {
        for (state, entry) in entries {
            print_json(&to_json(state, entry))?;
        }
        return Ok(Exit::Success);
    }
    if queue.entries.is_empty() {
        print(format!("nobody holds or waits for {name}"))?;
        return Ok(Exit::Success);
    }
    let head = [
        "STATE", "MODE", "TOKEN", "QUEUED", "HELD", "WHO", "COMMAND", "NOTE",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(entries.map(|(state, entry)| to_row(state, entry)));
    print(format_table(&rows, SHRINKS))?;
    Ok(Exit::Success)
}

/// Returns the time at which a holder acquired the lock, in milliseconds since the Unix epoch, if
/// its entry has it.
pub fn held_since(entry: &Entry) -> Option<u64> {
    let metadata = entry.metadata.as_ref()?;
    let held = match metadata.held_unix_ms? {
        0 => metadata.since_unix_ms,
        announced => announced,
    };
    Some(held).filter(|ms| *ms != 0)
}

/// Returns since when an entry is in its queue, in milliseconds since the Unix epoch, if it says so.
pub fn queued_since(entry: &Entry) -> Option<u64> {
    let metadata = entry.metadata.as_ref()?;
    Some(metadata.since_unix_ms).filter(|ms| *ms != 0)
}

fn to_row(state: &str, entry: &Entry) -> Vec<String> {
    let held = held_since(entry).filter(|_| state == HOLDS);
    let text_of = |field: fn(&Metadata) -> Option<&str>| {
        let text = entry.metadata.as_ref().and_then(field);
        text.map(escape_controls).unwrap_or_default()
    };
    vec![
        state.to_owned(),
        entry.mode.to_string(),
        entry.token.to_string(),
        format_queued(entry).unwrap_or_else(|| "-".to_owned()),
        held.map_or_else(|| "-".to_owned(), format_age),
        describe_owner(entry),
        text_of(|m| m.command.as_deref()),
        text_of(|m| m.note.as_deref()),
    ]
}

/// Returns an entry as JSON for programs. A field that the entry does not have is null.
pub fn to_json(state: &str, entry: &Entry) -> serde_json::Value {
    let held = held_since(entry).filter(|_| state == HOLDS);
    let metadata = entry.metadata.clone().unwrap_or_default();
    let non_empty = |text: String| Some(text).filter(|text| !text.is_empty());
    json!({
        "state": state,
        "mode": entry.mode,
        "token": entry.token,
        "session": entry.session.map(|session| session.to_string()),
        "owner": non_empty(metadata.owner),
        "host": non_empty(metadata.host),
        "pid": Some(metadata.pid).filter(|pid| *pid != 0),
        "since_unix_ms": Some(metadata.since_unix_ms).filter(|ms| *ms != 0),
        "held_unix_ms": held,
        "command": metadata.command,
        "note": metadata.note,
        "trace_id": metadata.traceparent.map(|trace| trace.trace_id()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use turnlock::{EntryId, Incarnation, Mode, Token};

    #[test]
    fn unknown_fields_of_a_foreign_entry_are_null() {
        let id = EntryId {
            key: [1u8].as_slice().into(),
            incarnation: Incarnation::new(7),
        };
        let entry = Entry::new(id, Token(7), Mode::Exclusive);
        let shown = to_json(HOLDS, &entry);
        for field in [
            "session",
            "owner",
            "host",
            "pid",
            "since_unix_ms",
            "held_unix_ms",
            "command",
            "note",
            "trace_id",
        ] {
            assert!(shown[field].is_null(), "{field}: {shown}");
        }
        assert_eq!(shown["token"], "7");
        assert_eq!(
            to_row(HOLDS, &entry)[3..],
            ["-", "-", "another client", "", ""]
        );
    }
}
