//! The events of locks and sessions as log lines.

use std::borrow::Cow;

use turnlock::observe::{Event, NotAcquired, Observer, TraceContext};
use turnlock::{LossReason, Metadata};

use super::{Level, Line, level, write};

/// The part of the program that the lines of events name.
const TARGET: &str = "turnlock::observe";

/// Says what happens to locks, as far as the level of the log allows.
#[derive(Debug)]
pub struct EventLog;

impl Observer for EventLog {
    fn observe(&self, event: &Event<'_>) {
        let level_of_event = level_of(event);
        if level_of_event <= level() {
            write(&line_of(event, level_of_event));
        }
    }

    fn trace_context(&self) -> Option<TraceContext> {
        None
    }
}

/// Returns how much an event matters.
fn level_of(event: &Event<'_>) -> Level {
    match event {
        Event::NotAcquired {
            why: NotAcquired::Failed(_),
            ..
        } => Level::Warn,
        Event::HoldEnded { end, .. } if end.is_loss() => Level::Warn,
        Event::SessionEnded { reason, .. } if *reason != LossReason::Closed => Level::Warn,
        Event::RenewalFailed { .. } => Level::Warn,
        Event::Blocked { .. }
        | Event::Acquired { .. }
        | Event::NotAcquired { .. }
        | Event::HoldEnded { .. } => Level::Info,
        Event::Renewed { .. } => Level::Trace,
        _ => Level::Debug,
    }
}

/// Returns the line of an event.
fn line_of<'a>(event: &Event<'a>, level: Level) -> Line<'a> {
    let line = |message: Cow<'a, str>| Line::new(level, TARGET, message).event(event.name());
    match *event {
        Event::Acquiring { lock, mode, .. } => {
            line("asks for the lock".into()).lock(lock).mode(mode)
        }
        Event::Blocked { lock, mode, by } => line(describe_blocker(by)).lock(lock).mode(mode),
        Event::Acquired {
            lock,
            mode,
            token,
            waited,
            ..
        } => line("acquired".into())
            .lock(lock)
            .mode(mode)
            .token(token)
            .latency(waited),
        Event::NotAcquired {
            lock,
            mode,
            waited,
            why,
            ..
        } => {
            let line = line(format!("not acquired: {}", why.name()).into());
            let line = line.lock(lock).mode(mode).latency(waited);
            match why {
                NotAcquired::Failed(error) => line.error_kind(error.kind()),
                _ => line,
            }
        }
        Event::HoldEnded {
            lock,
            mode,
            token,
            held,
            end,
        } => line(format!("the hold has ended: {}", end.name()).into())
            .lock(lock)
            .mode(mode)
            .token(token)
            .latency(held),
        Event::SessionOpened { session, took, .. } => line("a session is open".into())
            .session(session)
            .latency(took),
        Event::SessionEnded { session, reason } => {
            line(format!("the session has ended: {reason}").into()).session(session)
        }
        Event::Renewed {
            session,
            took,
            left,
            ..
        } => line(format!("renewed, with {:.3} s left", left.as_secs_f64()).into())
            .session(session)
            .latency(took),
        Event::RenewalFailed {
            session,
            error,
            took,
            left,
        } => {
            let left = left.as_secs_f64();
            let why = error.map_or("not answered in time".into(), ToString::to_string);
            let text = format!("a renewal failed, with {left:.3} s left: {why}");
            let line = line(text.into()).session(session).latency(took);
            match error {
                Some(error) => line.error_kind(error.kind()),
                None => line,
            }
        }
        Event::Retried {
            operation,
            error,
            pause,
        } => {
            let pause = pause.as_secs_f64();
            let text = format!("cannot {operation}, tries again in {pause:.3} s: {error}");
            line(text.into()).error_kind(error.kind())
        }
        _ => line("an event that this version of the command does not know".into()),
    }
}

/// Says who keeps an acquire waiting, as far as that is known.
fn describe_blocker<'a>(by: Option<&Metadata>) -> Cow<'a, str> {
    match by {
        Some(by) => format!("waits for {}@{} pid {}", by.owner, by.host, by.pid).into(),
        None => "waits for another contender".into(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use turnlock::observe::HoldEnd;
    use turnlock::{LockName, Mode, Token};

    #[test]
    fn a_loss_is_a_warning_and_a_release_is_none() {
        let name = LockName::new("a").expect("a valid name");
        for (end, expected) in [
            (HoldEnd::Lost(LossReason::EntryGone), Level::Warn),
            (HoldEnd::AlreadyGone, Level::Warn),
            (HoldEnd::Released, Level::Info),
        ] {
            let event = Event::HoldEnded {
                lock: &name,
                mode: Mode::Exclusive,
                token: Token(7),
                held: Duration::from_secs(2),
                end,
            };
            let line = line_of(&event, level_of(&event));
            assert_eq!((line.level, line.event), (expected, Some("hold_ended")));
            assert_eq!(line.latency_ms, Some(2000.0));
            assert_eq!(line.token.as_deref(), Some("7"));
        }
    }

    #[test]
    fn what_others_wrote_into_a_queue_drives_no_terminal() {
        let name = LockName::new("a").expect("a valid name");
        let by = Metadata::default()
            .with_owner("ann\u{1b}]0;x\u{7}\n{\"level\":\"error\"}")
            .with_process("h\u{202e}", 7);
        let event = Event::Blocked {
            lock: &name,
            mode: Mode::Exclusive,
            by: Some(&by),
        };
        let line = line_of(&event, Level::Info);
        for text in [line.to_json(), line.to_text()] {
            assert!(!text.chars().any(|c| c.is_control() || c == '\u{202e}'));
            assert!(text.contains("ann"), "{text}");
        }
    }
}
