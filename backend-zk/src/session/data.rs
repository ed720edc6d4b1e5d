//! The values that holders keep. They are read and changed together with a check that the holder's
//! node exists.

use lock_core::{Access, Accessed, DataKey, EntryId, Error, ErrorKind, Metadata};
use zookeeper_client::{Error as ZkError, MultiWriteError};

use super::ZkSession;
use super::enqueue::DIRECTORY_TRIES;
use crate::client::Client;
use crate::layout;

/// The operation that a step of a put or a delete makes on the node of the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Set,
    Create,
    Delete,
}

/// The outcome of a step.
enum Stepped {
    Done,
    /// The holder's node does not exist.
    NotOurs,
    /// The node of the value, or its directory, does not exist.
    Absent,
    /// The node of the value exists.
    Present,
}

impl ZkSession {
    pub(super) async fn access_data(
        &self,
        entry: &EntryId,
        key: &DataKey,
        access: &Access,
    ) -> Result<Accessed, Error> {
        let client = self.live_client()?;
        let own = layout::path(entry)?;
        let node = self.cluster.layout.data_node(key);
        let accessed = match access {
            Access::Get => self.read_data(&client, own, node).await?,
            Access::Put(value) => self.change_data(&client, &own, &node, Some(value)).await?,
            Access::Delete => self.change_data(&client, &own, &node, None).await?,
        };
        if accessed == Accessed::NotOurs {
            // The holder's node also goes with its session. A write finds that out, wherever the
            // session was closed.
            self.write(&client).await?;
            self.live_client()?;
        }
        Ok(accessed)
    }

    /// Reads the value, and then checks that the holder's node exists. If it exists after the value
    /// was read, it also existed when the value was read.
    async fn read_data(
        &self,
        client: &Client,
        own: String,
        node: String,
    ) -> Result<Accessed, Error> {
        let answers = client.ask(move |zk| {
            Box::pin(async move {
                let synced = zk.sync(&node);
                let (value, own) = (zk.get_data(&node), zk.check_stat(&own));
                synced.await?;
                let value = match value.await {
                    Ok((value, _)) => Some(value),
                    Err(ZkError::NoNode) => None,
                    Err(error) => return Err(error),
                };
                Ok(own.await?.map(|_| value))
            })
        });
        let found = self.liveness.note_session_loss(answers.await)?;
        Ok(found.map_or(Accessed::NotOurs, Accessed::Done))
    }

    /// Writes the entry's own node. No path is used twice, so the path identifies the incarnation.
    pub(super) async fn describe_entry(
        &self,
        entry: &EntryId,
        metadata: &Metadata,
    ) -> Result<bool, Error> {
        let client = self.live_client()?;
        let (node, data) = (layout::path(entry)?, metadata.to_bytes());
        let written = client.ask(|zk| {
            Box::pin(async move {
                match zk.set_data(&node, &data, None).await {
                    Ok(_) => Ok(true),
                    Err(ZkError::NoNode) => Ok(false),
                    Err(error) => Err(error),
                }
            })
        });
        self.liveness.note_session_loss(written.await)
    }

    /// Reads what a node says of its contender: also a node of another client, which may keep it to
    /// itself.
    pub(super) async fn read_metadata(&self, entry: &EntryId) -> Result<Option<Metadata>, Error> {
        let client = self.live_client()?;
        let node = layout::path(entry)?;
        let read = client.ask(move |zk| {
            Box::pin(async move {
                match zk.get_data(&node).await {
                    Ok(found) => Ok(Some(found)),
                    Err(ZkError::NoNode | ZkError::NoAuth) => Ok(None),
                    Err(error) => Err(error),
                }
            })
        });
        let Some((data, stat)) = self.liveness.note_session_loss(read.await)? else {
            return Ok(None);
        };
        let is_same = match entry.incarnation {
            Some(incarnation) => incarnation == super::incarnation(&stat)?,
            None => true,
        };
        Ok(Metadata::from_bytes(&data).filter(|_| is_same))
    }

    /// Sets the value, or removes it.
    ///
    /// A change whose reply was lost is not carried out after a later change. Requests over one
    /// connection keep their order, and when the session has moved to a new connection, the servers
    /// turn away requests that come by an earlier one.
    async fn change_data(
        &self,
        client: &Client,
        own: &str,
        node: &str,
        value: Option<&[u8]>,
    ) -> Result<Accessed, Error> {
        let mut step = match value {
            Some(_) => Step::Set,
            None => Step::Delete,
        };
        for _ in 0..DIRECTORY_TRIES {
            let stepped = self.step(client, own, node, step, value.unwrap_or_default());
            step = match (step, stepped.await?) {
                (_, Stepped::Done) | (Step::Delete, Stepped::Absent) => {
                    return Ok(Accessed::Done(None));
                }
                (_, Stepped::NotOurs) => return Ok(Accessed::NotOurs),
                (Step::Create, Stepped::Absent) => {
                    let (directory, _) = node.rsplit_once('/').unwrap_or_default();
                    client.make_directory(directory).await?;
                    Step::Create
                }
                (_, Stepped::Absent) => Step::Create,
                (_, Stepped::Present) => Step::Set,
            };
        }
        Err(Error::new(
            ErrorKind::Exhausted,
            format!("the node {node:?} is removed as often as it is made"),
        ))
    }

    async fn step(
        &self,
        client: &Client,
        own: &str,
        node: &str,
        step: Step,
        value: &[u8],
    ) -> Result<Stepped, Error> {
        let (own, node, value) = (own.to_owned(), node.to_owned(), value.to_vec());
        let options = client.data_options();
        let written = client.ask(move |zk| {
            Box::pin(async move {
                let mut writer = zk.new_multi_writer();
                // The check takes any version, because a write to the node does not change its
                // owner. No path is used twice, so the path identifies the incarnation.
                writer.add_check_version(&own, -1)?;
                match step {
                    Step::Set => writer.add_set_data(&node, &value, None)?,
                    Step::Create => writer.add_create(&node, &value, &options)?,
                    Step::Delete => writer.add_delete(&node, None)?,
                }
                Ok(match writer.commit().await {
                    Ok(_) => Stepped::Done,
                    Err(MultiWriteError::OperationFailed {
                        index: 0,
                        source: ZkError::NoNode,
                    }) => Stepped::NotOurs,
                    Err(error) => match ZkError::from(error) {
                        ZkError::NoNode => Stepped::Absent,
                        ZkError::NodeExists => Stepped::Present,
                        error => return Err(error),
                    },
                })
            })
        });
        self.liveness.note_session_loss(written.await)
    }
}
