//! Giving a place up.

use std::sync::Arc;

use futures_util::future::try_join_all;
use lock_core::handoff::Departure;
use lock_core::session::Removed;
use lock_core::{EntryId, Error, ErrorKind, LossReason, Ticket, background};
use zookeeper_client::{Error as ZkError, Stat};

use super::{ZkSession, incarnation};
use crate::client::Client;
use crate::layout;

impl ZkSession {
    pub(super) async fn give_up(
        &self,
        ticket: &Ticket,
        entry: Option<&EntryId>,
    ) -> Result<Removed, Error> {
        // A path is never used twice: the mark of the ticket in it tells that the entry is ours.
        let settled = entry.filter(|entry| {
            !self.unsettled().contains(&ticket.serial) && self.made_by(ticket, entry)
        });
        let departure = self.session_handoff.leave(ticket, settled);
        let departure = departure.map(Arc::new);
        let removed = self
            .try_remove(ticket, entry, settled, departure.as_ref())
            .await?;
        self.unsettled().remove(&ticket.serial);
        self.only().remove(&ticket.serial);
        if let Some(entry) = entry {
            self.alone().left(entry);
        }
        Ok(removed)
    }

    async fn try_remove(
        &self,
        ticket: &Ticket,
        entry: Option<&EntryId>,
        settled: Option<&EntryId>,
        departure: Option<&Arc<Departure>>,
    ) -> Result<Removed, Error> {
        let Ok(client) = self.client() else {
            // With the session goes all that is of it.
            self.wait_for_end().await?;
            return Ok(Removed::AlreadyGone);
        };
        let removed = match (settled, departure) {
            (Some(_), Some(departure)) => self.hand_over(&client, departure).await,
            (Some(entry), None) => self.delete(&client, layout::path(entry)?).await,
            (None, _) => self.remove_for_good(&client, ticket).await.map(|paths| {
                let asked = |path: &String| entry.is_none_or(|e| *e.key == *path.as_bytes());
                paths.iter().any(asked)
            }),
        };
        match removed {
            Ok(true) => Ok(Removed::Removed),
            Ok(false) => Ok(Removed::AlreadyGone),
            // The same, as the servers told us.
            Err(error) if error.kind() == ErrorKind::SessionLost(LossReason::SessionGone) => {
                Ok(Removed::AlreadyGone)
            }
            Err(error) => Err(error),
        }
    }

    /// Writes something, to be told if the session is over.
    pub(super) async fn write(&self, client: &Client) -> Result<(), Error> {
        let node = self.cluster.layout.session_node(self.id);
        let written = client.ask(|zk| {
            Box::pin(async move {
                match zk.set_data(&node, &[], None).await {
                    Ok(_) | Err(ZkError::NoNode) => Ok(()),
                    Err(error) => Err(error),
                }
            })
        });
        self.liveness.note_session_loss(written.await)
    }

    /// Whether the node was there.
    pub(super) async fn delete(&self, client: &Client, path: String) -> Result<bool, Error> {
        let deleted = client.ask(|zk| {
            Box::pin(async move {
                match zk.delete(&path, None).await {
                    Ok(()) => Ok(true),
                    Err(ZkError::NoNode) => Ok(false),
                    Err(error) => Err(error),
                }
            })
        });
        self.liveness.note_session_loss(deleted.await)
    }

    /// Removes an entry and looks, in the same round trip, who of those behind it is still there.
    /// Answers whether it was there itself.
    async fn hand_over(
        &self,
        client: &Arc<Client>,
        departure: &Arc<Departure>,
    ) -> Result<bool, Error> {
        let (client, departure) = (client.clone(), departure.clone());
        // Where the waiters are woken: each crossing to another thread would be a part of the time
        // in which nobody holds the lock.
        let removed = background::finish(async move {
            let path = layout::path(departure.entry())?;
            let waiters = departure.waiters();
            let behind: Vec<String> = waiters.iter().map(layout::path).collect::<Result<_, _>>()?;
            let answers = client.ask(|zk| {
                Box::pin(async move {
                    let deleted = zk.delete(&path, None);
                    let stats: Vec<_> = behind.iter().map(|path| zk.check_stat(path)).collect();
                    match deleted.await {
                        // What is known of the waiters only saves them time.
                        Ok(()) => Ok(Some(try_join_all(stats).await.unwrap_or_default())),
                        Err(ZkError::NoNode) => Ok(None),
                        Err(error) => Err(error),
                    }
                })
            });
            let Some(stats) = answers.await? else {
                return Ok(false);
            };
            let there = |(waiter, stat): (&EntryId, Option<Stat>)| {
                let is_it =
                    incarnation(&stat?).is_ok_and(|found| Some(found) == waiter.incarnation);
                is_it.then(|| waiter.clone())
            };
            departure.left(waiters.iter().zip(stats).filter_map(there).collect());
            Ok(true)
        });
        self.liveness.note_session_loss(removed.await)
    }

    /// Removes whatever an enqueue of this ticket made; answers the paths.
    ///
    /// One whose reply was lost may still be under way through the server that we were connected to
    /// before. So we write something first, through the present one: what the leader had taken in
    /// before that is in the listing, and what comes to it later from the other server it turns
    /// away, because the session has moved (`PrepRequestProcessor` calls
    /// `SessionTracker.checkSession` with the connection that a request came by).
    async fn remove_for_good(
        &self,
        client: &Client,
        ticket: &Ticket,
    ) -> Result<Vec<String>, Error> {
        let directory = self.cluster.layout.directory(&ticket.name)?;
        let (node, listed) = (self.cluster.layout.session_node(self.id), directory.clone());
        let answers = client.ask(move |zk| {
            Box::pin(async move {
                let fence = zk.set_data(&node, &[], None);
                let children = zk.list_children(&listed);
                match fence.await {
                    // It went through the leader all the same.
                    Ok(_) | Err(ZkError::NoNode) => {}
                    Err(error) => return Err(error),
                }
                match children.await {
                    Err(ZkError::NoNode) => Ok(Vec::new()),
                    children => children,
                }
            })
        });
        let children = self.liveness.note_session_loss(answers.await)?;
        let mut removed = Vec::new();
        for name in self.own(ticket, &children) {
            let path = layout::child(&directory, name);
            if self.delete(client, path.clone()).await? {
                removed.push(path);
            }
        }
        Ok(removed)
    }
}
