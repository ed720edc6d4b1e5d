//! What the store keeps, and what each request does to it in one step.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lock_core::clock::BootInstant;
use lock_core::rule::{Ahead, Ask, View};
use lock_core::{
    Access, Accessed, Admission, Enqueued, EntryId, Error, ErrorKind, Incarnation, LockName,
    LossReason, Metadata, Mode, Placed, Raised, Removal, Removed, SessionId, Ticket, TokenOffset,
};
use testkit::chaos::servers::Account;
use testkit::history::{Cause, Deletion, Entry};

/// What the store keeps. Nothing of it is ever lost.
#[derive(Debug, Default)]
pub struct State {
    revision: u64,
    sessions: BTreeMap<i64, Lease>,
    /// The entries in their queues, by revision.
    queued: BTreeMap<u64, Queued>,
    /// The tickets that were removed. No request that was sent before makes an entry of them.
    removed: BTreeSet<(i64, u64)>,
    values: BTreeMap<String, Vec<u8>>,
    offset: TokenOffset,
    account: Account,
}

#[derive(Debug)]
struct Lease {
    ttl: Duration,
    /// When it ends, by the store's clock.
    until: Duration,
}

#[derive(Debug)]
struct Queued {
    id: EntryId,
    ticket: Ticket,
    session: i64,
    /// The number of the last access under this entry.
    accessed: u64,
    /// The place of its record in the account.
    record: usize,
}

/// The time of a step: by the store's own clock, and by the world's.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    pub own: Duration,
    pub world: BootInstant,
}

impl State {
    pub fn account(&self) -> &Account {
        &self.account
    }

    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Returns whether the entry is in its queue.
    pub fn has(&self, entry: &EntryId) -> bool {
        self.queued.contains_key(&revision(entry))
    }

    /// Returns whether an entry of a session is the last of its queue; `None` if it is gone.
    pub fn is_last(&self, session: i64, entry: &EntryId) -> Result<Option<bool>, Error> {
        self.check(session)?;
        Ok(self.has(entry).then(|| self.has_nobody_behind(entry)))
    }

    /// Returns whether an entry is in its queue with nobody behind it.
    pub fn has_nobody_behind(&self, entry: &EntryId) -> bool {
        let created = revision(entry);
        let Some(own) = self.queued.get(&created) else {
            return false;
        };
        let mut behind = self.queued.range(created + 1..).map(|(_, it)| it);
        !behind.any(|it| it.ticket.name == own.ticket.name)
    }

    pub fn metadata(&self, entry: &EntryId) -> Option<Metadata> {
        let queued = self.queued.get(&revision(entry))?;
        Some(Metadata::clone(&queued.ticket.metadata))
    }

    fn advance(&mut self, now: Now) -> u64 {
        self.revision += 1;
        self.account.seen.push((self.revision, now.world));
        self.revision
    }

    /// Ends the sessions whose time is over.
    pub fn expire(&mut self, now: Now) {
        let over: Vec<i64> = self
            .sessions
            .iter()
            .filter(|(_, lease)| lease.until <= now.own)
            .map(|(id, _)| *id)
            .collect();
        for session in over {
            self.end(session, now, Cause::SessionEnd);
        }
    }

    /// Gives all sessions their full time, as a store does that was started again.
    pub fn extend(&mut self, now: Now) {
        for lease in self.sessions.values_mut() {
            lease.until = now.own + lease.ttl;
        }
    }

    /// Begins a session, and returns its id.
    pub fn open(&mut self, ttl: Duration, now: Now) -> i64 {
        let id = self.advance(now).cast_signed();
        let until = now.own + ttl;
        self.sessions.insert(id, Lease { ttl, until });
        id
    }

    /// Gives a session its full time.
    pub fn renew(&mut self, session: i64, now: Now) -> Result<(), Error> {
        let lease = self.sessions.get_mut(&session).ok_or_else(session_gone)?;
        lease.until = now.own + lease.ttl;
        Ok(())
    }

    /// Ends a session, and removes all its entries.
    pub fn end(&mut self, session: i64, now: Now, cause: Cause) {
        if self.sessions.remove(&session).is_none() {
            return;
        }
        let revision = self.advance(now);
        let own = self.queued.iter().filter(|(_, it)| it.session == session);
        let own: Vec<u64> = own.map(|(created, _)| *created).collect();
        for created in own {
            if let Some(queued) = self.queued.remove(&created) {
                self.note_end(&queued, revision, cause, now);
            }
        }
    }

    fn note_end(&mut self, queued: &Queued, revision: u64, cause: Cause, now: Now) {
        self.account.entries[queued.record].deleted = Some(Deletion {
            from: revision,
            to: revision,
            cause,
            decided: Some(now.world),
        });
    }

    fn check(&self, session: i64) -> Result<(), Error> {
        match self.sessions.contains_key(&session) {
            true => Ok(()),
            false => Err(session_gone()),
        }
    }

    /// Returns what stands ahead of a revision in the queue of a lock, nearest first.
    fn ahead(&self, name: &LockName, revision: u64, ask: Ask) -> Vec<Ahead> {
        let ahead = self.queued.range(..revision).rev().map(|(_, it)| it);
        let ahead = ahead.filter(|it| {
            it.ticket.name == *name && (!ask.exclusive_only || it.ticket.mode == Mode::Exclusive)
        });
        let ahead = ahead.take(ask.limit).map(|it| Ahead {
            id: it.id.clone(),
            mode: it.ticket.mode,
        });
        ahead.collect()
    }

