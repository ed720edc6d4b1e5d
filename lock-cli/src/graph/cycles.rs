//! Finds contenders that wait for each other.

use std::collections::HashMap;

use turnlock::rule;

use super::{Graph, Node, Tie};

/// The most cycles that are returned: one is enough to act on.
const MAX_CYCLES: usize = 8;

/// An entry in a cycle, and why it waits for the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    pub node: Node,
    pub tie: Tie,
}

/// Entries of which each waits for the next, and the last for the first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cycle {
    pub steps: Vec<Step>,
}

impl Cycle {
    /// Returns the least founded reason of the cycle, which is how far it can be believed.
    pub fn worst_tie(&self) -> Tie {
        let ties = self.steps.iter().map(|step| step.tie);
        ties.max().unwrap_or(Tie::Queue)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Colour {
    /// On the path that is being followed.
    Grey,
    /// Followed to its end.
    Black,
}

/// Returns cycles that can be reached from these entries, with no reason worse than `worst`: at
/// least one, if there is one. Waits that meet in one entry are no cycle, so an entry is left out
/// only once all that it waits for has been followed.
pub fn find_cycles(
    graph: &Graph,
    starts: impl IntoIterator<Item = Node>,
    worst: Tie,
) -> Vec<Cycle> {
    let mut colours: HashMap<Node, Colour> = HashMap::new();
    let mut cycles = Vec::new();
    let edges = |node| {
        let mut edges = graph.edges(node);
        edges.retain(|(tie, _)| *tie <= worst);
        edges.into_iter()
    };
    for start in starts {
        if colours.contains_key(&start) {
            continue;
        }
        colours.insert(start, Colour::Grey);
        // Each entry of the path, the reason by which it was left, and its further edges.
        let mut path = vec![(start, Tie::Queue, edges(start))];
        while let Some((node, left_by, rest)) = path.last_mut() {
            let Some((tie, next)) = rest.next() else {
                colours.insert(*node, Colour::Black);
                path.pop();
                continue;
            };
            *left_by = tie;
            match colours.get(&next) {
                Some(Colour::Black) => {}
                Some(Colour::Grey) => {
                    let from = path.iter().position(|(node, ..)| *node == next);
                    let steps = path[from.unwrap_or(0)..]
                        .iter()
                        .map(|&(node, tie, _)| Step { node, tie });
                    cycles.push(shorten(graph, steps.collect()));
                    if cycles.len() == MAX_CYCLES {
                        return cycles;
                    }
                }
                None => {
                    colours.insert(next, Colour::Grey);
                    path.push((next, Tie::Queue, edges(next)));
                }
            }
        }
    }
    cycles
}

/// Leaves out entries that only stand between two others of their queue: whoever waits behind them
/// waits for the one ahead of them, too.
fn shorten(graph: &Graph, mut steps: Vec<Step>) -> Cycle {
    // Begins with an entry that holds, so that no queue is split.
    let first = steps.iter().position(|step| graph.holds(step.node));
    steps.rotate_left(first.unwrap_or(0));
    let mut at = 0;
    while at + 2 <= steps.len() {
        let ahead = steps[(at + 2) % steps.len()].node;
        let (own, between) = (steps[at], steps[at + 1]);
        let modes = [ahead, own.node].map(|node| graph.entry(node).mode);
        let conflicts = rule::blockers(&modes, 1).next().is_some();
        if own.tie == Tie::Queue && between.tie == Tie::Queue && conflicts {
            steps.remove(at + 1);
        } else {
            at += 1;
        }
    }
    Cycle { steps }
}
