//! The token offset, as it lies in ZooKeeper.
//!
//! It is raised only together with the removal of the directory in which every session has a node,
//! which the servers refuse while there is one. A session makes its node before it reads the offset:
//! so either it knows of the new one, or the offset is not raised.

use std::sync::Arc;

use lock_core::{Error, ErrorKind, Raised, TokenOffset};
use zookeeper_client::{Error as ZkError, MultiWriteError};

use crate::client::{Client, Cluster};

/// How often we begin again when somebody else changes things meanwhile.
const TRIES: u32 = 8;

/// The offset, and the version of its node; `None` before it is raised for the first time.
async fn node(client: &Client, path: &str) -> Result<Option<(TokenOffset, i32)>, Error> {
    let asked = path.to_owned();
    let found = client.ask(move |zk| {
        Box::pin(async move {
            let synced = zk.sync(&asked);
            let data = zk.get_data(&asked);
            synced.await?;
            match data.await {
                Ok((data, stat)) => Ok(Some((data, stat.version))),
                Err(ZkError::NoNode) => Ok(None),
                Err(error) => Err(error),
            }
        })
    });
    let Some((data, version)) = found.await? else {
        return Ok(None);
    };
    Ok(Some((TokenOffset::from_bytes(&data, path)?, version)))
}

/// The offset as it is now.
pub(crate) async fn read(client: &Client, path: &str) -> Result<TokenOffset, Error> {
    let node = node(client, path).await?;
    Ok(node.map_or(TokenOffset::default(), |(offset, _)| offset))
}

/// Raises the offset, if there is no session.
pub(crate) async fn raise(cluster: &Arc<Cluster>, offset: TokenOffset) -> Result<Raised, Error> {
    let (path, sessions) = (
        cluster.layout.token_offset_node(),
        cluster.layout.sessions(),
    );
    cluster
        .briefly(move |client| {
            let (path, sessions) = (path.clone(), sessions.clone());
            Box::pin(async move {
                for _ in 0..TRIES {
                    let now = node(client, &path).await?;
                    if let Some((now, _)) = now
                        && now >= offset
                    {
                        return Ok(Raised::To(now));
                    }
                    client.make_directory(&sessions).await?;
                    let version = now.map(|(_, version)| version);
                    if let Some(raised) = attempt(client, &path, &sessions, offset, version).await?
                    {
                        return Ok(raised);
                    }
                }
                let text = format!("the nodes {path:?} and {sessions:?} are changed all the time");
                Err(Error::new(ErrorKind::Exhausted, text))
            })
        })
        .await
}

/// One attempt; `None` if the offset is not in this version any more, or the directory is gone.
async fn attempt(
    client: &Client,
    path: &str,
    sessions: &str,
    offset: TokenOffset,
    version: Option<i32>,
) -> Result<Option<Raised>, Error> {
    let (path, sessions) = (path.to_owned(), sessions.to_owned());
    let options = client.data_options();
    let written = client.ask(move |zk| {
        Box::pin(async move {
            let mut writer = zk.new_multi_writer();
            writer.add_delete(&sessions, None)?;
            let data = offset.to_bytes();
            match version {
                Some(version) => writer.add_set_data(&path, &data, Some(version))?,
                None => writer.add_create(&path, &data, &options)?,
            }
            match writer.commit().await {
                Ok(_) => Ok(Some(Raised::To(offset))),
                Err(MultiWriteError::OperationFailed {
                    index: 0,
                    source: ZkError::NotEmpty,
                }) => Ok(Some(Raised::InUse)),
                Err(error) => match ZkError::from(error) {
                    ZkError::NoNode | ZkError::NodeExists | ZkError::BadVersion => Ok(None),
                    error => Err(error),
                },
            }
        })
    });
    written.await
}
