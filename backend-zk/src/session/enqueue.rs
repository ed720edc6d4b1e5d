//! Takes a place in a queue.

use futures_util::future::{OptionFuture, join};
use lock_core::rule::{Ask, View};
use lock_core::session::{Admission, AsOf, Enqueued, Placed};
use lock_core::{Effect, EntryId, Error, ErrorKind, Ticket};
use zookeeper_client::Error as ZkError;

use super::sole_contender::LastSole;
use super::{Outcome, ZkSession, lock, look};
use crate::client::Client;
use crate::{error, layout, node};

/// How many times a request makes a directory that the servers remove again before it is used.
pub(super) const DIRECTORY_TRIES: u32 = 8;

impl ZkSession {
    pub(super) async fn take_place(
        &self,
        ticket: &Ticket,
        ask: Ask,
        admission: Admission,
    ) -> Result<Enqueued, Error> {
        // Nobody who waits for a turn keeps the client: that would keep the session from being
        // closed.
        self.live_client()?;
        let continuity = &self.cluster.continuity;
        continuity.check_tokens((!ticket.name.is_raw()).then_some(self.offset))?;
        let layout = &self.cluster.layout;
        let directory = layout.directory_for(&ticket.name, ticket.mode)?;
        let outcome = self.enqueues().get(&ticket.serial).copied();
        let tried = outcome == Some(Outcome::Uncertain);
        if tried && let Some(children) = self.list_in_turn(&directory).await? {
            let client = self.live_client()?;
            let found = Box::pin(self.resolve(&client, &directory, ticket, ask, &children, None));
            if let Some((entry, view)) = found.await? {
                return self.to_enqueued(ticket, entry, view);
            }
        }
        if admission == Admission::IfFree
            && let Some(children) = self.list_in_turn(&directory).await?
            && layout::is_busy(&children, ask)
        {
            return Ok(Enqueued::Busy);
        }
        let before = self.sole_entries().take(&directory);
        for _ in 0..DIRECTORY_TRIES {
            // An earlier attempt may have made a second node, which only a listing shows.
            let reads = ask.limit > 0 || tried;
            let expects_others = reads && !before.is_some_and(|before| before.is_proven);
            let made = self.make(&directory, ticket, expects_others);
            let Some((own, children)) = made.await? else {
                let made = self.live_client()?.make_directory_in_turn(&directory);
                self.liveness.note_session_loss(made.await)?;
                continue;
            };
            let last = LastSole::next(before, &own);
            let proven = last.is_some_and(|last| last.is_proven);
            let (entry, view, alone) = match children {
                // This view is enough where nothing need be read.
                None if proven || !reads => (own, layout::FREE, proven),
                children => {
                    // The entry was made, whatever follows.
                    let unknown = |error: Error| error.with_effect(Effect::Unknown);
                    let client = self.live_client().map_err(unknown)?;
                    let children = match children {
                        Some(children) => children,
                        None => self.list_behind(&client, &directory).await?,
                    };
                    let alone = layout::is_alone(&own, &children);
                    let made = Some(own.clone());
                    let resolved = self.resolve(&client, &directory, ticket, ask, &children, made);
                    // Boxed: an enqueue that is known to be alone does not need room for this
                    // future.
                    let resolved = Box::pin(resolved);
                    // There is no view if somebody removed the entry between the two requests.
                    let resolved = resolved.await.map_err(unknown)?;
                    let (entry, view) = resolved.unwrap_or((own, layout::ABSENT));
                    (entry, view, alone)
                }
            };
            if let Some(last) = last.filter(|_| alone) {
                self.sole_entries().record_sole(&directory, last);
            }
            self.enqueues().insert(ticket.serial, Outcome::Made);
            return self.to_enqueued(ticket, entry, view);
        }
        Err(Error::new(
            ErrorKind::Exhausted,
            format!("the directory {directory:?} is removed as often as it is made"),
        ))
    }

