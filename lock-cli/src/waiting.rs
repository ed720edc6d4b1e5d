//! What a waiter tells a person at a terminal: who holds the lock, since when, and our place in the
//! queue.

use std::convert::Infallible;
use std::time::Duration;

use turnlock::{LockName, Locks, Queue, SessionId};

use crate::output::{StatusLine, age, human, safe, who};

/// A wait shorter than this is not worth a word.
const PATIENCE: Duration = Duration::from_millis(400);
/// The line is brought up to date this often.
const REFRESH: Duration = Duration::from_secs(2);

/// Keeps a status line on stderr as long as it is polled; says nothing where stderr is not a
/// terminal.
pub async fn report(locks: &Locks, name: &LockName) -> Infallible {
    let Some(line) = StatusLine::on_terminal() else {
        return std::future::pending().await;
    };
    tokio::time::sleep(PATIENCE).await;
    loop {
        match locks.queue(name).await {
            Ok(queue) => {
                if let Some(text) = describe(&queue, locks.session_id()) {
                    line.show(&text);
                }
            }
            Err(error) => line.show(&format!(
                "waiting for {}: {}",
                safe(name.as_str()),
                safe(&error.to_string())
            )),
        }
        tokio::time::sleep(REFRESH).await;
    }
}

fn describe(queue: &Queue, own: Option<SessionId>) -> Option<String> {
    let holder = queue.entries.first()?;
    let since = age(holder)
        .map(|age| format!(" (queued {} ago)", human(age)))
        .unwrap_or_default();
    let more = match queue.holders() {
        0 | 1 => String::new(),
        holders => format!(" and {} more", holders - 1),
    };
    let place = own
        .and_then(|own| {
            queue
                .entries
                .iter()
                .position(|entry| entry.session == Some(own))
        })
        .and_then(|place| place.checked_sub(queue.holders()))
        .map(|ahead| match ahead {
            0 => "; we are next".to_owned(),
            1 => "; 1 waits before us".to_owned(),
            n => format!("; {n} wait before us"),
        })
        .unwrap_or_default();
    let name = safe(queue.name.as_str());
    Some(format!(
        "waiting for {name}, held by {}{since}{more}{place}",
        who(holder)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use turnlock::{Entry, EntryId, Metadata, Mode, Token};

    fn entry(session: i64) -> Entry {
        let metadata = Metadata {
            owner: "ann".into(),
            host: "h".into(),
            pid: 4,
            ..Metadata::default()
        };
        Entry {
            id: EntryId {
                key: [1u8].as_slice().into(),
                token: Token(session as u64),
            },
            token: Token(session as u64),
            mode: Mode::Exclusive,
            session: Some(SessionId(session)),
            metadata: Some(metadata),
        }
    }

    #[test]
    fn tells_the_holder_and_our_place() {
        let name = LockName::new("jobs/a").expect("valid");
        let queue = Queue {
            name,
            entries: [5, 6, 7, 8].map(entry).to_vec(),
        };
        let text = |own| describe(&queue, Some(SessionId(own))).expect("a holder");
        assert_eq!(
            text(6),
            "waiting for jobs/a, held by ann@h pid 4; we are next"
        );
        assert!(text(7).ends_with("; 1 waits before us"));
        assert!(text(8).ends_with("; 2 wait before us"));
        assert!(text(99).ends_with("pid 4"));
    }
}
