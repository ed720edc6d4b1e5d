//! Extracts the part of a history that shows a violation.

use lock_core::clock::BootInstant;

use super::Case;
use crate::history::{Cause, DataAnswer, Entry, Op, OpId, Outcome, Raise};

/// The largest number of lines.
const LIMIT: usize = 60;

/// Returns the events of these acquires, by time: of the acquires themselves, of their entries, of
/// their requests to the resource, and the faults meanwhile.
pub fn of(case: &Case, ops: &[OpId]) -> Vec<String> {
    let mut lines: Vec<(BootInstant, String)> = vec![];
    for op in ops.iter().filter_map(|id| case.ops.get(id)) {
        tell(op, &mut lines);
    }
    for raise in case
        .history
        .raises
        .iter()
        .filter(|raise| ops.contains(&raise.id))
    {
        tell_raise(raise, &mut lines);
    }
    let own = |entry: &&Entry| entry.op.is_some_and(|op| ops.contains(&op));
    for entry in case.history.entries.iter().filter(own) {
        story(case, entry, &mut lines);
    }
    for access in &case.history.accesses {
        if ops.contains(&access.op) {
            let admitted = if access.admitted { "let in" } else { "refused" };
            lines.push((
                access.at,
                format!("{} resource: token {} {admitted}", access.op, access.token),
            ));
        }
    }
    let span = lines.iter().map(|(at, _)| *at);
    if let (Some(first), Some(last)) = (span.clone().min(), span.max()) {
        for fault in &case.history.faults {
            if fault.overlaps(first, last) {
                let lasted = fault.to.saturating_since(fault.from);
                lines.push((
                    fault.from,
                    format!("{}: {:?} for {lasted:?}", fault.what, fault.target),
                ));
            }
        }
    }
    lines.sort();
    lines.dedup();
    let shown = lines.iter().take(LIMIT);
    shown
        .map(|(at, line)| {
            format!(
                "{:>14.6} {line}",
                at.saturating_since(BootInstant::from_nanos(0))
                    .as_secs_f64()
            )
        })
        .collect()
}

fn tell(op: &Op, lines: &mut Vec<(BootInstant, String)>) {
    let id = op.id;
    let mut tell = |at: BootInstant, line: String| lines.push((at, format!("{id} {line}")));
    tell(op.called, format!("asks for {} ({})", op.lock, op.mode));
    for (session, at) in &op.asked {
        tell(*at, format!("queues in session {session}"));
    }
    if let Some((token, at)) = op.placed {
        tell(at, format!("has a place, token {token}"));
    }
    match &op.outcome {
        Outcome::Open => {}
        Outcome::Granted(token, at) => tell(*at, format!("is granted token {token}")),
        Outcome::Refused(why, at) => tell(*at, format!("is refused: {why}")),
        Outcome::Cancelled(at) => tell(*at, "is cancelled".to_owned()),
    }
    for shown in &op.shown {
        let until = shown.until.map(|until| until.as_nanos() / 1_000_000);
        tell(
            shown.asked,
            format!("is told valid={} until (ms) {until:?}", shown.valid),
        );
    }
    for at in &op.lost {
        tell(*at, "hears of its loss".to_owned());
    }
    for access in &op.data {
        let answer = match &access.answer {
            DataAnswer::InDoubt => "in doubt".to_owned(),
            DataAnswer::Done(value) => format!("done, {value:?}"),
            DataAnswer::Failed => "failed".to_owned(),
        };
        let (request, key) = (&access.request, &access.key);
        tell(access.called, format!("{request:?} of {key}: {answer}"));
    }
    if let Some(at) = op.release {
        tell(at, "releases".to_owned());
    }
    for removal in &op.removals {
        tell(removal.called, "asks to remove its entry".to_owned());
        if let Some(at) = removal.answered {
            tell(at, "its entry is gone".to_owned());
        }
    }
    if let Some(at) = op.died {
        tell(at, "its process is dead".to_owned());
    }
}

fn tell_raise(raise: &Raise, lines: &mut Vec<(BootInstant, String)>) {
    let (id, offset) = (raise.id, raise.offset);
    let line = format!("{id} asks to raise the token offset to {offset}");
    lines.push((raise.called, line));
    if let Some((offset, at)) = raise.raised {
        lines.push((
            at,
            format!("{id} is told that the token offset is {offset}"),
        ));
    }
}

/// Adds the events of an entry, each at the instant before which it happened.
fn story(case: &Case, entry: &Entry, lines: &mut Vec<(BootInstant, String)>) {
    let at = |revision| case.timeline.not_after(revision);
    let key = &entry.key;
    if let Some(at) = at(entry.created) {
        lines.push((
            at,
            format!("server: {key} made at revision {} by then", entry.created),
        ));
    }
    let Some(deletion) = entry.deleted else {
        return;
    };
    let cause = match deletion.cause {
        Cause::Unknown => String::new(),
        Cause::Request(session) => format!(" by a request of session {session}"),
        Cause::SessionEnd => " with its session".to_owned(),
    };
    if let Some(at) = deletion.decided.or_else(|| at(deletion.to)) {
        lines.push((
            at,
            format!(
                "server: {key} deleted at revision {} by then{cause}",
                deletion.to
            ),
        ));
    }
}
