//! `turnlock evict`: take a lock away from who holds it, or a waiter's place in the queue.

use turnlock::{Entry, Options, Queue, Removed};

use crate::cli::{Evict, Global};
use crate::commands::names::name;
use crate::commands::queue::line;
use crate::coordinator;
use crate::exit::{Exit, Failure};
use crate::output::{print, print_json, who};

pub async fn evict(global: Global, args: Evict) -> Result<Exit, Failure> {
    let name = name(&args.name, args.raw)?;
    let url = global.backend.as_deref();
    let Some(locks) = coordinator::connect_existing(url, Options::default()).await? else {
        return none(&global, &format!("nobody holds {name}"));
    };
    let queue = locks.queue(&name).await?;
    let (entry, holds) = match choose(&queue, &args)? {
        Ok(chosen) => chosen,
        Err(nobody) => return none(&global, &nobody),
    };
    let removed = locks.evict(&name, &entry.id).await?;
    match removed {
        Removed::Removed if global.json => print_json(&line("evicted", entry))?,
        Removed::Removed => print(format!(
            "{name}: evicted {} (token {}), which {}",
            who(entry),
            entry.token,
            if holds { "held it" } else { "waited for it" }
        ))?,
        Removed::AlreadyGone => {
            return none(
                &global,
                &format!("{name}: {} has left by itself", who(entry)),
            );
        }
    }
    Ok(Exit::Success)
}

/// What was asked for is so already.
fn none(global: &Global, words: &str) -> Result<Exit, Failure> {
    if !global.json {
        print(words)?;
    }
    Ok(Exit::Success)
}

/// Whom to evict, and whether it holds the lock; or the words for that nobody is there.
fn choose<'a>(
    queue: &'a Queue,
    args: &Evict,
) -> Result<Result<(&'a Entry, bool), String>, Failure> {
    let name = &queue.name;
    let holders = &queue.entries[..queue.holders()];
    if let Some(token) = args.token {
        let place = queue.entries.iter().position(|entry| entry.token == token);
        return Ok(match place {
            Some(place) => Ok((&queue.entries[place], place < holders.len())),
            None => Err(format!("{name}: nobody has the token {token}")),
        });
    }
    match holders {
        [] => Ok(Err(format!("nobody holds {name}"))),
        [one] => Ok(Ok((one, true))),
        several => {
            let tokens: Vec<_> = several.iter().map(|e| e.token.to_string()).collect();
            let message = format!("{} share {name}, and one has to be chosen", several.len());
            Err(Failure::new(Exit::Usage, message)
                .hint(format!("give --token with one of {}", tokens.join(", "))))
        }
    }
}
