//! Removing an entry, whoever's it is.

use std::sync::Arc;

use lock_core::{EntryId, Error, ErrorKind, Incarnation, LockName, Removed};
use zookeeper_client::Error as ZkError;

use crate::client::{Client, Cluster};
use crate::{layout, session};

/// Removes this incarnation of an entry of this lock.
///
/// No write of ZooKeeper's can be made to depend on when a node was made, so that is read first.
/// What the node's path cannot mean is another entry of ours, and of those of other clients only of
/// one that draws no random names, in a directory that was removed and made anew in between.
pub(crate) async fn evict(
    cluster: &Arc<Cluster>,
    name: &LockName,
    entry: &EntryId,
) -> Result<Removed, Error> {
    let (directory, _) = layout::split(entry)?;
    if directory != cluster.layout.directory(name)? {
        return Err(Error::new(
            ErrorKind::InvalidArgument,
            format!("{entry:?} is no entry of the lock {name}"),
        ));
    }
    let (path, incarnation) = (layout::path(entry)?, entry.incarnation);
    let removed = cluster.briefly(move |client| Box::pin(remove(client, path, incarnation)));
    Ok(match removed.await? {
        true => Removed::Removed,
        false => Removed::AlreadyGone,
    })
}

/// Whether it was there.
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
