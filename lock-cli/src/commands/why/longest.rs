//! Finds the lock that is held longest while others wait for it.

use turnlock::Locks;

use super::answer::{Answer, Longest};
use crate::exit::Failure;
use crate::graph::{Graph, Node};
use crate::listing::{self, LIMITS};

/// Explains the lock that is held longest, of those that are waited for. Holders and waiters say
/// themselves since when they do.
pub async fn explain(locks: Option<&Locks>) -> Result<Answer, Failure> {
    let listing = match locks {
        Some(locks) => listing::read_all(locks, "", LIMITS).await?,
        None => listing::Listing {
            is_complete: true,
            ..listing::Listing::default()
        },
    };
    let mut answer = Answer::new(Graph::new(listing.queues), None, listing.is_complete);
    let longest = Longest {
        hold: find_longest(&answer, |node| {
            answer.graph.holds(node) && answer.graph.waiters(node.queue).next().is_some()
        }),
        wait: find_longest(&answer, |node| !answer.graph.holds(node)),
    };
    answer.subject = longest.hold.or(longest.wait).map(|node| node.queue);
    answer.longest = Some(longest);
    if let Some(locks) = locks {
        answer.find_cycles(locks).await?;
    }
    Ok(answer)
}

fn find_longest(answer: &Answer, is_candidate: impl Fn(Node) -> bool) -> Option<Node> {
    let nodes = answer.graph.nodes().filter(|node| is_candidate(*node));
    let timed = nodes.filter_map(|node| Some((answer.since(node)?, node)));
    timed.min_by_key(|(since, _)| *since).map(|(_, node)| node)
}
