//! Reads the queue around an entry.

use std::collections::HashMap;

use futures_util::future::{BoxFuture, try_join_all};
use lock_core::rule::{Ahead, Ask, View};
use lock_core::session::{AsOf, Behind};
use lock_core::{EntryId, Error, Ticket};
use zookeeper_client::{Client as ZkClient, Error as ZkError};

use super::{ZkSession, incarnation, to_change};
use crate::client::Client;
use crate::layout;
use crate::node::Contender;

impl ZkSession {
    pub(super) async fn look_ahead(
        &self,
        ticket: &Ticket,
        entry: &EntryId,
        ask: Ask,
        as_of: AsOf,
    ) -> Result<View, Error> {
        let client = self.live_client()?;
        let only = self.only_ahead().get(&ticket.serial).cloned();
        let view = match only {
            Some(only) => self.view_of_two(&client, entry, only, as_of).await?,
            None => {
                let (directory, _) = layout::split(entry)?;
                let children = self.list(&client, directory, as_of).await?;
                let children = children.unwrap_or_default();
                self.view(&client, ticket, entry, &children, ask).await?
            }
        };
        if !view.present {
            // The node also goes with its session. A write finds that out, wherever the session was
            // closed.
            self.write(&client).await?;
        }
        // A listing made while the session ended may be out of date.
        self.live_client()?;
        Ok(view)
    }

    /// Lists the queue of an entry that stands first, and watches the queue if nobody else is there.
    pub(super) async fn look_behind(&self, entry: &EntryId) -> Result<Behind, Error> {
        let (directory, own) = layout::split(entry)?;
        let directory = directory.to_owned();
        let listed = self.live_client()?.ask_in_turn(move |zk| {
            Box::pin(async move {
                let synced = zk.sync(&directory);
                let listed = zk.list_and_watch_children(&directory);
                synced.await?;
                match listed.await {
                    Ok(listed) => Ok(Some(listed)),
                    Err(ZkError::NoNode) => Ok(None),
                    Err(error) => Err(error),
                }
            })
        });
        let listed = self.liveness.note_session_loss(listed.await)?;
        let Some((children, watcher)) =
            listed.filter(|(children, _)| children.iter().any(|child| child == own))
        else {
            // The node also goes with its session, and a listing may be out of date then.
            let client = self.live_client()?;
            self.write(&client).await?;
            return Ok(Behind::Gone);
        };
        self.live_client()?;
        let is_other = |child: &String| child != own && Contender::parse(child).is_some();
        if children.iter().any(is_other) {
            return Ok(Behind::Somebody);
        }
        let liveness = self.liveness.clone();
        Ok(Behind::Nobody(Box::pin(async move {
            liveness.note_session_loss(to_change(watcher.changed().await))
        })))
    }

    /// Returns the view of an entry in a listing. The czxids are read where numbers do not give the
    /// order. They are read after the listing, but the czxid of a node never changes.
    pub(super) async fn view(
        &self,
        client: &Client,
        ticket: &Ticket,
        entry: &EntryId,
        children: &[String],
        ask: Ask,
    ) -> Result<View, Error> {
        let (directory, own) = layout::split(entry)?;
        let unplaced = layout::find_unplaced(own, children, ask);
        let mut created = HashMap::new();
        if !unplaced.is_empty() {
            let paths: Vec<String> = unplaced
                .iter()
                .map(|name| layout::child(directory, name))
                .collect();
            let stats = client.ask(|zk| {
                Box::pin(async move { try_join_all(paths.iter().map(|p| zk.check_stat(p))).await })
            });
            for (name, stat) in unplaced
                .into_iter()
                .zip(self.liveness.note_session_loss(stats.await)?)
            {
                if let Some(stat) = stat {
                    created.insert(name.to_owned(), incarnation(&stat)?);
                }
            }
        }
        let seen = layout::view(entry, children, ask, &created)?;
        if let Some(only) = seen.only {
            self.only_ahead().insert(ticket.serial, only);
        }
        Ok(seen.view)
    }

    /// Returns the view of an entry if nothing but `only` can stand ahead of it. This needs no
    /// listing, however long the queue behind is.
    async fn view_of_two(
        &self,
        client: &Client,
        entry: &EntryId,
        only: Ahead,
        as_of: AsOf,
    ) -> Result<View, Error> {
        let (own, other) = (layout::path(entry)?, layout::path(&only.id)?);
        let found = client.ask(move |zk| {
            Box::pin(async move {
                let synced = (as_of == AsOf::Now).then(|| zk.sync(&own));
                let (own, other) = (zk.check_stat(&own), zk.check_stat(&other));
                if let Some(synced) = synced {
                    synced.await?;
                }
                Ok((own.await?.is_some(), other.await?.is_some()))
            })
        });
        let (present, blocked) = self.liveness.note_session_loss(found.await)?;
        Ok(View {
            present,
            ahead: Vec::from_iter(blocked.then_some(only)),
        })
    }

    /// Lists a directory; returns `None` if there is no directory.
    pub(super) async fn list(
        &self,
        client: &Client,
        directory: &str,
        as_of: AsOf,
    ) -> Result<Option<Vec<String>>, Error> {
        let listed = client.ask(listing(directory, as_of));
        self.liveness.note_session_loss(listed.await)
    }
}

/// Returns the requests that list a directory. Their answer is `None` if there is no directory.
pub(super) fn listing(
    directory: &str,
    as_of: AsOf,
) -> impl for<'a> FnOnce(&'a ZkClient) -> BoxFuture<'a, Result<Option<Vec<String>>, ZkError>>
+ Send
+ use<> {
    let directory = directory.to_owned();
    move |zk| {
        Box::pin(async move {
            let synced = (as_of == AsOf::Now).then(|| zk.sync(&directory));
            let children = zk.list_children(&directory);
            if let Some(synced) = synced {
                synced.await?;
            }
            match children.await {
                Ok(children) => Ok(Some(children)),
                Err(ZkError::NoNode) => Ok(None),
                Err(error) => Err(error),
            }
        })
    }
}
