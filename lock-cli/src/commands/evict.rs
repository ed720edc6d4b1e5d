//! `turnlock evict`: take a lock away from its holder, or remove a waiter from the queue.

use turnlock::{Entry, Options, Queue, Removed};

use crate::cli::{Evict, Global};
use crate::commands::names::parse_name;
use crate::commands::queue::to_json;
use crate::coordinator;
use crate::exit::{Exit, Failure};
use crate::output::{describe_owner, print, print_json};

pub async fn evict(global: Global, args: Evict) -> Result<Exit, Failure> {
    let name = parse_name(&args.name, args.raw)?;
    let url = global.backend.as_deref();
    let Some(locks) = coordinator::connect_existing(url, Options::default()).await? else {
        return report_nothing_to_do(&global, &format!("nobody holds {name}"));
    };
    let queue = locks.queue(&name).await?;
    let (entry, holds) = match choose(&queue, &args)? {
        Ok(chosen) => chosen,
        Err(nobody) => return report_nothing_to_do(&global, &nobody),
    };
    let removed = locks.evict(&name, &entry.id).await?;
    match removed {
        Removed::Removed if global.json => print_json(&to_json("evicted", entry))?,
        Removed::Removed => print(format!(
            "{name}: evicted {} (token {}), which {}",
            describe_owner(entry),
            entry.token,
            if holds { "held it" } else { "waited for it" }
        ))?,
        Removed::AlreadyGone => {
            return report_nothing_to_do(
                &global,
                &format!("{name}: {} has left by itself", describe_owner(entry)),
            );
        }
    }
    Ok(Exit::Success)
}

/// Reports that there is nobody to evict. That is a success: the state is already the one asked
/// for.
fn report_nothing_to_do(global: &Global, message: &str) -> Result<Exit, Failure> {
    if !global.json {
        print(message)?;
    }
    Ok(Exit::Success)
}

/// Chooses the entry to evict. Returns whether it holds the lock, or the message that there is no
/// such entry as the inner error.
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
            let message = format!("{} share {name}: choose one of them", several.len());
            Err(Failure::new(Exit::Usage, message).hint(format!(
                "give --token with one of these: {}",
                tokens.join(", ")
            )))
        }
    }
}
