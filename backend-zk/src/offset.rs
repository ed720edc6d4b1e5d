//! The token offset in ZooKeeper: reading and raising it.
//!
//! Every session has a node in one directory. The offset is raised only together with the removal
//! of that directory, which the servers refuse while it has a node. A session creates its node
//! before it reads the offset. So either it reads the new offset, or the offset is not raised.

use std::sync::Arc;

use lock_core::{Error, ErrorKind, Raised, TokenOffset};
use zookeeper_client::{Error as ZkError, MultiWriteError};

use crate::client::{Client, Cluster};

/// How many times to begin again when another client changes the nodes meanwhile.
const TRIES: u32 = 8;

/// Reads the offset and the version of its node. Returns `None` before the offset is raised for the
/// first time.
async fn read_node(client: &Client, path: &str) -> Result<Option<(TokenOffset, i32)>, Error> {
    let node = path.to_owned();
    let found = client.ask(move |zk| {
        Box::pin(async move {
            let synced = zk.sync(&node);
            let data = zk.get_data(&node);
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

/// Reads the present offset.
pub(crate) async fn read(client: &Client, path: &str) -> Result<TokenOffset, Error> {
    let node = read_node(client, path).await?;
    Ok(node.map_or(TokenOffset::default(), |(offset, _)| offset))
}

/// Raises the offset, if no session is open.
pub(crate) async fn raise(cluster: &Arc<Cluster>, offset: TokenOffset) -> Result<Raised, Error> {
    let (path, sessions) = (
        cluster.layout.token_offset_node(),
        cluster.layout.sessions(),
    );
    cluster
        .with_client(move |client| {
            let (path, sessions) = (path.clone(), sessions.clone());
            Box::pin(async move {
                for _ in 0..TRIES {
                    let now = read_node(client, &path).await?;
                    if let Some((now, _)) = now
                        && now >= offset
                    {
                        return Ok(Raised::To(now));
                    }
                    client.make_directory(&sessions).await?;
                    let version = now.map(|(_, version)| version);
                    if let Some(raised) =
                        try_raise(client, &path, &sessions, offset, version).await?
                    {
                        return Ok(raised);
                    }
                }
                let text =
                    format!("other clients keep changing the nodes {path:?} and {sessions:?}");
                Err(Error::new(ErrorKind::Exhausted, text))
            })
        })
        .await
}

/// Makes one attempt. Returns `None` if the offset has another version by now, or the directory is
/// gone.
async fn try_raise(
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
