//! Gives up a place in a queue.

use futures_util::future::try_join_all;
use lock_core::session::{Removal, Removed};
use lock_core::{EntryId, Error, ErrorKind, LossReason, Ticket};
use zookeeper_client::{Error as ZkError, Stat};

use super::{Outcome, ZkSession, incarnation};
use crate::client::Client;
use crate::layout;

impl ZkSession {
    pub(super) async fn give_up(
        &self,
        ticket: &Ticket,
        entry: Option<&EntryId>,
        waiters: &[EntryId],
    ) -> Result<Removal, Error> {
        // A path is never used twice: the mark of the ticket in it shows that the entry is the
        // ticket's.
        let outcome = self.enqueues().get(&ticket.serial).copied();
        if entry.is_none() && outcome.is_none() {
            // Nothing was sent: thousands that give up before their turn cost no request.
            return Ok(Removed::AlreadyGone.into());
        }
        let is_uncertain = outcome == Some(Outcome::Uncertain);
        let certain_entry = entry.filter(|entry| !is_uncertain && self.is_made_by(ticket, entry));
        let removal = self
            .try_remove(ticket, entry, certain_entry, waiters)
            .await?;
        self.enqueues().remove(&ticket.serial);
        self.only_ahead().remove(&ticket.serial);
        if let Some(entry) = entry {
            self.sole_entries().record_removal(entry);
        }
        Ok(removal)
    }

    async fn try_remove(
        &self,
        ticket: &Ticket,
        entry: Option<&EntryId>,
        certain_entry: Option<&EntryId>,
        waiters: &[EntryId],
    ) -> Result<Removal, Error> {
        let Ok(client) = self.client() else {
            // All nodes of the session go with it.
            self.wait_for_end().await?;
            return Ok(Removed::AlreadyGone.into());
        };
        // The waiters' entries that still exist, if the entry was there.
        let removed = match certain_entry {
            Some(entry) if !waiters.is_empty() => {
                self.remove_and_look(&client, entry, waiters).await
            }
            Some(entry) => {
                let removed = self.delete(&client, layout::path(entry)?).await;
                removed.map(|removed| removed.then(Vec::new))
            }
            None => self.remove_for_good(&client, ticket).await.map(|paths| {
                let is_own = |path: &String| entry.is_none_or(|e| *e.key == *path.as_bytes());
                paths.iter().any(is_own).then(Vec::new)
            }),
        };
        match removed {
            Ok(Some(waiters)) => Ok(Removal {
                removed: Removed::Removed,
                waiters,
            }),
            Ok(None) => Ok(Removed::AlreadyGone.into()),
            // The servers reported that the session is gone, and with it all of its nodes.
            Err(error) if error.kind() == ErrorKind::SessionLost(LossReason::SessionGone) => {
                Ok(Removed::AlreadyGone.into())
            }
            Err(error) => Err(error),
        }
    }

    /// Writes to the session's node, which fails if the session is over.
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

    /// Deletes a node. Returns whether it existed.
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

    /// Removes an entry and, in the same round trip, reads which of the waiters' entries exist.
    async fn remove_and_look(
        &self,
        client: &Client,
        entry: &EntryId,
        waiters: &[EntryId],
    ) -> Result<Option<Vec<EntryId>>, Error> {
        let path = layout::path(entry)?;
        let behind: Vec<String> = waiters.iter().map(layout::path).collect::<Result<_, _>>()?;
        let answers = client.ask(|zk| {
            Box::pin(async move {
                let deleted = zk.delete(&path, None);
                let stats: Vec<_> = behind.iter().map(|path| zk.check_stat(path)).collect();
                match deleted.await {
                    // The state of the waiters only saves time, so an error is ignored.
                    Ok(()) => Ok(Some(try_join_all(stats).await.unwrap_or_default())),
                    Err(ZkError::NoNode) => Ok(None),
                    Err(error) => Err(error),
                }
            })
        });
        let stats = self.liveness.note_session_loss(answers.await)?;
        let is_present = |(waiter, stat): (&EntryId, Option<Stat>)| {
            let is_it = incarnation(&stat?).is_ok_and(|found| Some(found) == waiter.incarnation);
            is_it.then(|| waiter.clone())
        };
        Ok(stats.map(|stats| waiters.iter().zip(stats).filter_map(is_present).collect()))
    }

    /// Removes all nodes that an enqueue of this ticket made; returns their paths.
    ///
    /// An enqueue whose reply was lost may still be under way through the server that the session
    /// was connected to before. So the session first writes something through its present server.
    /// Requests that the leader took in before that write are in the listing. The leader turns away
    /// requests that come from the other server later, because the session has moved
    /// (`PrepRequestProcessor` calls `SessionTracker.checkSession` with the connection that a
    /// request came by).
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
                    // The write went through the leader in both cases.
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
        for name in self.own_names(ticket, &children) {
            let path = layout::child(&directory, name);
            if self.delete(client, path.clone()).await? {
                removed.push(path);
            }
        }
        Ok(removed)
    }
}