    /// Makes a node for this ticket and, if other nodes may be there, lists its directory, in one
    /// round trip. Returns `None` if there is no directory. The ticket counts as uncertain from the
    /// time before the request is sent until its outcome is known.
    async fn make(
        &self,
        directory: &str,
        ticket: &Ticket,
        expects_others: bool,
    ) -> Result<Option<(EntryId, Option<Vec<String>>)>, Error> {
        let client = self.live_client()?;
        let before = self.enqueues().get(&ticket.serial).copied();
        let prefix = node::prefix(self.nonce, ticket, self.cluster.layout.recipe);
        let path = layout::child(directory, &prefix);
        let data = ticket.metadata.to_bytes();
        let (listed, options) = (directory.to_owned(), client.entry_options());
        let (enqueues, serial) = (self.enqueues.clone(), ticket.serial);
        let cluster = self.cluster.clone();
        let answers = client.ask_in_turn(move |zk| {
            // Only now: what is given up before its turn has made nothing, and a store may go back
            // while many wait.
            lock(&enqueues).insert(serial, Outcome::Uncertain);
            let write = cluster.continuity.begin_write();
            Box::pin(async move {
                let create = zk.create(&path, &data, &options);
                let list = expects_others.then(|| zk.list_children(&listed));
                let (created, children) = join(create, OptionFuture::from(list)).await;
                match created {
                    Ok(created) => Ok((write, Ok(created), children)),
                    Err(error @ (ZkError::NoNode | ZkError::NodeExists)) => {
                        Ok((write, Err(error), children))
                    }
                    Err(error) => Err(error),
                }
            })
        });
        let answers = self.liveness.note_session_loss(answers.await);
        let created = answers.and_then(|(write, created, children)| match created {
            Ok(created) => Ok(Some((write, created, children))),
            Err(ZkError::NoNode) => Ok(None),
            // An earlier attempt made a node of the same name. That is possible where numbers come
            // again.
            Err(error) => Err(error::executed_meanwhile_error(self.cluster.error(error))),
        });
        let has_no_effect = match &created {
            Ok(created) => created.is_none(),
            Err(error) => error.effect() == Effect::None,
        };
        if has_no_effect {
            let mut enqueues = self.enqueues();
            match before {
                Some(outcome) => enqueues.insert(serial, outcome),
                None => enqueues.remove(&serial),
            };
        }
        let Some((write, (stat, sequence), children)) = created? else {
            return Ok(None);
        };
        let continuity = &self.cluster.continuity;
        let name = format!("{prefix}{sequence}");
        let incarnation = self.incarnation(&stat)?;
        continuity.end_write(write, 0, incarnation.get());
        let current = continuity.check_era(self.era);
        let current = current.map_err(|error| error.with_effect(Effect::Unknown));
        self.liveness.note_session_loss(current)?;
        let own = layout::entry(directory, &name, Some(incarnation));
        let children = children.transpose().map_err(|error| {
            // The entry was made, but its place is not known.
            self.cluster.error(error).with_effect(Effect::Unknown)
        });
        Ok(Some((own, self.liveness.note_session_loss(children)?)))
    }

    /// Lists a directory as it is now, when it is the turn of that.
    async fn list_in_turn(&self, directory: &str) -> Result<Option<Vec<String>>, Error> {
        let listing = look::listing(directory, AsOf::Now);
        let listed = self.live_client()?.ask_in_turn(listing);
        self.liveness.note_session_loss(listed.await)
    }

    /// Lists a directory in which the session just made a node.
    async fn list_behind(&self, client: &Client, directory: &str) -> Result<Vec<String>, Error> {
        let listed = self.list(client, directory, AsOf::Change).await;
        let children = listed.map_err(|error| error.with_effect(Effect::Unknown))?;
        Ok(children.unwrap_or_default())
    }

    /// Finds the ticket's one entry in a listing, with the entries ahead of it; returns `None` if
    /// there is no entry. The listing must not be older than any node of this ticket. An enqueue
    /// that was tried again may have made more than one node: all but the first are removed. `made`
    /// is the node that was made just now.
    async fn resolve(
        &self,
        client: &Client,
        directory: &str,
        ticket: &Ticket,
        ask: Ask,
        children: &[String],
        made: Option<EntryId>,
    ) -> Result<Option<(EntryId, View)>, Error> {
        let mut own = Vec::new();
        for name in self.own_names(ticket, children) {
            let known = made.as_ref().filter(|made| is_at(made, directory, name));
            match known {
                Some(made) => own.push(made.clone()),
                None => own.extend(self.find(client, directory, name).await?),
            }
        }
        own.sort_unstable_by_key(|entry| entry.incarnation);
        let mut own = own.into_iter();
        let Some(entry) = own.next() else {
            return Ok(None);
        };
        for surplus in own {
            self.delete(client, layout::path(&surplus)?).await?;
        }
        let view = self.view(client, ticket, &entry, children, ask).await?;
        Ok(Some((entry, view)))
    }

    fn to_enqueued(&self, ticket: &Ticket, entry: EntryId, view: View) -> Result<Enqueued, Error> {
        Placed::on(self.offset, &ticket.name, entry, view).map(Enqueued::Placed)
    }

    /// Returns the names of this ticket's nodes.
    pub(super) fn own_names<'a>(
        &self,
        ticket: &Ticket,
        children: &'a [String],
    ) -> impl Iterator<Item = &'a String> {
        let mark = node::mark(self.nonce, ticket);
        children.iter().filter(move |c| c.starts_with(&mark))
    }

    /// Returns whether this is an entry of this ticket, by the name of its node.
    pub(super) fn is_made_by(&self, ticket: &Ticket, entry: &EntryId) -> bool {
        let mark = node::mark(self.nonce, ticket);
        layout::split(entry).is_ok_and(|(_, name)| name.starts_with(&mark))
    }

    /// Returns the entry at this node of the session, if the node still exists.
    async fn find(
        &self,
        client: &Client,
        directory: &str,
        name: &str,
    ) -> Result<Option<EntryId>, Error> {
        let path = layout::child(directory, name);
        let stat = client.ask(|zk| Box::pin(async move { zk.check_stat(&path).await }));
        match self.liveness.note_session_loss(stat.await)? {
            Some(stat) => {
                let incarnation = self.incarnation(&stat)?;
                Ok(Some(layout::entry(directory, name, Some(incarnation))))
            }
            None => Ok(None),
        }
    }
}

fn is_at(entry: &EntryId, directory: &str, name: &str) -> bool {
    layout::split(entry).is_ok_and(|at| at == (directory, name))
}
