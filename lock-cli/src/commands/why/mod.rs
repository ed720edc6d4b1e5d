//! `turnlock why`: say why a lock is not free: who holds it, whom each waiter waits for, what the
//! holder itself waits for, and whether anybody can go on at all.

mod answer;
mod chain;
mod json;
mod longest;
mod text;

use turnlock::{LockName, Locks, Options, Queue};

use crate::cli::{Global, Why};
use crate::commands::names::parse_name;
use crate::coordinator;
use crate::exit::{Exit, Failure};
use crate::graph::Graph;
use crate::listing::{self, LIMITS};
use crate::output::{print, print_json};

use self::answer::Answer;

pub async fn why(global: Global, args: Why) -> Result<Exit, Failure> {
    let name = args.name.as_ref();
    let name = name.map(|name| parse_name(name, args.raw)).transpose()?;
    let url = global.backend.as_deref();
    // `None`: the user's own coordinator does not run, so nobody holds a lock.
    let locks = coordinator::connect_existing(url, Options::default()).await?;
    let answer = match name {
        Some(name) => explain(locks.as_ref(), name).await?,
        None => longest::explain(locks.as_ref()).await?,
    };
    match global.json {
        true => print_json(&json::to_json(&answer))?,
        false => print(text::to_text(&answer))?,
    }
    Ok(match answer.has_deadlock() {
        true => Exit::Deadlock,
        false => Exit::Success,
    })
}

/// Explains one lock. Whoever holds it may wait for any other lock, so unless it is free, all queues
/// are read: one request for five hundred locks on etcd, one for each lock on ZooKeeper.
async fn explain(locks: Option<&Locks>, name: LockName) -> Result<Answer, Failure> {
    let free = |name| Answer::new(Graph::new(vec![Queue::new(name, vec![])]), Some(0), true);
    let Some(locks) = locks else {
        return Ok(free(name));
    };
    let queue = locks.queue(&name).await?;
    if queue.entries.is_empty() {
        return Ok(free(name));
    }
    let mut listing = listing::read_all(locks, "", LIMITS).await?;
    // Read again with the others, unless it is a raw one, or behind the limit.
    let is_listed = listing.queues.iter().any(|other| other.name == name);
    if !is_listed {
        listing.queues.push(queue);
    }
    let graph = Graph::new(listing.queues);
    let subject = graph.find(&name);
    let mut answer = Answer::new(graph, subject, listing.is_complete);
    answer.find_cycles(locks).await?;
    Ok(answer)
}
