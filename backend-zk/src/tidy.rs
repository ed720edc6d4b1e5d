//! Removing at once the directories that the servers would remove some time later.

use std::sync::Arc;

use lock_core::Error;
use zookeeper_client::Error as ZkError;

use crate::client::{Client, Cluster};

/// Removes the directories of this namespace that are empty, itself among them. Those above it are
/// for the servers: what is not in the namespace may be somebody's own.
pub(crate) async fn tidy(cluster: &Arc<Cluster>) -> Result<(), Error> {
    let layout = cluster.layout.clone();
    cluster
        .briefly(move |client| {
            let top = layout.namespace().to_owned();
            Box::pin(async move {
                let mut paths = vec![top];
                let mut next = 0;
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

/// Removes a directory, if nothing is in it. A client cannot see whether it is a container: the
/// servers tell of no owner (`DataNode.copyStat`).
async fn remove(client: &Client, path: String) -> Result<(), Error> {
    client
        .ask(move |zk| {
            Box::pin(async move {
                let found = zk.check_stat(&path).await?;
                if found.is_none_or(|stat| stat.ephemeral_owner != 0 || stat.data_length > 0) {
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
