//! Follows the waits from a lock to their end, and says what can be done there.

use std::collections::HashSet;

use turnlock::LockName;

use super::answer::{Answer, Verdict};
use crate::graph::{Node, Tie};

/// The most links that are shown.
const MAX_LINKS: usize = 50;

/// A hold on the way, and what its contender waits for.
#[derive(Debug, Clone)]
pub struct Link {
    pub hold: Node,
    /// The entries that the holder waits for, and why it is said to.
    pub waits_for: Vec<(Tie, Node)>,
}

/// Returns the holds of the lock, of the locks that their contenders wait for, and so on. A hold
/// whose contender waits for nothing is an end.
pub fn follow(answer: &Answer) -> Vec<Link> {
    let graph = &answer.graph;
    let mut links = Vec::new();
    let mut next: Vec<Node> = answer
        .subject
        .map_or(Vec::new(), |q| graph.holders(q).collect());
    let mut seen: HashSet<Node> = next.iter().copied().collect();
    let mut at = 0;
    while at < next.len() && links.len() < MAX_LINKS {
        let hold = next[at];
        at += 1;
        let waits_for = graph.edges(hold);
        for &(_, node) in &waits_for {
            let holds: Vec<Node> = match graph.holds(node) {
                // A program under the hold has another hold, which ends before.
                true => vec![node],
                false => graph.holders(node.queue).collect(),
            };
            next.extend(holds.into_iter().filter(|hold| seen.insert(*hold)));
        }
        links.push(Link { hold, waits_for });
    }
    links
}

/// Something that can be done, and what comes of it.
#[derive(Debug, Clone)]
pub struct Remedy {
    /// A line for a shell, if a command of ours does it.
    pub command: Option<String>,
    pub effect: String,
}

/// Returns what can be done: against a deadlock, else at the ends of the chain.
pub fn remedies(answer: &Answer, links: &[Link]) -> Vec<Remedy> {
    let graph = &answer.graph;
    let mut remedies = Vec::new();
    let believed = |verdict: &Verdict| *verdict != Verdict::Claimed;
    for (_, cycle) in answer
        .cycles
        .iter()
        .filter(|(verdict, _)| believed(verdict))
    {
        let waits = cycle.steps.iter().map(|step| step.node);
        let waits = waits.filter(|node| !graph.holds(*node));
        // The youngest wait has cost the least.
        if let Some(node) = waits.max_by_key(|node| answer.since(*node)) {
            remedies.push(evict(
                answer,
                node,
                "ends the youngest wait; its command ends with 75",
            ));
        }
    }
    if !remedies.is_empty() {
        return remedies;
    }
    let proven = |link: &&Link| link.waits_for.iter().any(|(tie, _)| *tie != Tie::Claimed);
    for link in links.iter().filter(|link| !proven(link)) {
        let metadata = graph.entry(link.hold).metadata.as_ref();
        if let Some(process) = metadata.filter(|metadata| metadata.pid != 0) {
            // Anybody can name the process of somebody else, so it is no command to be copied.
            remedies.push(Remedy {
                command: None,
                effect: format!(
                    "end process {} on {}, as far as the holder tells the truth of itself",
                    process.pid, process.host
                ),
            });
        }
        let effect = "takes the lock away at once; `turnlock run` then kills its command";
        remedies.push(evict(answer, link.hold, effect));
    }
    remedies
}

fn evict(answer: &Answer, node: Node, effect: &str) -> Remedy {
    let (lock, token) = (answer.graph.lock(node), answer.graph.entry(node).token);
    Remedy {
        command: Some(format!(
            "turnlock evict --token {token} {}",
            to_argument(lock)
        )),
        effect: effect.to_owned(),
    }
}

/// Returns the options that name a lock, for a shell.
pub fn to_argument(lock: &LockName) -> String {
    let raw = if lock.is_raw() { "--raw " } else { "" };
    let name = lock.as_str();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-:@%+=,".contains(c);
    match name.chars().all(plain) {
        true => format!("{raw}{name}"),
        false => format!("{raw}'{}'", name.replace('\'', r"'\''")),
    }
}
