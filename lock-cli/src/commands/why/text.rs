//! Shows the answer to people.

use turnlock::Mode;

use super::answer::{Answer, Verdict};
use super::chain::{Link, follow, remedies};
use crate::graph::{Cycle, Node, Tie, outer_of};
use crate::output::{cut, describe_owner, escape_controls, format_age};

/// The longest command or note that a line shows, in characters.
const MAX_CHARS: usize = 64;

/// The most waiters that are listed, and the most waits of one holder.
const MAX_WAITERS: usize = 20;

pub fn to_text(answer: &Answer) -> String {
    let mut lines = Vec::new();
    show_longest(answer, &mut lines);
    match answer.subject {
        Some(queue) => show_lock(answer, queue, &mut lines),
        None => lines.push("nobody waits for a lock".to_owned()),
    }
    if !answer.is_complete {
        lines.push(format!(
            "only the first {} locks were read: the chain may go on, or be a deadlock",
            answer.graph.queues().len()
        ));
    }
    lines.join("\n")
}

fn show_longest(answer: &Answer, lines: &mut Vec<String>) {
    let Some(longest) = answer.longest else {
        return;
    };
    let shown = [
        ("longest hold with waiters", longest.hold),
        ("longest wait", longest.wait),
    ];
    for (what, node) in shown {
        if let Some(node) = node {
            let name = name(answer, node);
            lines.push(format!("{what}: {name}, by {}", describe(answer, node)));
        }
    }
}

fn show_lock(answer: &Answer, queue: usize, lines: &mut Vec<String>) {
    let graph = &answer.graph;
    let shown = escape_controls(graph.queues()[queue].name.as_str());
    if graph.queues()[queue].entries.is_empty() {
        lines.push(format!("nobody holds or waits for {shown}"));
        return;
    }
    for node in graph.holders(queue) {
        lines.push(format!("{shown} is held by {}", describe(answer, node)));
        show_details(answer, node, lines);
    }
    let waiters: Vec<Node> = graph.waiters(queue).collect();
    for node in waiters.iter().take(MAX_WAITERS) {
        let ahead: Vec<Node> = graph.blockers(*node).collect();
        let more = match ahead.len() {
            0 | 1 => String::new(),
            all => format!(" and {} more", all - 1),
        };
        let whom = ahead
            .first()
            .map_or(String::new(), |ahead| who(answer, *ahead));
        lines.push(format!(
            "{}, waits for {whom}{more}",
            describe(answer, *node)
        ));
    }
    if waiters.len() > MAX_WAITERS {
        lines.push(format!("and {} more wait", waiters.len() - MAX_WAITERS));
    }
    let links = follow(answer);
    show_chain(answer, &links, lines);
    for (verdict, cycle) in &answer.cycles {
        show_cycle(answer, *verdict, cycle, lines);
    }
    let remedies = remedies(answer, &links);
    if !remedies.is_empty() {
        lines.push("what can be done:".to_owned());
        for remedy in &remedies {
            let command = remedy.command.as_ref();
            let command = command.map_or(String::new(), |command| format!("{command}  # "));
            lines.push(format!(
                "  {}",
                escape_controls(&(command + &remedy.effect))
            ));
        }
    }
}

/// Shows what the holder says of itself beyond one line.
fn show_details(answer: &Answer, node: Node, lines: &mut Vec<String>) {
    let entry = answer.graph.entry(node);
    let Some(metadata) = &entry.metadata else {
        return;
    };
    if let Some(note) = &metadata.note {
        lines.push(format!(
            "  note: {}",
            cut(&escape_controls(note), 2 * MAX_CHARS)
        ));
    }
    if let Some(trace) = metadata.traceparent {
        lines.push(format!("  trace: {}", trace.trace_id()));
    }
    if let Some(outer) = outer_of(entry) {
        lines.push(format!(
            "  says that it works under a hold of {} (token {})",
            escape_controls(outer.lock.as_str()),
            outer.token
        ));
    }
}

fn show_chain(answer: &Answer, links: &[Link], lines: &mut Vec<String>) {
    // A holder that waits for nothing is the whole chain, and has been shown.
    if links.iter().all(|link| link.waits_for.is_empty()) {
        return;
    }
    lines.push("what the holders wait for:".to_owned());
    for link in links {
        let holder = format!(
            "{}, which holds {}",
            who(answer, link.hold),
            name(answer, link.hold)
        );
        if link.waits_for.is_empty() {
            lines.push(format!(
                "  {holder}, waits for no lock: an end of the chain"
            ));
        }
        for &(tie, node) in link.waits_for.iter().take(MAX_WAITERS) {
            let how = reason(tie);
            let what = match answer.graph.holds(node) {
                true => format!("has another hold within: {}", name(answer, node)),
                false => format!("waits for {}", name(answer, node)),
            };
            lines.push(format!(
                "  {holder}, {what}, {how}: {}",
                describe(answer, node)
            ));
        }
        if let Some(more) = link.waits_for.len().checked_sub(MAX_WAITERS + 1) {
            lines.push(format!("  {holder}, waits for {} more", more + 1));
        }
    }
}

fn reason(tie: Tie) -> &'static str {
    match tie {
        Tie::Queue => "in its queue",
        Tie::Proven => "in a command under it",
        Tie::Session => "in the same session",
        Tie::Claimed => "as is claimed without a proof",
    }
}

fn show_cycle(answer: &Answer, verdict: Verdict, cycle: &Cycle, lines: &mut Vec<String>) {
    lines.push(
        match verdict {
            Verdict::Deadlock => {
                "DEADLOCK: each of these waits for the next, and the last for the first"
            }
            Verdict::Possible => {
                "possible deadlock: it is one if each session waits and holds in one task"
            }
            Verdict::Claimed => {
                "not a deadlock as far as is known: a claim without a proof would make it one"
            }
        }
        .to_owned(),
    );
    for step in &cycle.steps {
        let does = match answer.graph.holds(step.node) {
            true => "holds",
            false => "waits for",
        };
        let lock = name(answer, step.node);
        let claimed = match step.tie {
            Tie::Claimed => " (the next one claims to work under it)",
            _ => "",
        };
        lines.push(format!(
            "  {lock}: {does} it: {}{claimed}",
            describe(answer, step.node)
        ));
    }
}

fn name(answer: &Answer, node: Node) -> String {
    escape_controls(answer.graph.lock(node).as_str())
}

/// Names a contender.
fn who(answer: &Answer, node: Node) -> String {
    let entry = answer.graph.entry(node);
    let command = entry.metadata.as_ref().and_then(|m| m.command.as_deref());
    let command = command.map(|command| cut(&escape_controls(command), MAX_CHARS));
    let command = command.map_or(String::new(), |command| format!(" ({command})"));
    format!("{}{command}", describe_owner(entry))
}

/// Names a contender, with its token, and since when it holds or waits.
fn describe(answer: &Answer, node: Node) -> String {
    let entry = answer.graph.entry(node);
    let mode = match entry.mode {
        Mode::Exclusive => "",
        Mode::Shared => ", shared",
    };
    let since = match (answer.since(node), answer.graph.holds(node)) {
        (Some(since), true) => format!(", for {}", format_age(since)),
        (Some(since), false) => format!(", queued {} ago", format_age(since)),
        (None, _) => String::new(),
    };
    format!("{}, token {}{mode}{since}", who(answer, node), entry.token)
}
