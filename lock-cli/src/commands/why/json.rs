//! Shows the answer to programs.

use serde_json::{Value, json};

use super::answer::{Answer, Verdict};
use super::chain::{follow, remedies};
use crate::commands::queue;
use crate::graph::{Cycle, Node, Tie, outer_of};

pub fn to_json(answer: &Answer) -> Value {
    let graph = &answer.graph;
    let entries = |nodes: Vec<Node>| nodes.into_iter().map(|n| entry(answer, n)).collect();
    let (holders, waiters): (Vec<Value>, Vec<Value>) = match answer.subject {
        Some(queue) => (
            entries(graph.holders(queue).collect()),
            entries(graph.waiters(queue).collect()),
        ),
        None => (vec![], vec![]),
    };
    let links = follow(answer);
    let chain: Vec<Value> = (links.iter())
        .map(|link| {
            let waits_for = link
                .waits_for
                .iter()
                .map(|(tie, node)| json!({"by": word(*tie), "entry": entry(answer, *node)}));
            json!({
                "holder": entry(answer, link.hold),
                "waits_for": waits_for.collect::<Vec<_>>(),
            })
        })
        .collect();
    let remedies: Vec<Value> = (remedies(answer, &links).into_iter())
        .map(|remedy| json!({"command": remedy.command, "effect": remedy.effect}))
        .collect();
    let longest = answer.longest.map(|longest| {
        let shown = |node: Option<Node>| node.map(|node| entry(answer, node));
        json!({"hold": shown(longest.hold), "wait": shown(longest.wait)})
    });
    json!({
        "name": answer.subject.map(|queue| graph.queues()[queue].name.as_str()),
        "deadlock": answer.has_deadlock(),
        "holders": holders,
        "waiters": waiters,
        "chain": chain,
        "cycles": answer.cycles.iter().map(|(verdict, c)| cycle(answer, *verdict, c)).collect::<Vec<_>>(),
        "remedies": remedies,
        "longest": longest,
        "locks_read": graph.queues().len(),
        "complete": answer.is_complete,
    })
}

/// Returns an entry as `turnlock queue --json` shows it, with its lock, the tokens that it waits
/// for, and the hold that it claims to work under.
fn entry(answer: &Answer, node: Node) -> Value {
    let graph = &answer.graph;
    let shown = graph.entry(node);
    let state = match graph.holds(node) {
        true => "holds",
        false => "waits",
    };
    let mut value = queue::to_json(state, shown);
    value["lock"] = graph.lock(node).as_str().into();
    let ahead = graph
        .blockers(node)
        .map(|ahead| json!(graph.entry(ahead).token));
    value["waits_for"] = ahead.collect();
    value["claims_outer"] = json!(outer_of(shown).map(|outer| json!({
        "lock": outer.lock.as_str(),
        "token": outer.token,
        "session": outer.session.to_string(),
    })));
    value
}

fn cycle(answer: &Answer, verdict: Verdict, cycle: &Cycle) -> Value {
    let steps = cycle.steps.iter().map(
        |step| json!({"entry": entry(answer, step.node), "waits_for_next_by": word(step.tie)}),
    );
    let verdict = match verdict {
        Verdict::Deadlock => "deadlock",
        Verdict::Possible => "possible",
        Verdict::Claimed => "claimed",
    };
    json!({"verdict": verdict, "steps": steps.collect::<Vec<_>>()})
}

/// Returns the word for the reason of a wait.
fn word(tie: Tie) -> &'static str {
    match tie {
        Tie::Queue => "queue",
        Tie::Proven => "proven",
        Tie::Session => "session",
        Tie::Claimed => "claimed",
    }
}
