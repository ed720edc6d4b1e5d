//! A session that behaves as a test says. It delays, fails, hangs and wakes waiters without a
//! reason, all of which the trait allows. It stands for a coordinator in trouble; the conformance
//! suite tests how real ones behave.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use lock_core::clock::Clock;
use lock_core::rule::{Ahead, Ask, View};
use lock_core::{
    Access, Accessed, Admission, AsOf, Backend, Behind, DataKey, Effect, Enqueued, EntryId, Error,
    ErrorKind, Incarnation, Liveness, LockName, Locks, LossReason, Metadata, Mode, Options, Placed,
    Queue, Raised, Removal, Removed, Session, SessionId, Ticket, Token, TokenOffset, Watcher,
};

/// The behaviour of a call.
#[derive(Debug, Clone, Copy, Default)]
pub enum Act {
    #[default]
    Succeed,
    Fail(ErrorKind),
    /// Fails this many times, then succeeds.
    FailTimes(usize),
    /// Does what is asked, but loses the reply this many times. For removals only.
    LoseReplies(usize),
    Hang,
    Panic,
}

/// One kind of call: its behaviour, and the number of calls so far.
#[derive(Debug, Default)]
pub struct Call {
    act: Mutex<Act>,
    count: AtomicUsize,
}

impl Call {
    pub fn will(&self, act: Act) {
        *self.act.lock().unwrap_or_else(PoisonError::into_inner) = act;
    }

    pub fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    async fn play(&self) -> Result<(), Error> {
        self.count.fetch_add(1, Ordering::SeqCst);
        let act = {
            let mut act = self.act.lock().unwrap_or_else(PoisonError::into_inner);
            let now = *act;
            if let Act::FailTimes(times) = now {
                *act = times.checked_sub(1).map_or(Act::Succeed, Act::FailTimes);
            }
            now
        };
        match act {
            Act::Succeed | Act::FailTimes(0) | Act::LoseReplies(_) => Ok(()),
            Act::Fail(kind) => Err(Error::new(kind, "as the script says")),
            Act::FailTimes(_) => Err(Error::new(ErrorKind::Unreachable, "this time")),
            Act::Hang => std::future::pending().await,
            Act::Panic => panic!("as the script says"),
        }
    }
}

impl Call {
    /// Sends the reply, unless it is to be lost.
    fn reply<T>(&self, reply: T) -> Result<T, Error> {
        let mut act = self.act.lock().unwrap_or_else(PoisonError::into_inner);
        match *act {
            Act::LoseReplies(times) if times > 0 => {
                *act = Act::LoseReplies(times - 1);
                let error = Error::new(ErrorKind::Unreachable, "the reply was lost");
                Err(error.with_effect(Effect::Unknown))
            }
            _ => Ok(reply),
        }
    }
}

/// The behaviour of the coordinator, and a record of the calls.
#[derive(Debug, Default)]
pub struct Script {
    pub open: Call,
    /// Reads of queues and values that need no session.
    pub read: Call,
    pub open_takes: Mutex<Duration>,
    pub enqueue: Call,
    pub look: Call,
    pub watch: Call,
    pub behind: Call,
    pub remove: Call,
    pub access: Call,
    pub metadata: Call,
    pub close: Call,
    /// The number of watches under way.
    pub watches: AtomicUsize,
    /// The number of watches that were left when the session was closed.
    pub watches_at_close: AtomicUsize,
    /// Whether another entry stands ahead of ours.
    pub blocked: AtomicBool,
    /// Whether somebody removed our entry.
    pub gone: AtomicBool,
    /// Whether another entry stands behind ours.
    pub wanted: AtomicBool,
    pub entries: Mutex<HashSet<u64>>,
    /// The tickets of all enqueues, whatever their outcome.
    pub tickets: Mutex<HashSet<u64>>,
    pub clock: Clock,
}

impl Script {
    /// Returns locks on this coordinator, with sessions of this time to live; watches stay silent.
    pub fn locks(self: &Arc<Self>, ttl: Duration) -> Locks {
        self.locks_with(Options::default().with_ttl(ttl))
    }

    pub fn locks_with(self: &Arc<Self>, options: Options) -> Locks {
        Locks::new(Arc::new(Scripted(self.clone())), options).expect("options within bounds")
    }

    pub fn left(&self) -> usize {
        self.entries
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }

    fn view(&self) -> View {
        let other = Ahead {
            id: EntryId {
                key: b"other".as_slice().into(),
                incarnation: Incarnation::new(1),
            },
            mode: Mode::Exclusive,
        };
        let ahead = if self.blocked.load(Ordering::SeqCst) {
            vec![other]
        } else {
            vec![]
        };
        View {
            present: !self.gone.load(Ordering::SeqCst),
            ahead,
        }
    }
}

#[derive(Debug)]
struct Scripted(Arc<Script>);

#[derive(Debug)]
struct ScriptedSession {
    script: Arc<Script>,
    liveness: Arc<Liveness>,
}

