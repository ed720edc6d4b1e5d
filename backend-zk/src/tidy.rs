//! Removing at once the directories that the servers would remove some time later.

use std::sync::Arc;

use lock_core::Error;
use zookeeper_client::Error as ZkError;

use crate::client::{Client, Cluster};

/// How a server tells that a node is a container, in the place of its owner.
const CONTAINER: i64 = i64::MIN;

/// Removes the containers of this namespace that are empty, and those above it.
pub(crate) async fn tidy(cluster: &Arc<Cluster>) -> Result<(), Error> {
    let layout = cluster.layout.clone();
    cluster
        .briefly(move |client| {
            let top = layout.namespace().to_owned();
            Box::pin(async move {
                let mut paths: Vec<String> = top
                    .match_indices('/')
                    .skip(1)
                    .map(|(end, _)| top[..end].to_owned())
                    .collect();
                let mut next = paths.len();
                paths.push(top);
                while let Some(path) = paths.get(next) {
                    let below: Vec<String> = children(client, path)
                        .await?
                        .iter()
                        .map(|child| format!("{path}/{child}"))
                        .collect();
                    paths.extend(below);
                    next += 1;
                }
                // Whatever is in a directory comes after it.
                for path in paths.into_iter().rev() {
                    remove(client, path).await?;
                }
                Ok(())
            })
        })
        .await
}

async fn children(client: &Client, path: &str) -> Result<Vec<String>, Error> {
    let path = path.to_owned();
    client
        .ask(move |zk| {
            Box::pin(async move {
                match zk.list_children(&path).await {
                    Err(ZkError::NoNode) => Ok(Vec::new()),
                    listed => listed,
                }
            })
        })
        .await
}

/// Removes an empty container, as the servers do: they refuse if something is in it.
async fn remove(client: &Client, path: String) -> Result<(), Error> {
    client
        .ask(move |zk| {
            Box::pin(async move {
                let found = zk.check_stat(&path).await?;
                if found.is_none_or(|stat| stat.ephemeral_owner != CONTAINER) {
                    return Ok(());
                }
                match zk.delete(&path, None).await {
                    Ok(()) | Err(ZkError::NoNode | ZkError::NotEmpty) => Ok(()),
                    Err(error) => Err(error),
                }
            })
        })
        .await
}
