//! What an observer is told of one acquire.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use tracing::Span;
use tracing::field::display;

use super::{BlockedRecord, Event, NotAcquired, Observed, spans};
use crate::clock::{BootInstant, Clock};
use crate::entry::{Mode, SessionId};
use crate::error::Error;
use crate::name::LockName;
use crate::sticky::Slot;
use crate::token::Token;

/// An acquire that is under way. If this is dropped before its end, the acquire was cancelled.
#[derive(Debug)]
pub(crate) enum AcquireRecord<'a> {
    Observed(Record<'a>),
    /// Nobody observes it.
    Unobserved,
    /// It is made for all tasks that wait at this slot, each of which has a record of its own.
    OfSlot(&'a Slot),
}

/// The record of an acquire that somebody observes.
#[derive(Debug)]
pub(crate) struct Record<'a> {
    observed: &'a Observed,
    lock: &'a LockName,
    mode: Mode,
    begun: BootInstant,
    /// Whether the acquire had to wait for another contender.
    contended: AtomicBool,
    /// What keeps the acquire waiting, once it has waited: over all its places in the queue.
    blocked: OnceLock<BlockedRecord>,
    /// Whether the end was told.
    has_ended: AtomicBool,
}

impl<'a> AcquireRecord<'a> {
    /// Begins the record of an acquire, if there is an observer.
    pub(crate) fn begin(observed: &'a Observed, lock: &'a LockName, mode: Mode) -> Self {
        if !observed.is_on() {
            return AcquireRecord::Unobserved;
        }
        let begun = Clock::system().now();
        observed.emit(|| Event::Acquiring { lock, mode, begun });
        AcquireRecord::Observed(Record {
            observed,
            lock,
            mode,
            begun,
            contended: AtomicBool::new(false),
            blocked: OnceLock::new(),
            has_ended: AtomicBool::new(false),
        })
    }

    fn observed(&self) -> Option<&Record<'a>> {
        match self {
            AcquireRecord::Observed(record) => Some(record),
            AcquireRecord::Unobserved | AcquireRecord::OfSlot(_) => None,
        }
    }

    /// Notes that the acquire has lost its place in the queue by this error, and queues anew.
    pub(crate) fn note_lost_place(&self, error: &Error) {
        if let AcquireRecord::OfSlot(slot) = self {
            slot.note_lost_place(error);
        }
    }

    /// Notes that the acquire waits for another contender. Returns what tells the observer, if there
    /// is one, who that is; `is_traced` says whether the acquire belongs to a trace.
    pub(crate) fn note_contention(&self, is_traced: bool) -> Option<BlockedRecord> {
        Span::current().record("turnlock.acquire.contended", true);
        if let AcquireRecord::OfSlot(slot) = self {
            slot.note_place();
        }
        let record = self.observed()?;
        // One task writes and reads this, so the order of other memory is no matter.
        record.contended.store(true, Ordering::Relaxed);
        let blocked = record.blocked.get_or_init(|| {
            BlockedRecord::new(
                record.observed.clone(),
                record.lock.clone(),
                record.mode,
                is_traced,
            )
        });
        Some(blocked.clone())
    }

    /// Records that the lock was acquired. `placed` is when the place in the queue was reported. Returns
    /// when the lock was acquired, if there is an observer.
    pub(crate) fn succeed(
        &self,
        token: Token,
        session: SessionId,
        placed: Option<BootInstant>,
    ) -> Option<BootInstant> {
        let span = Span::current();
        if !span.is_disabled() {
            span.record("turnlock.acquire.outcome", "granted");
            span.record("turnlock.lock.token", display(token));
            span.record("turnlock.session.id", display(session));
        }
        let record = self.observed()?;
        let contended = record.contended.load(Ordering::Relaxed);
        // A lock that is free is acquired with the place in its queue: no further clock is read.
        let acquired = placed.filter(|_| !contended);
        let acquired = acquired.unwrap_or_else(|| Clock::system().now());
        record.end(|record| Event::Acquired {
            lock: record.lock,
            mode: record.mode,
            token,
            begun: record.begun,
            waited: acquired.saturating_since(record.begun),
            contended,
        });
        Some(acquired)
    }

    /// Records that the acquire ended without the lock.
    pub(crate) fn fail(&self, why: NotAcquired<'_>) {
        let span = Span::current();
        span.record("turnlock.acquire.outcome", why.name());
        if let NotAcquired::Failed(error) = why {
            spans::record_error(&span, error);
        }
        if let Some(record) = self.observed() {
            record.tell_not_acquired(why);
        }
    }
}

impl Record<'_> {
    fn tell_not_acquired(&self, why: NotAcquired<'_>) {
        self.end(|record| Event::NotAcquired {
            lock: record.lock,
            mode: record.mode,
            begun: record.begun,
            waited: Clock::system().now().saturating_since(record.begun),
            contended: record.contended.load(Ordering::Relaxed),
            why,
        });
    }

    /// Tells the end, unless it was told before.
    fn end<'e>(&'e self, event: impl FnOnce(&'e Self) -> Event<'e>) {
        if !self.has_ended.swap(true, Ordering::Relaxed) {
            self.observed.emit(|| event(self));
        }
    }
}

impl Drop for Record<'_> {
    fn drop(&mut self) {
        self.tell_not_acquired(NotAcquired::Cancelled);
    }
}
