//! Reading whole queues and values, without a session of the user.

use std::sync::Arc;

use futures_util::future::join_all;
use lock_core::{DataKey, Entry, Error, LockName, Metadata, Queue, SessionId, TokenOffset};
use zookeeper_client::{Error as ZkError, Stat};

use crate::client::{Client, Cluster};
use crate::node::{Contender, Place};
use crate::{layout, offset, session};

/// How many nodes are read at a time. Those of other clients may have up to 1 MiB each.
const PAGE: usize = 128;

/// Reads the queue of a lock. It is not a snapshot: it may or may not have the entries that come or
/// go while it is read.
pub(crate) async fn queue(cluster: &Arc<Cluster>, name: &LockName) -> Result<Queue, Error> {
    let (name, directory) = (name.clone(), cluster.layout.directory(name)?);
    let path = cluster.layout.token_offset_node();
    cluster
        .with_client(move |client| {
            let (name, directory, path) = (name.clone(), directory.clone(), path.clone());
            Box::pin(async move {
                let offset = offset::read(client, &path).await?;
                read(client, name, &directory, offset).await
            })
        })
        .await
}

pub(crate) async fn locks(
    cluster: &Arc<Cluster>,
    prefix: &str,
    after: Option<&LockName>,
    limit: usize,
) -> Result<Vec<Queue>, Error> {
    let (prefix, after) = (lock_core::name::encode(prefix), after.cloned());
    let layout = cluster.layout.clone();
    cluster
        .with_client(move |client| {
            let (prefix, after, layout) = (prefix.clone(), after.clone(), layout.clone());
            Box::pin(async move {
                let after = after.map(|name| lock_core::name::encode(name.as_str()));
                let offset = offset::read(client, &layout.token_offset_node()).await?;
                let mut children = list(client, layout.namespace()).await?;
                children.retain(|child| {
                    child.starts_with(&prefix) && after.as_ref().is_none_or(|after| child > after)
                });
                children.sort_unstable();
                let mut queues = Vec::new();
                for child in children {
                    if queues.len() == limit {
                        break;
                    }
                    let Some(name) = layout.name_of(&child) else {
                        continue;
                    };
                    let directory = layout.directory(&name)?;
                    let queue = read(client, name, &directory, offset).await?;
                    // A directory stays for a while after its last entry.
                    if !queue.entries.is_empty() {
                        queues.push(queue);
                    }
                }
                Ok(queues)
            })
        })
        .await
}

/// Reads the value that holders keep at this key.
pub(crate) async fn get(cluster: &Arc<Cluster>, key: &DataKey) -> Result<Option<Vec<u8>>, Error> {
    let path = cluster.layout.data_node(key);
    cluster
        .with_client(move |client| {
            let path = path.clone();
            Box::pin(client.ask(move |zk| {
                Box::pin(async move {
                    let synced = zk.sync(&path);
                    let value = zk.get_data(&path);
                    synced.await?;
                    match value.await {
                        Ok((value, _)) => Ok(Some(value)),
                        Err(ZkError::NoNode) => Ok(None),
                        Err(error) => Err(error),
                    }
                })
            }))
        })
        .await
}

/// Lists the children of a directory. Returns none if it is not there.
async fn list(client: &Client, directory: &str) -> Result<Vec<String>, Error> {
    let directory = directory.to_owned();
    client
        .ask(move |zk| {
            Box::pin(async move {
                let synced = zk.sync(&directory);
                let children = zk.list_children(&directory);
                synced.await?;
                match children.await {
                    Err(ZkError::NoNode) => Ok(Vec::new()),
                    children => children,
                }
            })
        })
        .await
}

async fn read(
    client: &Client,
    name: LockName,
    directory: &str,
    offset: TokenOffset,
) -> Result<Queue, Error> {
    let children = list(client, directory).await?;
    let contenders: Vec<Contender<'_>> = children
        .iter()
        .filter_map(|child| Contender::parse(child))
        .collect();
    let mut placed = Vec::new();
    for page in contenders.chunks(PAGE) {
        let paths: Vec<String> = page
            .iter()
            .map(|contender| format!("{directory}/{}", contender.name))
            .collect();
        let nodes = client
            .ask(move |zk| {
                Box::pin(
                    async move { Ok(join_all(paths.iter().map(|path| read_node(zk, path))).await) },
                )
            })
            .await?;
        for (contender, node) in page.iter().zip(nodes) {
            // A node that was removed meanwhile is left out.
            let Some((data, stat)) = node.map_err(|error| client.error(error))? else {
                continue;
            };
            let incarnation = session::incarnation(&stat)?;
            let place = contender.place().unwrap_or(Place::Created(incarnation));
            let id = layout::entry(directory, contender.name, Some(incarnation));
            let session = (stat.ephemeral_owner != 0).then_some(SessionId(stat.ephemeral_owner));
            let entry = Entry::new(id, offset.token(&name, incarnation)?, contender.mode)
                .with_session(session)
                .with_metadata(data.as_deref().and_then(Metadata::from_bytes));
            placed.push((place, entry));
        }
    }
    placed.sort_by_key(|(place, _)| *place);
    let entries = placed.into_iter().map(|(_, entry)| entry).collect();
    Ok(Queue::new(name, entries))
}

/// Reads a node, if it is there, and its data, if this user may read them.
async fn read_node(
    zk: &zookeeper_client::Client,
    path: &str,
) -> Result<Option<(Option<Vec<u8>>, Stat)>, ZkError> {
    match zk.get_data(path).await {
        Ok((data, stat)) => Ok(Some((Some(data), stat))),
        Err(ZkError::NoNode) => Ok(None),
        Err(ZkError::NoAuth) => Ok(zk.check_stat(path).await?.map(|stat| (None, stat))),
        Err(error) => Err(error),
    }
}
