//! Reports a wait. A terminal shows all the time who holds the lock, since when, and the position
//! in the queue. Elsewhere a long wait is reported once.

use std::convert::Infallible;
use std::time::Duration;

use turnlock::{LockName, Locks, Queue, SessionId};

use crate::output::{
    Level, StatusLine, cut, describe_owner, escape_controls, format_queued, inform, is_enabled,
};

/// The shortest wait that is reported on a terminal.
const SHORT_WAIT: Duration = Duration::from_millis(400);
/// The shortest wait that is reported where messages end up in a log or a mail.
const LONG_WAIT: Duration = Duration::from_secs(10);
/// The pause between two updates of the line.
const REFRESH: Duration = Duration::from_secs(2);

/// The longest part of a name that leaves room on a line for the holder.
const MAX_NAME_CHARS: usize = 24;

/// Reports the wait for as long as it is polled.
pub async fn report(locks: &Locks, name: &LockName) -> Infallible {
    if !is_enabled(Level::Normal) {
        return std::future::pending().await;
    }
    match StatusLine::on_terminal() {
        Some(line) => keep_status_line(locks, name, &line).await,
        None => report_once(locks, name).await,
    }
}

/// Keeps a status line on stderr.
async fn keep_status_line(locks: &Locks, name: &LockName, line: &StatusLine) -> Infallible {
    tokio::time::sleep(SHORT_WAIT).await;
    loop {
        if let Some(text) = describe_wait(locks, name, MAX_NAME_CHARS).await {
            line.show(&text);
        }
        tokio::time::sleep(REFRESH).await;
    }
}

/// Reports once, after a while, who holds the lock. The end of the wait is not reported.
async fn report_once(locks: &Locks, name: &LockName) -> Infallible {
    let (limit, still) = match is_enabled(Level::Verbose) {
        true => (SHORT_WAIT, ""),
        false => (LONG_WAIT, "still "),
    };
    loop {
        tokio::time::sleep(limit).await;
        if let Some(text) = describe_wait(locks, name, usize::MAX).await {
            inform(format!("{still}{text}"));
            return std::future::pending().await;
        }
    }
}

/// Asks for the queue and describes it, if there is a holder, with at most this much of the name.
async fn describe_wait(locks: &Locks, name: &LockName, longest: usize) -> Option<String> {
    match locks.queue(name).await {
        Ok(queue) => describe(&queue, locks.session_id(), longest),
        Err(error) => Some(format!(
            "waiting for {}: {}",
            cut(&escape_controls(name.as_str()), longest),
            escape_controls(&error.to_string())
        )),
    }
}

fn describe(queue: &Queue, own: Option<SessionId>, longest: usize) -> Option<String> {
    let holder = queue.entries.first()?;
    let command = holder.metadata.as_ref().and_then(|m| m.command.as_deref());
    let about: Vec<String> = command
        .map(escape_controls)
        .into_iter()
        .chain(format_queued(holder).map(|ago| format!("queued {ago}")))
        .collect();
    let about = match about.is_empty() {
        true => String::new(),
        false => format!(" ({})", about.join(", ")),
    };
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
            0 => " (we are next)".to_owned(),
            1 => " (1 before us)".to_owned(),
            n => format!(" ({n} before us)"),
        })
        .unwrap_or_default();
    let name = cut(&escape_controls(queue.name.as_str()), longest);
    Some(format!(
        "waiting for {name}{place}, held by {}{about}{more}",
        describe_owner(holder)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use turnlock::{Entry, EntryId, Incarnation, Metadata, Mode, Token};

    fn entry(session: i64) -> Entry {
        let metadata = Metadata::default()
            .with_owner("ann")
            .with_process("h", 4)
            .with_command("rsync");
        let id = EntryId {
            key: [1u8].as_slice().into(),
            incarnation: Incarnation::new(session as u64),
        };
        Entry::new(id, Token(session as u64), Mode::Exclusive)
            .with_session(Some(SessionId(session)))
            .with_metadata(Some(metadata))
    }

    #[test]
    fn shows_the_holder_and_our_position() {
        let name = LockName::new("jobs/a").expect("valid");
        let queue = Queue::new(name, [5, 6, 7, 8].map(entry).to_vec());
        let text = |own| describe(&queue, Some(SessionId(own)), 24).expect("a holder");
        assert_eq!(
            text(6),
            "waiting for jobs/a (we are next), held by ann@h pid 4 (rsync)"
        );
        assert!(text(7).contains("jobs/a (1 before us),"));
        assert!(text(8).contains("jobs/a (2 before us),"));
        assert!(text(99).contains("jobs/a, held by"));
        let short = describe(&queue, None, 4).expect("a holder");
        assert!(
            short.starts_with("waiting for job…, held by ann"),
            "{short}"
        );
    }
}