    fn find(&self, session: i64, serial: u64) -> Option<u64> {
        let own = |it: &Queued| (it.session, it.ticket.serial) == (session, serial);
        let mut queued = self.queued.iter();
        queued
            .find(|(_, it)| own(it))
            .map(|(revision, _)| *revision)
    }

    /// Makes the entry of a ticket, or finds it.
    pub fn enqueue(
        &mut self,
        session: i64,
        ticket: &Ticket,
        ask: Ask,
        admission: Admission,
        now: Now,
    ) -> Result<Enqueued, Error> {
        self.check(session)?;
        let known = self.find(session, ticket.serial);
        if known.is_none() && self.removed.contains(&(session, ticket.serial)) {
            // The request comes late, and nobody waits for its answer.
            return Err(Error::new(ErrorKind::Internal, "the ticket was removed"));
        }
        let ahead = self.ahead(&ticket.name, known.unwrap_or(u64::MAX), ask);
        if known.is_none() && admission == Admission::IfFree && !ahead.is_empty() {
            self.removed.insert((session, ticket.serial));
            return Ok(Enqueued::Busy);
        }
        let id = match known {
            Some(revision) => self.queued[&revision].id.clone(),
            None => self.add(session, ticket, now)?,
        };
        let view = View {
            present: true,
            ahead,
        };
        let placed = Placed::on(self.offset, &ticket.name, id, view)?;
        Ok(Enqueued::Placed(placed))
    }

    fn add(&mut self, session: i64, ticket: &Ticket, now: Now) -> Result<EntryId, Error> {
        let created = self.advance(now);
        let incarnation = Incarnation::new(created).expect("revisions begin at one");
        let key = format!("{}/{session:x}-{}", ticket.name.as_str(), ticket.serial);
        let id = EntryId {
            key: key.as_bytes().into(),
            incarnation: Some(incarnation),
        };
        let note = ticket.metadata.note.as_ref();
        self.account.entries.push(Entry {
            key,
            lock: ticket.name.as_str().to_owned(),
            mode: ticket.mode,
            session: SessionId(session),
            op: note.and_then(|note| note.parse().ok()),
            created,
            token: self.offset.token(&ticket.name, incarnation)?,
            deleted: None,
        });
        let queued = Queued {
            id: id.clone(),
            ticket: ticket.clone(),
            session,
            accessed: 0,
            record: self.account.entries.len() - 1,
        };
        self.queued.insert(created, queued);
        Ok(id)
    }

    /// Returns the queue as an entry sees it.
    pub fn look(&self, session: i64, entry: &EntryId, ask: Ask) -> Result<View, Error> {
        self.check(session)?;
        let own = self.queued.get(&revision(entry));
        Ok(View {
            present: own.is_some(),
            ahead: own.map_or(vec![], |own| {
                self.ahead(&own.ticket.name, revision(entry), ask)
            }),
        })
    }

    /// Removes the entry of a ticket, and returns those of the waiters that are there after that.
    pub fn remove(
        &mut self,
        session: i64,
        ticket: &Ticket,
        waiters: &[EntryId],
        now: Now,
    ) -> Removal {
        self.removed.insert((session, ticket.serial));
        let found = self.find(session, ticket.serial);
        let Some(queued) = found.and_then(|revision| self.queued.remove(&revision)) else {
            return Removed::AlreadyGone.into();
        };
        let revision = self.advance(now);
        self.note_end(&queued, revision, Cause::Request(SessionId(session)), now);
        Removal {
            removed: Removed::Removed,
            waiters: waiters.iter().filter(|it| self.has(it)).cloned().collect(),
        }
    }

    /// Carries out the access with this number, unless one with a higher number came before.
    pub fn access(
        &mut self,
        session: i64,
        entry: &EntryId,
        (key, number): (&str, u64),
        access: &Access,
    ) -> Result<Accessed, Error> {
        self.check(session)?;
        let Some(queued) = self.queued.get_mut(&revision(entry)) else {
            return Ok(Accessed::NotOurs);
        };
        if number < queued.accessed {
            return Err(Error::new(
                ErrorKind::Internal,
                "a later access came before",
            ));
        }
        queued.accessed = number;
        Ok(Accessed::Done(match access {
            Access::Get => self.values.get(key).cloned(),
            Access::Put(value) => {
                self.values.insert(key.to_owned(), value.to_vec());
                None
            }
            Access::Delete => {
                self.values.remove(key);
                None
            }
        }))
    }

    /// Raises the token offset if there is no entry.
    pub fn raise(&mut self, offset: TokenOffset, now: Now) -> Raised {
        if !self.queued.is_empty() {
            return Raised::InUse;
        }
        if offset > self.offset {
            self.offset = offset;
            let revision = self.advance(now);
            self.account.offsets.push((revision, offset.get()));
        }
        Raised::To(self.offset)
    }
}

fn revision(entry: &EntryId) -> u64 {
    entry.incarnation.map_or(0, Incarnation::get)
}

fn session_gone() -> Error {
    Error::session_lost(LossReason::SessionGone)
}