/// Counts one watch for as long as it lives.
struct Watch<'a>(&'a AtomicUsize);

impl<'a> Watch<'a> {
    fn of(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Watch(count)
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl Backend for Scripted {
    fn name(&self) -> &'static str {
        "scripted"
    }

    async fn open_session(&self, ttl: Duration) -> Result<Arc<dyn Session>, Error> {
        let takes = *self
            .0
            .open_takes
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        tokio::time::sleep(takes).await;
        self.0.open.play().await?;
        let clock = self.0.clock.clone();
        let liveness = Liveness::new(clock.clone(), clock.now(), ttl);
        Ok(Arc::new(ScriptedSession {
            script: self.0.clone(),
            liveness,
        }))
    }

    async fn queue(&self, name: &LockName) -> Result<Queue, Error> {
        self.0.read.play().await?;
        Ok(Queue::new(name.clone(), vec![]))
    }

    async fn locks(&self, _: &str, _: Option<&LockName>, _: usize) -> Result<Vec<Queue>, Error> {
        Ok(vec![])
    }

    async fn get(&self, _: &DataKey) -> Result<Option<Vec<u8>>, Error> {
        self.0.read.play().await?;
        Ok(None)
    }

    async fn evict(&self, _: &LockName, _: &EntryId) -> Result<Removed, Error> {
        Ok(Removed::AlreadyGone)
    }

    async fn raise_token_offset(&self, offset: TokenOffset) -> Result<Raised, Error> {
        Ok(Raised::To(offset))
    }
}

#[async_trait]
impl Session for ScriptedSession {
    fn id(&self) -> SessionId {
        SessionId(1)
    }

    fn liveness(&self) -> &Arc<Liveness> {
        &self.liveness
    }

    async fn enqueue(&self, ticket: &Ticket, _: Ask, _: Admission) -> Result<Enqueued, Error> {
        self.script
            .tickets
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(ticket.serial);
        self.script.enqueue.play().await?;
        self.script
            .entries
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(ticket.serial);
        let key = ticket.serial.to_string().into_bytes().into();
        let entry = EntryId {
            key,
            incarnation: Incarnation::new(ticket.serial + 10),
        };
        Ok(Enqueued::Placed(Placed {
            token: Token(ticket.serial + 10),
            entry,
            view: self.script.view(),
        }))
    }

    async fn look(&self, _: &Ticket, _: &EntryId, _: Ask, _: AsOf) -> Result<View, Error> {
        self.script.look.play().await?;
        Ok(self.script.view())
    }

    async fn watch(&self, _: &EntryId, _: Watcher) -> Result<(), Error> {
        let _watch = Watch::of(&self.script.watches);
        let changed = self.script.watch.play().await;
        if let Err(error) = &changed
            && let ErrorKind::SessionLost(reason) = error.kind()
        {
            self.liveness.lose(reason);
        }
        changed
    }

    async fn watch_behind(&self, _: &Ticket, _: &EntryId) -> Result<Behind, Error> {
        self.script.behind.play().await?;
        if self.script.gone.load(Ordering::SeqCst) {
            return Ok(Behind::Gone);
        }
        if self.script.wanted.load(Ordering::SeqCst) {
            return Ok(Behind::Somebody);
        }
        let script = self.script.clone();
        Ok(Behind::Nobody(Box::pin(async move {
            script.watch.play().await
        })))
    }

    async fn remove(
        &self,
        ticket: &Ticket,
        _: Option<&EntryId>,
        _: &[EntryId],
    ) -> Result<Removal, Error> {
        self.script.remove.play().await?;
        let mut entries = self
            .script
            .entries
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        self.script
            .remove
            .reply(match entries.remove(&ticket.serial) {
                true => Removed::Removed.into(),
                false => Removed::AlreadyGone.into(),
            })
    }

    async fn access(
        &self,
        _: &Ticket,
        _: &EntryId,
        _: &DataKey,
        _: &Access,
    ) -> Result<Accessed, Error> {
        self.script.access.play().await?;
        Ok(match self.script.gone.load(Ordering::SeqCst) {
            true => Accessed::NotOurs,
            false => Accessed::Done(None),
        })
    }

    async fn describe(&self, _: &Ticket, _: &EntryId, _: &Metadata) -> Result<bool, Error> {
        Ok(!self.script.gone.load(Ordering::SeqCst))
    }

    async fn metadata(&self, _: &EntryId) -> Result<Option<Metadata>, Error> {
        self.script.metadata.play().await?;
        Ok(Some(Metadata::default()))
    }

    async fn close(&self) -> Result<(), Error> {
        self.liveness.lose(LossReason::Closed);
        let watches = self.script.watches.load(Ordering::SeqCst);
        self.script
            .watches_at_close
            .store(watches, Ordering::SeqCst);
        self.script.close.play().await?;
        self.script
            .entries
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
        Ok(())
    }
}
