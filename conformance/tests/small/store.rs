//! Queues and sessions in memory: the server side of the small backend.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lock_core::clock::{BootInstant, Clock};
use lock_core::rule::{Ahead, Ask, View};
use lock_core::session::{Admission, Behind, Enqueued, Placed};
use lock_core::{
    Access, Accessed, DataKey, Entry, EntryId, Error, ErrorKind, Incarnation, LockName, LossReason,
    Metadata, Mode, Queue, Raised, Removed, SessionId, Ticket, TokenOffset, background,
};
use tokio::sync::watch;

/// How often waiters check whether a session has expired.
const TICK: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub struct Store {
    state: Mutex<State>,
    changed: watch::Sender<()>,
    clock: Clock,
}

#[derive(Debug, Default)]
pub struct State {
    /// The incarnation of the latest entry. It only ever rises.
    pub latest_number: u64,
    latest_session: i64,
    /// The instants at which the sessions expire.
    pub sessions: HashMap<SessionId, BootInstant>,
    /// The queues, by their locks. A lock without entries has none.
    pub queues: BTreeMap<QueueKey, Vec<Entry>>,
    pub values: HashMap<DataKey, Vec<u8>>,
    pub offset: TokenOffset,
}

/// Whether a lock's name is raw, and the name: a raw and a native lock of one name are two locks.
pub type QueueKey = (bool, String);

/// Returns the key of a lock's queue.
pub fn queue_key(name: &LockName) -> QueueKey {
    (name.is_raw(), name.as_str().to_owned())
}

/// Returns the key of an entry. It is the same for each try of one ticket.
pub fn entry_key(session: SessionId, ticket: &Ticket) -> Arc<[u8]> {
    format!("{session}-{}", ticket.serial).into_bytes().into()
}

impl State {
    /// Removes the entries of sessions that have ended.
    fn tidy(&mut self) {
        for queue in self.queues.values_mut() {
            queue.retain(|entry| {
                let session = entry.session.expect("every entry has one");
                self.sessions.contains_key(&session)
            });
        }
        self.queues.retain(|_, queue| !queue.is_empty());
    }

    /// Returns an error if a session has ended.
    fn check(&self, session: SessionId) -> Result<(), Error> {
        match self.sessions.contains_key(&session) {
            true => Ok(()),
            false => Err(Error::session_lost(LossReason::SessionGone)),
        }
    }

    /// Returns whether this entry is there, in this incarnation.
    fn contains(&self, entry: &EntryId) -> bool {
        self.queues.values().flatten().any(|e| e.id == *entry)
    }

    /// Returns the part of the queue that the rule asks for: what stands ahead of the own entry,
    /// nearest first.
    pub fn view(&self, queue: &QueueKey, own: &EntryId, ask: Ask) -> View {
        let queue = self.queues.get(queue).map_or(&[][..], Vec::as_slice);
        let at = queue.iter().position(|entry| entry.id == *own);
        let ahead = queue[..at.unwrap_or(0)].iter().rev();
        let ahead = ahead.filter(|entry| !ask.exclusive_only || entry.mode == Mode::Exclusive);
        let ahead = ahead.take(ask.limit).map(|entry| Ahead {
            id: entry.id.clone(),
            mode: entry.mode,
        });
        View {
            present: at.is_some(),
            ahead: ahead.collect(),
        }
    }
}

impl Store {
    /// Returns an empty store.
    pub fn new() -> Arc<Self> {
        Arc::new(Store {
            state: Mutex::default(),
            changed: watch::Sender::new(()),
            clock: Clock::system(),
        })
    }

