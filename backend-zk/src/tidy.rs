//! Removing empty directories at once, which the servers would remove some time later.

use std::sync::Arc;

use lock_core::Error;
use zookeeper_client::Error as ZkError;

use crate::client::{Client, Cluster};

/// Removes the empty directories of this namespace, and the namespace itself if it is empty. Leaves
/// those above it to the servers, since others may use them.
pub(crate) async fn tidy(cluster: &Arc<Cluster>) -> Result<(), Error> {
    let layout = cluster.layout.clone();
    cluster
        .with_client(move |client| {
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
                // The children of a directory come after it.
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

/// Removes a directory, if it is empty. A client cannot see whether it is a container: the servers
/// do not send its owner (`DataNode.copyStat`).
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
