//! The graph of who waits for whom, over all locks of a namespace.
//!
//! Its nodes are entries. An entry that waits has edges to those that it waits for, by the rule of
//! the queue. An entry that holds has edges to what its own contender waits for: other entries of
//! its session, and entries of programs that run under the hold.

mod cycles;

use std::collections::HashMap;

use turnlock::nesting::OuterHold;
use turnlock::{Entry, LockName, Mode, Queue, SessionId, Token, rule};

use crate::commands::HoldKey;

pub use self::cycles::{Cycle, find_cycles};

/// The most claims whose proofs are checked. Others may write as many as they like.
const MAX_CHECKS: usize = 10_000;

/// An entry, by the places of its queue and of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Node {
    pub queue: usize,
    pub place: usize,
}

/// The reason for an edge: the best founded first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tie {
    /// The second entry stands ahead of the first one.
    Queue,
    /// The second entry has proven that it works under the first one.
    Proven,
    /// Both belong to one session. Whether one task of its process waits and holds is not known.
    Session,
    /// The second entry claims to work under the first one.
    Claimed,
}

/// The queues, and the edges between their entries.
#[derive(Debug, Default)]
pub struct Graph {
    queues: Vec<Queue>,
    holders: Vec<usize>,
    modes: Vec<Vec<Mode>>,
    /// The entries that wait, by their sessions.
    waiting: HashMap<SessionId, Vec<Node>>,
    /// The entries that name each hold as the one around them.
    under: HashMap<Node, Vec<(Tie, Node)>>,
}

impl Graph {
    /// Returns the graph of these queues.
    pub fn new(queues: Vec<Queue>) -> Self {
        let mut graph = Graph {
            holders: queues.iter().map(Queue::holders).collect(),
            modes: queues
                .iter()
                .map(|queue| queue.entries.iter().map(|entry| entry.mode).collect())
                .collect(),
            queues,
            ..Graph::default()
        };
        let names: HashMap<LockName, usize> = (graph.queues.iter().enumerate())
            .map(|(place, queue)| (queue.name.clone(), place))
            .collect();
        let mut checks = 0;
        for node in graph.nodes().collect::<Vec<_>>() {
            let entry = graph.entry(node);
            let session = entry.session;
            let outer = outer_of(entry).and_then(|claim| {
                let hold = graph.find_hold(&names, claim)?;
                checks += 1;
                Some((graph.tie(node, hold, claim, checks <= MAX_CHECKS), hold))
            });
            if let Some((tie, hold)) = outer {
                graph.under.entry(hold).or_default().push((tie, node));
            }
            if let Some(session) = session.filter(|_| !graph.holds(node)) {
                graph.waiting.entry(session).or_default().push(node);
            }
        }
        graph
    }

    /// Returns all entries.
    pub fn nodes(&self) -> impl Iterator<Item = Node> + '_ {
        let queues = self.queues.iter().enumerate();
        queues.flat_map(|(queue, q)| (0..q.entries.len()).map(move |place| Node { queue, place }))
    }

    /// Returns the queues.
    pub fn queues(&self) -> &[Queue] {
        &self.queues
    }

    /// Returns the place of a lock.
    pub fn find(&self, name: &LockName) -> Option<usize> {
        self.queues.iter().position(|queue| queue.name == *name)
    }

    /// Returns the entry of a node.
    pub fn entry(&self, node: Node) -> &Entry {
        &self.queues[node.queue].entries[node.place]
    }

    /// Returns the lock in whose queue a node stands.
    pub fn lock(&self, node: Node) -> &LockName {
        &self.queues[node.queue].name
    }

    /// Returns whether a node holds its lock.
    pub fn holds(&self, node: Node) -> bool {
        node.place < self.holders[node.queue]
    }

    /// Returns the entries that hold a lock.
    pub fn holders(&self, queue: usize) -> impl Iterator<Item = Node> + use<> {
        (0..self.holders[queue]).map(move |place| Node { queue, place })
    }

    /// Returns the entries that wait for a lock.
    pub fn waiters(&self, queue: usize) -> impl Iterator<Item = Node> + use<> {
        let all = self.queues[queue].entries.len();
        (self.holders[queue]..all).map(move |place| Node { queue, place })
    }

    /// Returns whom an entry waits for in its queue.
    pub fn blockers(&self, node: Node) -> impl Iterator<Item = Node> + use<> {
        let Node { queue, place } = node;
        let places = rule::blockers(&self.modes[queue], place);
        places.map(move |place| Node { queue, place })
    }

    /// Returns the entries without whose ends this entry cannot go on, and why.
    pub fn edges(&self, node: Node) -> Vec<(Tie, Node)> {
        if !self.holds(node) {
            return self
                .blockers(node)
                .map(|ahead| (Tie::Queue, ahead))
                .collect();
        }
        let mut edges = self.under.get(&node).cloned().unwrap_or_default();
        let session = self.entry(node).session;
        let own = session.and_then(|session| self.waiting.get(&session));
        for &waiting in own.into_iter().flatten() {
            edges.push((Tie::Session, waiting));
        }
        // The best founded first, so that it is the one that is followed.
        edges.sort_by_key(|(tie, _)| *tie);
        edges
    }

    fn find_hold(&self, names: &HashMap<LockName, usize>, claim: &OuterHold) -> Option<Node> {
        let queue = *names.get(&claim.lock)?;
        self.holders(queue).find(|node| {
            let entry = self.entry(*node);
            let (token, session): (Token, _) = (entry.token, entry.session);
            token == claim.token && session == Some(claim.session)
        })
    }

    /// Returns how well a claim is founded.
    fn tie(&self, node: Node, hold: Node, claim: &OuterHold, check: bool) -> Tie {
        let metadata = self.entry(hold).metadata.as_ref();
        let nesting = metadata.and_then(|metadata| metadata.nesting.as_ref());
        let key = nesting.and_then(|nesting| nesting.key.as_ref());
        let claimant = self.entry(node).session;
        let is_proven = check
            && key
                .zip(claimant)
                .is_some_and(|(key, claimant)| HoldKey::has_signed(key, claimant, claim));
        match is_proven {
            true => Tie::Proven,
            false => Tie::Claimed,
        }
    }
}

/// Returns the hold that an entry claims to work under.
pub fn outer_of(entry: &Entry) -> Option<&OuterHold> {
    entry.metadata.as_ref()?.nesting.as_ref()?.outer.as_ref()
}

#[cfg(test)]
mod tests;
