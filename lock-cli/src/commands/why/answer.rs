//! What is known about a lock that is not free.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use turnlock::{Locks, Queue};

use crate::commands::queue::{held_since, queued_since};
use crate::exit::Failure;
use crate::graph::{Cycle, Graph, Node, Tie, find_cycles};

/// How far a cycle can be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Each of them waits for the next, as the coordinator and the proofs show.
    Deadlock,
    /// As [`Deadlock`](Verdict::Deadlock), if each session that holds one lock and waits for another
    /// does so in one task.
    Possible,
    /// Only by claims that nobody can check.
    Claimed,
}

impl Verdict {
    fn of(tie: Tie) -> Self {
        match tie {
            Tie::Queue | Tie::Proven => Verdict::Deadlock,
            Tie::Session => Verdict::Possible,
            Tie::Claimed => Verdict::Claimed,
        }
    }
}

/// The lock that is held longest while others wait for it, and the longest wait.
#[derive(Debug, Clone, Copy)]
pub struct Longest {
    pub hold: Option<Node>,
    pub wait: Option<Node>,
}

/// The answer to one question.
#[derive(Debug)]
pub struct Answer {
    pub graph: Graph,
    /// The lock that is asked about. `None` if no lock is waited for.
    pub subject: Option<usize>,
    pub longest: Option<Longest>,
    /// The cycles, the best founded first.
    pub cycles: Vec<(Verdict, Cycle)>,
    /// Whether all locks of the namespace were read.
    pub is_complete: bool,
}

impl Answer {
    pub fn new(graph: Graph, subject: Option<usize>, is_complete: bool) -> Self {
        Answer {
            graph,
            subject,
            longest: None,
            cycles: Vec::new(),
            is_complete,
        }
    }

    /// Returns whether there is a deadlock, and not only a claim of one.
    pub fn has_deadlock(&self) -> bool {
        let verdicts = self.cycles.iter().map(|(verdict, _)| *verdict);
        verdicts.min() == Some(Verdict::Deadlock)
    }

    /// Finds the cycles that the lock leads to; without a lock, or if the longest hold is asked for,
    /// all of them.
    pub async fn find_cycles(&mut self, locks: &Locks) -> Result<(), Failure> {
        let graph = &self.graph;
        let starts: Vec<Node> = match (self.longest, self.subject) {
            (None, Some(queue)) => graph.holders(queue).chain(graph.waiters(queue)).collect(),
            _ => graph.nodes().collect(),
        };
        let mut found = Vec::new();
        for worst in [Tie::Proven, Tie::Session, Tie::Claimed] {
            let verdict = Verdict::of(worst);
            let cycles = find_cycles(graph, starts.iter().copied(), worst);
            let founded = |cycle: &Cycle| Verdict::of(cycle.worst_tie()) == verdict;
            found.extend(cycles.into_iter().filter(founded).map(|c| (verdict, c)));
        }
        let mut again = HashMap::new();
        for (verdict, cycle) in found {
            if still_there(graph, &cycle, locks, &mut again).await? {
                self.cycles.push((verdict, cycle));
            }
        }
        Ok(())
    }

    /// Returns since when a node holds its lock, or waits for it, as its contender says: in
    /// milliseconds since the Unix epoch.
    pub fn since(&self, node: Node) -> Option<u64> {
        let entry = self.graph.entry(node);
        match self.graph.holds(node) {
            true => held_since(entry),
            false => queued_since(entry),
        }
    }
}

/// Reads the queues of a cycle again, after all of them were read once. If each entry is in its
/// place both times, all of them waited for each other at the instant between; else the queues were
/// seen at different times, and the cycle never was.
async fn still_there(
    graph: &Graph,
    cycle: &Cycle,
    locks: &Locks,
    again: &mut HashMap<usize, Queue>,
) -> Result<bool, Failure> {
    for step in &cycle.steps {
        let node = step.node;
        let queue = match again.entry(node.queue) {
            Entry::Occupied(read) => read.into_mut(),
            Entry::Vacant(unread) => unread.insert(locks.queue(graph.lock(node)).await?),
        };
        let entry = graph.entry(node);
        let place = queue.entries.iter().position(|now| now.id == entry.id);
        if place.map(|place| place < queue.holders()) != Some(graph.holds(node)) {
            return Ok(false);
        }
    }
    Ok(true)
}
