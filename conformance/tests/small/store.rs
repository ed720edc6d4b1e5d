//! Queues and sessions in memory.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lock_core::clock::{BootInstant, Clock};
use lock_core::rule::{Ahead, Ask, View};
use lock_core::session::{Admission, Enqueued, Placed};
use lock_core::{
    Access, Accessed, DataKey, Entry, EntryId, Error, ErrorKind, Incarnation, LockName, Metadata,
    Mode, Queue, Raised, Removed, SessionId, Ticket, TokenOffset, background,
};
use tokio::sync::watch;

use super::Promise;

/// How often those who wait look whether a session has come to its end.
const TICK: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub struct Store {
    broken: Option<Promise>,
    state: Mutex<State>,
    changed: watch::Sender<()>,
    clock: Clock,
}

#[derive(Debug, Default)]
struct State {
    latest_number: u64,
    latest_session: i64,
    /// Until when they live.
    sessions: HashMap<SessionId, BootInstant>,
    /// By whether the name is raw, and the name.
    queues: BTreeMap<(bool, String), Vec<Entry>>,
    values: HashMap<DataKey, Vec<u8>>,
    offset: TokenOffset,
}

impl State {
    /// Drops the entries of sessions that are over.
    fn tidy(&mut self) {
        for queue in self.queues.values_mut() {
            queue.retain(|entry| {
                let session = entry.session.expect("every entry has one");
                self.sessions.contains_key(&session)
            });
        }
        self.queues.retain(|_, queue| !queue.is_empty());
    }
}

impl Store {
    pub fn new(broken: Option<Promise>) -> Arc<Self> {
        Arc::new(Store {
            broken,
            state: Mutex::default(),
            changed: watch::Sender::new(()),
            clock: Clock::system(),
        })
    }

    pub fn breaks(&self, promise: Promise) -> bool {
        self.broken == Some(promise)
    }