    /// Locks the state, after it has ended the sessions that were not renewed in time.
    pub fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now();
        if state.sessions.values().any(|until| *until <= now) {
            state.sessions.retain(|_, until| *until > now);
            state.tidy();
            self.changed.send_replace(());
        }
        state
    }

    /// Opens a session.
    pub fn open(&self, ttl: Duration) -> SessionId {
        let mut state = self.state();
        state.latest_session += 1;
        let id = SessionId(state.latest_session);
        state.sessions.insert(id, self.clock.now() + ttl);
        id
    }

    /// Renews a session, unless it has ended: then it stays so.
    pub fn renew(&self, id: SessionId, ttl: Duration) -> Result<(), Error> {
        let until = self.clock.now() + ttl;
        let mut state = self.state();
        state.check(id)?;
        state.sessions.insert(id, until);
        Ok(())
    }

    /// Returns an error if a session has ended.
    pub fn check(&self, id: SessionId) -> Result<(), Error> {
        self.state().check(id)
    }

    /// Ends a session, with all its entries.
    pub fn end(&self, id: SessionId) {
        let mut state = self.state();
        state.sessions.remove(&id);
        state.tidy();
        self.changed.send_replace(());
    }

    /// Returns the sessions that are there.
    pub fn sessions(&self) -> Vec<SessionId> {
        self.state().sessions.keys().copied().collect()
    }

    /// Returns the entries of a lock, in order.
    pub fn queue(&self, name: &LockName) -> Vec<Entry> {
        let entries = self.state().queues.get(&queue_key(name)).cloned();
        entries.unwrap_or_default()
    }

    /// Returns the queues of the native locks, in the order of their names.
    pub fn native_queues(&self) -> Vec<Queue> {
        let state = self.state();
        let native = state.queues.iter().filter(|((raw, _), _)| !raw);
        let queue = |((_, name), entries): (&QueueKey, &Vec<Entry>)| {
            Queue::new(LockName::new(name).expect("it was one"), entries.clone())
        };
        native.map(queue).collect()
    }

    /// Puts an entry at the end of its lock's queue, or finds the one of an earlier try.
    pub fn enqueue(
        &self,
        session: SessionId,
        ticket: &Ticket,
        ask: Ask,
        admission: Admission,
    ) -> Result<Enqueued, Error> {
        let (key, own) = (queue_key(&ticket.name), entry_key(session, ticket));
        // Held to the end: the entry and its view belong to one instant.
        let mut state = self.state();
        // In one step with the put: a session that ended in between would leave its entry for ever.
        state.check(session)?;
        let offset = state.offset;
        let queue = state.queues.get(&key).map_or(&[][..], Vec::as_slice);
        let id = match queue.iter().find(|entry| entry.id.key == own) {
            Some(found) => found.id.clone(),
            None => {
                let blocks = |e: &Entry| !ask.exclusive_only || e.mode == Mode::Exclusive;
                if admission == Admission::IfFree && queue.iter().any(blocks) {
                    return Ok(Enqueued::Busy);
                }
                // One counter for all locks, so that a queue that was empty goes on above its past.
                state.latest_number += 1;
                let incarnation = Incarnation::new(state.latest_number).expect("above zero");
                let id = EntryId {
                    key: own,
                    incarnation: Some(incarnation),
                };
                let token = offset.token(&ticket.name, incarnation)?;
                let entry = Entry::new(id.clone(), token, ticket.mode)
                    .with_session(Some(session))
                    .with_metadata(Some((*ticket.metadata).clone()));
                state.queues.entry(key.clone()).or_default().push(entry);
                id
            }
        };
        let view = state.view(&key, &id, ask);
        let placed = Placed::on(offset, &ticket.name, id, view)?;
        Ok(Enqueued::Placed(placed))
    }

    /// Returns what stands ahead of an entry.
    pub fn look(&self, name: &LockName, entry: &EntryId, ask: Ask) -> View {
        self.state().view(&queue_key(name), entry, ask)
    }

    /// Removes the entries that match. Returns whether there was one.
    pub fn remove(&self, matches: impl Fn(&Entry) -> bool) -> bool {
        let mut state = self.state();
        let mut removed = false;
        for queue in state.queues.values_mut() {
            removed |= queue.extract_if(.., |entry| matches(entry)).count() > 0;
        }
        state.queues.retain(|_, queue| !queue.is_empty());
        self.changed.send_replace(());
        removed
    }

    /// Removes an entry of this lock, of whatever session.
    pub fn evict(&self, name: &LockName, entry: &EntryId) -> Result<Removed, Error> {
        let own = queue_key(name);
        let is_elsewhere = self
            .state()
            .queues
            .iter()
            .any(|(key, queue)| *key != own && queue.iter().any(|found| found.id == *entry));
        if is_elsewhere {
            let text = format!("{entry:?} is no entry of the lock {name}");
            return Err(Error::new(ErrorKind::InvalidArgument, text));
        }
        Ok(match self.remove(|found| found.id == *entry) {
            true => Removed::Removed,
            false => Removed::AlreadyGone,
        })
    }

    /// Returns the value at a key.
    pub fn value(&self, key: &DataKey) -> Option<Vec<u8>> {
        self.state().values.get(key).cloned()
    }

    /// Reads or changes a value, if this entry is there.
    pub fn access(&self, entry: &EntryId, key: &DataKey, access: &Access) -> Accessed {
        let mut state = self.state();
        if !state.contains(entry) {
            return Accessed::NotOurs;
        }
        match access {
            Access::Get => return Accessed::Done(state.values.get(key).cloned()),
            Access::Put(value) => drop(state.values.insert(key.clone(), value.to_vec())),
            Access::Delete => drop(state.values.remove(key)),
        }
        Accessed::Done(None)
    }

    /// Replaces an entry's metadata. Returns whether it was there.
    pub fn describe(&self, entry: &EntryId, metadata: &Metadata) -> bool {
        let mut state = self.state();
        let mut entries = state.queues.values_mut().flatten();
        let found = entries.find(|found| found.id == *entry);
        found
            .map(|found| found.metadata = Some(metadata.clone()))
            .is_some()
    }

    /// Returns an entry's metadata, if it is there.
    pub fn metadata(&self, entry: &EntryId) -> Option<Metadata> {
        let state = self.state();
        let found = state.queues.values().flatten().find(|e| e.id == *entry)?;
        found.metadata.clone()
    }

    /// Raises the token offset, unless a native lock is in use.
    pub fn raise_token_offset(&self, offset: TokenOffset) -> Raised {
        let mut state = self.state();
        if offset > state.offset {
            if state.queues.keys().any(|(raw, _)| !raw) {
                return Raised::InUse;
            }
            state.offset = offset;
        }
        Raised::To(state.offset)
    }

    /// Returns who stands behind an entry, with a watch if nobody does.
    pub fn watch_behind(self: Arc<Self>, name: &LockName, entry: &EntryId) -> Behind {
        // Subscribed before the look, so that no change between the two is missed.
        let mut changed = self.changed.subscribe();
        match self.is_last(name, entry) {
            None => Behind::Gone,
            Some(false) => Behind::Somebody,
            Some(true) => {
                let (name, entry) = (name.clone(), entry.clone());
                Behind::Nobody(Box::pin(async move {
                    while self.is_last(&name, &entry) == Some(true) {
                        tokio::select! {
                            _ = changed.changed() => {}
                            () = background::sleep(TICK) => {}
                        }
                    }
                    Ok(())
                }))
            }
        }
    }

    /// Returns whether an entry is the last of its queue; `None` if it is gone.
    fn is_last(&self, name: &LockName, entry: &EntryId) -> Option<bool> {
        let state = self.state();
        let queue = state.queues.get(&queue_key(name))?;
        let at = queue.iter().position(|found| found.id == *entry)?;
        Some(at + 1 == queue.len())
    }

    /// Waits until there is no such entry.
    pub async fn gone(&self, entry: &EntryId) {
        // Subscribed before the first look, so that no change between the two is missed.
        let mut changed = self.changed.subscribe();
        while self.state().contains(entry) {
            tokio::select! {
                _ = changed.changed() => {}
                () = background::sleep(TICK) => {}
            }
        }
    }
}
