//! The floor under the tokens, as it lies in ZooKeeper.
//!
//! It is raised only together with the removal of the directory in which every session has a node,
//! which the servers refuse while there is one. A session makes its node before it reads the floor:
//! so either it knows of the new one, or the floor is not raised.

use std::sync::Arc;

use lock_core::{Error, ErrorKind, Floor, Raised};
use zookeeper_client::{Error as ZkError, MultiWriteError};

use crate::client::{Client, Cluster};

/// How often we begin again when somebody else changes things meanwhile.
const TRIES: u32 = 8;

/// The floor, and the version of its node; `None` before it is raised for the first time.
async fn node(client: &Client, path: &str) -> Result<Option<(Floor, i32)>, Error> {
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
    Ok(Some((Floor::from_bytes(&data, path)?, version)))
}

/// The floor as it is now.
pub(crate) async fn read(client: &Client, path: &str) -> Result<Floor, Error> {
    let node = node(client, path).await?;
    Ok(node.map_or(Floor::default(), |(floor, _)| floor))
}

/// Raises the floor, if there is no session.
pub(crate) async fn raise(cluster: &Arc<Cluster>, floor: Floor) -> Result<Raised, Error> {
    let (path, sessions) = (cluster.layout.floor_node(), cluster.layout.sessions());
    cluster
        .briefly(move |client| {
            let (path, sessions) = (path.clone(), sessions.clone());
            Box::pin(async move {
                for _ in 0..TRIES {
                    let now = node(client, &path).await?;
                    if let Some((now, _)) = now
                        && now >= floor
                    {
                        return Ok(Raised::To(now));
                    }
                    client.make_directory(&sessions).await?;
                    let version = now.map(|(_, version)| version);
                    if let Some(raised) = attempt(client, &path, &sessions, floor, version).await? {
                        return Ok(raised);
                    }
                }
                let text = format!("the nodes {path:?} and {sessions:?} are changed all the time");
                Err(Error::new(ErrorKind::Exhausted, text))
            })
        })
        .await
}

/// One attempt; `None` if the floor is not in this version any more, or the directory is gone.
async fn attempt(
    client: &Client,
    path: &str,
    sessions: &str,
    floor: Floor,
    version: Option<i32>,
) -> Result<Option<Raised>, Error> {
    let (path, sessions) = (path.to_owned(), sessions.to_owned());
    let options = client.data_options();
    let written = client.ask(move |zk| {
        Box::pin(async move {
            let mut writer = zk.new_multi_writer();
            writer.add_delete(&sessions, None)?;
            let data = floor.to_bytes();
            match version {
                Some(version) => writer.add_set_data(&path, &data, Some(version))?,
                None => writer.add_create(&path, &data, &options)?,
            }
            match writer.commit().await {
                Ok(_) => Ok(Some(Raised::To(floor))),
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
