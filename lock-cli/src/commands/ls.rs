//! `turnlock ls`: list the locks that somebody holds or waits for.

use serde_json::json;
use turnlock::{LockName, Locks, Options, Queue};

use crate::cli::{Global, Ls};
use crate::commands::names::parse_prefix;
use crate::coordinator;
use crate::exit::{Exit, Failure};
use crate::listing::PAGE_SIZE;
use crate::output::{
    Shrinks, describe_owner, escape_controls, format_queued, format_table, print, print_json,
};

/// The columns that are shortened on a narrow terminal: the name and the holder.
const SHRINKS: &[Shrinks] = &[(0, 24), (5, 12), (0, 8)];

pub async fn ls(global: Global, args: Ls) -> Result<Exit, Failure> {
    let prefix = parse_prefix(&args.prefix)?;
    let url = global.backend.as_deref();
    let locks = coordinator::connect_existing(url, Options::default()).await?;
    let mut rows = vec![
        ["NAME", "MODE", "TOKEN", "WAITING", "QUEUED", "HOLDER"]
            .map(str::to_owned)
            .to_vec(),
    ];
    let mut after: Option<LockName> = None;
    // `None`: the user's own coordinator does not run, so none of its locks is in use.
    while let Some(locks) = &locks {
        let page = list(locks, &prefix, after.as_ref()).await?;
        for queue in &page {
            if global.json {
                print_json(&to_json(queue))?;
            } else {
                rows.push(to_row(queue));
            }
        }
        if page.len() < PAGE_SIZE {
            break;
        }
        after = page.last().map(|queue| queue.name.clone());
    }
    if !global.json {
        match rows.len() {
            1 if prefix.is_empty() => print("no lock is in use"),
            1 => print(format!(
                "no lock whose name begins with {} is in use",
                escape_controls(&prefix)
            )),
            _ => print(format_table(&rows, SHRINKS)),
        }?;
    }
    Ok(Exit::Success)
}

async fn list(
    locks: &Locks,
    prefix: &str,
    after: Option<&LockName>,
) -> Result<Vec<Queue>, Failure> {
    Ok(locks.list(prefix, after, PAGE_SIZE).await?)
}

fn to_row(queue: &Queue) -> Vec<String> {
    let holders = queue.holders();
    let waiting = queue.entries.len() - holders;
    let Some(first) = queue.entries.first() else {
        return vec![];
    };
    let more = if holders > 1 {
        format!(" and {} more", holders - 1)
    } else {
        String::new()
    };
    vec![
        escape_controls(queue.name.as_str()),
        first.mode.to_string(),
        first.token.to_string(),
        waiting.to_string(),
        format_queued(first).unwrap_or_else(|| "-".to_owned()),
        describe_owner(first) + &more,
    ]
}

fn to_json(queue: &Queue) -> serde_json::Value {
    let holders = queue.holders();
    json!({
        "name": queue.name.as_str(),
        "mode": queue.entries.first().map(|entry| entry.mode),
        "tokens": queue.entries[..holders].iter().map(|entry| entry.token).collect::<Vec<_>>(),
        "holders": holders,
        "waiting": queue.entries.len() - holders,
    })
}