    /// Whoever has not renewed in time is gone by now.
    fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now();
        if state.sessions.values().any(|until| *until <= now) {
            state.sessions.retain(|_, until| *until > now);
            state.tidy();
            self.changed.send_replace(());
        }
        state
    }

    fn key(&self, name: &LockName) -> (bool, String) {
        let text = match self.breaks(Promise::Names) {
            true => name.as_str().split('/').next().unwrap_or_default(),
            false => name.as_str(),
        };
        (name.is_raw(), text.to_owned())
    }

    pub fn open(&self, ttl: Duration) -> SessionId {
        let mut state = self.state();
        state.latest_session += 1;
        let id = SessionId(state.latest_session);
        state.sessions.insert(id, self.clock.now() + ttl);
        id
    }

    /// Whether the session lived to be renewed.
    pub fn renew(&self, id: SessionId, ttl: Duration) -> bool {
        let until = self.clock.now() + ttl;
        let renewed = self.state().sessions.insert(id, until).is_some();
        if !renewed && !self.breaks(Promise::SessionEnds) {
            self.state().sessions.remove(&id);
        }
        renewed || self.breaks(Promise::SessionEnds)
    }

    pub fn lives(&self, id: SessionId) -> bool {
        self.state().sessions.contains_key(&id) || self.breaks(Promise::SessionEnds)
    }

    pub fn end(&self, id: SessionId) {
        let mut state = self.state();
        state.sessions.remove(&id);
        if !self.breaks(Promise::Closing) {
            state.tidy();
        }
        self.changed.send_replace(());
    }

    pub fn sessions(&self) -> Vec<SessionId> {
        self.state().sessions.keys().copied().collect()
    }

    pub fn queue(&self, name: &LockName) -> Vec<Entry> {
        let entries = self.state().queues.get(&self.key(name)).cloned();
        entries.unwrap_or_default()
    }

    /// In the order of their names.
    pub fn native_queues(&self) -> Vec<Queue> {
        let state = self.state();
        let native = state.queues.iter().filter(|((raw, _), _)| !raw);
        let queue = |((_, name), entries): (&(bool, String), &Vec<Entry>)| Queue {
            name: LockName::new(name).expect("it was one"),
            entries: entries.clone(),
        };
        native.map(queue).collect()
    }

    pub fn enqueue(
        &self,
        session: SessionId,
        ticket: &Ticket,
        ask: Ask,
        admission: Admission,
    ) -> Result<Enqueued, Error> {
        let key = self.key(&ticket.name);
        let mut state = self.state();
        let again = self.breaks(Promise::Idempotence);
        let own = own_key(session, ticket);
        let queue = state.queues.get(&key).map_or(&[][..], |queue| queue);
        if let Some(found) = queue.iter().find(|e| e.id.key == own && !again) {
            let entry = found.id.clone();
            let view = self.view(queue, &entry, ask);
            let placed = Placed::on(state.offset, &ticket.name, entry, view)?;
            return Ok(Enqueued::Placed(placed));
        }
        let in_the_way = |e: &Entry| !ask.exclusive_only || e.mode == Mode::Exclusive;
        if admission == Admission::IfFree && queue.iter().any(in_the_way) {
            return Ok(Enqueued::Busy);
        }
        let number = match self.breaks(Promise::TokensRise) {
            true => {
                let last = queue.last().and_then(|last| last.id.incarnation);
                last.map_or(1, |last| last.get() + 1)
            }
            false => state.latest_number + 1,
        };
        state.latest_number = number;
        let incarnation = Incarnation::new(number).expect("counted from one");
        let entry = EntryId {
            key: own,
            incarnation: Some(incarnation),
        };
        let offset = state.offset;
        let queue = state.queues.entry(key).or_default();
        let at = match self.breaks(Promise::Order) {
            true => queue.len().min(1),
            false => queue.len(),
        };
        let placed = Entry {
            id: entry.clone(),
            token: offset.token(&ticket.name, incarnation)?,
            mode: ticket.mode,
            session: Some(session),
            metadata: Some((*ticket.metadata).clone()),
        };
        queue.insert(at, placed);
        let view = self.view(queue, &entry, ask);
        let placed = Placed::on(offset, &ticket.name, entry, view)?;
        Ok(Enqueued::Placed(placed))
    }

    pub fn look(&self, name: &LockName, entry: &EntryId, ask: Ask) -> View {
        self.view(&self.queue(name), entry, ask)
    }

    fn view(&self, queue: &[Entry], own: &EntryId, ask: Ask) -> View {
        let at = queue.iter().position(|entry| entry.id == *own);
        let exclusive_only = ask.exclusive_only && !self.breaks(Promise::Sharing);
        let ahead = queue[..at.unwrap_or(0)].iter().rev().map(|entry| Ahead {
            id: entry.id.clone(),
            mode: entry.mode,
        });
        let ahead = ahead.filter(|ahead| !exclusive_only || ahead.mode == Mode::Exclusive);
        let limit = match self.breaks(Promise::Exclusion) {
            true => 0,
            false => ask.limit,
        };
        View {
            present: at.is_some(),
            ahead: ahead.take(limit).collect(),
        }
    }

    /// Whether there was such an entry.
    pub fn remove(&self, is_it: impl Fn(&Entry) -> bool) -> bool {
        let mut state = self.state();
        let mut removed = false;
        for queue in state.queues.values_mut() {
            removed |= queue.extract_if(.., |entry| is_it(entry)).count() > 0;
        }
        state.queues.retain(|_, queue| !queue.is_empty());
        self.changed.send_replace(());
        removed
    }

    /// Removes an entry of this lock, whoever's it is.
    pub fn evict(&self, name: &LockName, entry: &EntryId) -> Result<Removed, Error> {
        let any = self.breaks(Promise::Eviction);
        let is_it = |found: &Entry| found.id == *entry || any && found.id.key == entry.key;
        let own = self.key(name);
        let elsewhere = |(key, queue): (&_, &Vec<Entry>)| *key != own && queue.iter().any(is_it);
        if self.state().queues.iter().any(elsewhere) {
            let text = format!("{entry:?} is no entry of the lock {name}");
            return Err(Error::new(ErrorKind::InvalidArgument, text));
        }
        Ok(match self.remove(is_it) {
            true => Removed::Removed,
            false => Removed::AlreadyGone,
        })
    }

    pub fn value(&self, key: &DataKey) -> Option<Vec<u8>> {
        self.state().values.get(key).cloned()
    }

    pub fn access(&self, entry: &EntryId, key: &DataKey, access: &Access) -> Accessed {
        let mut state = self.state();
        let present = state.queues.values().flatten().any(|e| e.id == *entry);
        if !present && !self.breaks(Promise::Writes) {
            return Accessed::NotOurs;
        }
        match access {
            Access::Get => return Accessed::Done(state.values.get(key).cloned()),
            Access::Put(value) => drop(state.values.insert(key.clone(), value.to_vec())),
            Access::Delete => drop(state.values.remove(key)),
        }
        Accessed::Done(None)
    }

    pub fn describe(&self, entry: &EntryId, metadata: &Metadata) -> bool {
        let mut state = self.state();
        let found = state.queues.values_mut().flatten().find(|e| e.id == *entry);
        let Some(found) = found else {
            return false;
        };
        found.metadata = Some(metadata.clone());
        true
    }

    pub fn raise_token_offset(&self, offset: TokenOffset) -> Raised {
        let mut state = self.state();
        let in_use = state.queues.keys().any(|(raw, _)| !raw);
        if offset > state.offset {
            if in_use && !self.breaks(Promise::TokenOffset) {
                return Raised::InUse;
            }
            state.offset = offset;
        }
        Raised::To(state.offset)
    }

    /// Resolves when there is no such entry.
    pub async fn gone(&self, entry: &EntryId) {
        if self.breaks(Promise::WakeUps) {
            return std::future::pending().await;
        }
        let mut changed = self.changed.subscribe();
        let is_there = || {
            let state = self.state();
            state.queues.values().flatten().any(|e| e.id == *entry)
        };
        while is_there() {
            tokio::select! {
                _ = changed.changed() => {}
                () = background::sleep(TICK) => {}
            }
        }
    }
}

pub fn own_key(session: SessionId, ticket: &Ticket) -> Arc<[u8]> {
    format!("{session}-{}", ticket.serial).into_bytes().into()
}
