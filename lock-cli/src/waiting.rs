//! What a waiter tells: to a person at a terminal, all the time who holds the lock, since when, and
//! our place in the queue; elsewhere, once, if it takes long.

use std::convert::Infallible;
use std::time::Duration;

use turnlock::{LockName, Locks, Queue, SessionId};

use crate::output::{Level, StatusLine, cut, queued, safe, say, speaks, who};

/// A wait shorter than this is not worth a word.
const PATIENCE: Duration = Duration::from_millis(400);
/// Where each word ends up in a log or a mail, one shorter than this is not.
const LONG_LIMIT: Duration = Duration::from_secs(10);
/// The line is brought up to date this often.
const REFRESH: Duration = Duration::from_secs(2);

/// So much of a name leaves room on a line for whom we wait for.
const NAME_ON_A_LINE: usize = 24;

/// Tells of the wait as long as it is polled.
pub async fn report(locks: &Locks, name: &LockName) -> Infallible {
    if !speaks(Level::Normal) {
        return std::future::pending().await;
    }
    match StatusLine::on_terminal() {
        Some(line) => keep_telling(locks, name, &line).await,
        None => tell_once(locks, name).await,
    }
}

/// Keeps a status line on stderr.
async fn keep_telling(locks: &Locks, name: &LockName, line: &StatusLine) -> Infallible {
    tokio::time::sleep(PATIENCE).await;
    loop {
        if let Some(text) = look(locks, name, NAME_ON_A_LINE).await {
            line.show(&text);
        }
        tokio::time::sleep(REFRESH).await;
    }
}

/// Tells who made us wait, after a while. That the lock is ours in the end shows by itself.
async fn tell_once(locks: &Locks, name: &LockName) -> Infallible {
    let (limit, still) = match speaks(Level::Verbose) {
        true => (PATIENCE, ""),
        false => (LONG_LIMIT, "still "),
    };
    loop {
        tokio::time::sleep(limit).await;
        if let Some(text) = look(locks, name, usize::MAX).await {
            say(format!("{still}{text}"));
            return std::future::pending().await;
        }
    }
}

/// What there is to tell, if anything, with no more of the name than this.
async fn look(locks: &Locks, name: &LockName, longest: usize) -> Option<String> {
    match locks.queue(name).await {
        Ok(queue) => describe(&queue, locks.session_id(), longest),
        Err(error) => Some(format!(
            "waiting for {}: {}",
            cut(&safe(name.as_str()), longest),
            safe(&error.to_string())
        )),
    }
}

fn describe(queue: &Queue, own: Option<SessionId>, longest: usize) -> Option<String> {
    let holder = queue.entries.first()?;
    let command = holder.metadata.as_ref().and_then(|m| m.command.as_deref());
    let about: Vec<String> = command
        .map(safe)
        .into_iter()
        .chain(queued(holder).map(|ago| format!("queued {ago}")))
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
    let name = cut(&safe(queue.name.as_str()), longest);
    Some(format!(
        "waiting for {name}{place}, held by {}{about}{more}",
        who(holder)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use turnlock::{Entry, EntryId, Incarnation, Metadata, Mode, Token};

    fn entry(session: i64) -> Entry {
        let metadata = Metadata {
            owner: "ann".into(),
            host: "h".into(),
            pid: 4,
            command: Some("rsync".into()),
            ..Metadata::default()
        };
        Entry {
            id: EntryId {
                key: [1u8].as_slice().into(),
                incarnation: Incarnation::new(session as u64),
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
