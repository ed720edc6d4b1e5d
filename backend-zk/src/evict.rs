//! Removing an entry of any session.

use std::sync::Arc;

use lock_core::{EntryId, Error, ErrorKind, Incarnation, LockName, Removed};
use zookeeper_client::Error as ZkError;

use crate::client::{Client, Cluster};
use crate::{layout, session};

/// Removes this incarnation of an entry of this lock.
///
/// No write of ZooKeeper can depend on when a node was created, so the node is read first. No other
/// entry of Turnlock ever has this path. An entry of another client can have it only if that client
/// uses no random names, and the directory was removed and created again between read and write.
pub(crate) async fn evict(
    cluster: &Arc<Cluster>,
    name: &LockName,
    entry: &EntryId,
) -> Result<Removed, Error> {
    let (directory, _) = layout::split(entry)?;
    if directory != cluster.layout.directory(name)? {
        return Err(Error::new(
            ErrorKind::InvalidArgument,
            format!("{entry:?} is not an entry of the lock {name}"),
        ));
    }
    let (path, incarnation) = (layout::path(entry)?, entry.incarnation);
    let removed = cluster.with_client(move |client| Box::pin(remove(client, path, incarnation)));
    Ok(match removed.await? {
        true => Removed::Removed,
        false => Removed::AlreadyGone,
    })
}

/// Removes the node, and returns whether it was there.
async fn remove(
    client: &Client,
    path: String,
    incarnation: Option<Incarnation>,
) -> Result<bool, Error> {
    let found = client.ask({
        let path = path.clone();
        |zk| {
            Box::pin(async move {
                let synced = zk.sync(&path);
                let stat = zk.check_stat(&path);
                synced.await?;
                stat.await
            })
        }
    });
    let Some(stat) = found.await? else {
        return Ok(false);
    };
    if Some(session::incarnation(&stat)?) != incarnation {
        return Ok(false);
    }
    let deleted = client.ask(|zk| {
        Box::pin(async move {
            match zk.delete(&path, None).await {
                Ok(()) => Ok(true),
                Err(ZkError::NoNode) => Ok(false),
                Err(error) => Err(error),
            }
        })
    });
    deleted.await
}
