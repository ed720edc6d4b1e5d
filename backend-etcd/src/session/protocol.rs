//! The protocol of a session: which transaction to send for a ticket, and what follows from the reply.
//! No I/O and no clock, so that the explorer of `models` runs it in every order of deliveries.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use etcd_client::{Txn, TxnResponse};
use lock_core::rule::Ask;
use lock_core::session::{Admission, Removal, Removed};
use lock_core::{Access, Effect, EntryId, Error, ErrorKind, KnownTokenOffset, Ticket};

use crate::error;
use crate::key_slots::KeySlots;
use crate::layout::{self, Found, Layout};

/// What one session knows of its requests. An attempt begins before its transaction is sent, and ends
/// when its outcome is known to be unknown, too. An attempt whose caller is dropped never ends.
#[derive(Debug)]
pub struct Protocol {
    layout: Layout,
    /// The highest known revision of the epoch; zero before the epoch's key exists.
    epoch: AtomicI64,
    key_slots: KeySlots,
    /// The last known state of the token offset.
    offset: Mutex<KnownTokenOffset>,
}

/// An attempt to make the entry of a ticket.
#[derive(Debug, Clone)]
pub struct EnqueueAttempt {
    /// The key of the entry.
    pub key: String,
    /// The epoch that the transaction compares.
    pub epoch: i64,
    /// The token offset that the transaction compares.
    pub offset: KnownTokenOffset,
    /// Whether no earlier attempt of the ticket may still be under way.
    pub was_certain: bool,
    /// Whether the ticket had no attempt before.
    pub is_first: bool,
}

/// An attempt to remove the entry of a ticket.
#[derive(Debug, Clone, Copy)]
pub struct RemovalAttempt {
    /// Whether the transaction removes whatever the ticket made or will make, and not only the entry
    /// of one incarnation.
    pub is_for_good: bool,
}

/// An attempt to change a value as the holder of an entry, or to read it after a change in doubt.
#[derive(Debug, Clone, Copy)]
pub struct AccessAttempt {
    /// The epoch that the transaction compares.
    epoch: i64,
    /// Whether no earlier attempt of the ticket may still be under way.
    pub was_certain: bool,
}

/// The outcome of an attempt to access a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessOutcome {
    /// The value is changed, or was read: this one.
    Done(Option<Vec<u8>>),
    /// The entry is gone, or is not on the session's lease. Nothing was done.
    NotOurs,
    /// The epoch had moved. Nothing was done; the next attempt knows the new epoch.
    EpochMoved,
}

impl Protocol {
    /// Returns the protocol of a session that has sent nothing yet.
    pub fn new(layout: Layout) -> Self {
        Protocol {
            layout,
            epoch: AtomicI64::new(0),
            key_slots: KeySlots::default(),
            offset: Mutex::default(),
        }
    }

    /// Returns the keys of the session.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Begins an attempt to enqueue. The slot counts as uncertain from now until the outcome is known.
    pub fn begin_enqueue(&self, ticket: &Ticket) -> EnqueueAttempt {
        let offset = *self.offset();
        let is_first = self.key_slots.get(ticket.serial).is_none();
        let (slot, was_certain) = self.key_slots.begin(ticket.serial);
        EnqueueAttempt {
            is_first,
            key: self.layout.key(ticket, slot),
            epoch: self.epoch.load(Ordering::SeqCst),
            offset,
            was_certain,
        }
    }

    /// Returns the transaction of an attempt to enqueue.
    pub fn enqueue_txn(
        &self,
        ticket: &Ticket,
        attempt: &EnqueueAttempt,
        ask: Ask,
        admission: Admission,
    ) -> Txn {
        let EnqueueAttempt {
            key, epoch, offset, ..
        } = attempt;
        self.layout
            .enqueue(ticket, key, ask, admission, *epoch, *offset)
    }

    /// Ends an attempt to enqueue. After [`Found::Shut`] and [`Found::Raised`], the next attempt knows
    /// the new state.
    ///
    /// # Errors
    /// That of the outcome, or that the reply is not one to an enqueue.
    pub fn end_enqueue(
        &self,
        ticket: &Ticket,
        attempt: &EnqueueAttempt,
        ask: Ask,
        outcome: Result<TxnResponse, Error>,
    ) -> Result<Found, Error> {
        let EnqueueAttempt { epoch, offset, .. } = *attempt;
        let resolves = attempt.was_certain && leaves_no_copy(&outcome);
        if resolves {
            self.key_slots.resolve(ticket.serial);
        }
        let found = outcome.and_then(|answer| {
            self.layout
                .parse_enqueue(ticket, ask, epoch, offset, &answer)
        });
        let made_nothing = match &found {
            Ok(Found::Made(..) | Found::Own(_)) => false,
            Ok(_) => true,
            Err(error) => error.effect() == Effect::None,
        };
        // After an attempt that is not the first, there may be the entry of an earlier one, whatever
        // became of this one.
        if resolves && made_nothing && attempt.is_first {
            self.key_slots.free(ticket.serial);
        }
        match &found {
            Ok(Found::Raised(now)) => self.learn_offset(*now),
            // Not the maximum: if somebody deleted the epoch's key, the epoch begins anew.
            Ok(Found::Shut(revision)) => self.epoch.store(*revision, Ordering::SeqCst),
            _ => {}
        }
        found
    }

    /// Ends an attempt to enqueue that is known to have made no entry, after an outcome that left this
    /// open.
    pub(crate) fn end_without_entry(&self, ticket: &Ticket, attempt: &EnqueueAttempt) {
        if attempt.is_first {
            self.key_slots.free(ticket.serial);
        }
    }

    /// Begins a removal. Returns the transaction to send with the attempt, or `None` if the ticket
    /// has no entry and will get none.
    pub fn begin_removal(
        &self,
        ticket: &Ticket,
        entry: Option<&EntryId>,
        waiters: &[EntryId],
    ) -> Option<(Txn, RemovalAttempt)> {
        // Remove by the incarnation if the ticket cannot have made another entry; otherwise by the key,
        // and for good if an entry may yet be made.
        let slot = self.key_slots.get(ticket.serial);
        let certain_entry = entry.filter(|_| slot.is_none_or(|slot| !slot.is_uncertain));
        let (is_for_good, txn) = match (certain_entry, slot) {
            (Some(entry), _) => (false, layout::remove(entry, waiters)),
            (None, None) => return None,
            (None, Some(_)) => match self.key_slots.begin(ticket.serial) {
                // There may be an entry whose place is not known, and nothing is under way that could
                // make another one. This needs no room in the store.
                (slot, true) => (false, self.layout.remove_what_is_there(ticket, slot)),
                (slot, false) => (true, self.layout.remove_for_good(ticket, slot)),
            },
        };
        Some((txn, RemovalAttempt { is_for_good }))
    }

    /// Ends an attempt to remove.
    ///
    /// # Errors
    /// That of the outcome, unless it means that the entry is gone with its lease.
    pub fn end_removal(
        &self,
        ticket: &Ticket,
        entry: Option<&EntryId>,
        waiters: &[EntryId],
        attempt: RemovalAttempt,
        outcome: Result<TxnResponse, Error>,
    ) -> Result<Removal, Error> {
        let removal = match outcome {
            Ok(answer) if attempt.is_for_good => {
                let (removed, epoch) = self.layout.parse_remove_for_good(entry, &answer)?;
                self.epoch.fetch_max(epoch, Ordering::SeqCst);
                removed.into()
            }
            Ok(answer) if answer.succeeded() => Removal {
                removed: Removed::Removed,
                waiters: layout::present_waiters(&answer, waiters),
            },
            Ok(_) => Removed::AlreadyGone.into(),
            // All entries on the lease went with it, and a request under way can put nothing on it
            // any more.
            Err(error) if matches!(error.kind(), ErrorKind::SessionLost(_)) => {
                Removed::AlreadyGone.into()
            }
            Err(error) => return Err(error),
        };
        self.forget(ticket);
        Ok(removal)
    }

    /// Forgets a ticket whose entry is gone.
    pub fn forget(&self, ticket: &Ticket) {
        self.key_slots.free(ticket.serial);
    }

    /// Returns whether a request of this ticket may still be carried out whose reply was lost.
    pub fn is_in_doubt(&self, ticket: &Ticket) -> bool {
        let slot = self.key_slots.get(ticket.serial);
        slot.is_some_and(|slot| slot.is_uncertain)
    }

    /// Begins an access to the value with this key: a change, or a read after a change in doubt.
    /// Returns the transaction to send with the attempt.
    ///
    /// If the reply to an attempt was lost, or its caller was dropped, a copy of the request may
    /// still lie in the socket of a member that stands still. The member must not carry the copy
    /// out after the holder's next access. So every attempt compares the session's epoch, as an
    /// enqueue does, and the attempt after such a copy moves the epoch.
    pub fn begin_access(
        &self,
        ticket: &Ticket,
        entry: &EntryId,
        key: &str,
        access: &Access,
    ) -> (Txn, AccessAttempt) {
        let epoch = self.epoch.load(Ordering::SeqCst);
        let (_, was_certain) = self.key_slots.begin(ticket.serial);
        let txn = self.layout.access(entry, key, access, epoch, !was_certain);
        (txn, AccessAttempt { epoch, was_certain })
    }

    /// Ends an attempt to access a value.
    ///
    /// # Errors
    /// That of the outcome, or that the reply is not one to an access.
    pub fn end_access(
        &self,
        ticket: &Ticket,
        entry: &EntryId,
        attempt: AccessAttempt,
        outcome: Result<TxnResponse, Error>,
    ) -> Result<AccessOutcome, Error> {
        if attempt.was_certain && leaves_no_copy(&outcome) {
            self.key_slots.resolve(ticket.serial);
        }
        let answer = outcome?;
        if answer.succeeded() {
            if !attempt.was_certain {
                let moved = layout::revision(&answer)?;
                self.epoch.fetch_max(moved, Ordering::SeqCst);
                self.key_slots.resolve(ticket.serial);
            }
            return Ok(AccessOutcome::Done(layout::read_value(&answer)));
        }
        let mut reads = layout::reads(&answer);
        let (Some(own), Some(now)) = (reads.next(), reads.next()) else {
            return Err(error::protocol(
                "an access that failed is not answered by two reads",
            ));
        };
        if !self.layout.is_ours(entry, own) {
            return Ok(AccessOutcome::NotOurs);
        }
        let now = now.kvs.first().map_or(0, |kv| kv.mod_revision);
        if now > attempt.epoch {
            // All copies of earlier attempts compare an epoch that has passed. So the next attempt
            // need not move it again: the many accesses that follow an outage would undo each other.
            self.key_slots.resolve(ticket.serial);
        }
        // Not the maximum: if somebody deleted the epoch's key, the epoch begins anew.
        self.epoch.store(now, Ordering::SeqCst);
        Ok(AccessOutcome::EpochMoved)
    }

    /// Returns the last known token offset.
    pub fn known_offset(&self) -> KnownTokenOffset {
        *self.offset()
    }

    /// Learns the present token offset.
    pub(crate) fn learn_offset(&self, now: KnownTokenOffset) {
        *self.offset() = now;
    }

    fn offset(&self) -> MutexGuard<'_, KnownTokenOffset> {
        self.offset.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns whether no copy of a request is under way. The refusal of an etcd over its quota is an answer,
/// whether or not the etcd has carried the request out.
fn leaves_no_copy(outcome: &Result<TxnResponse, Error>) -> bool {
    match outcome {
        Ok(_) => true,
        Err(error) => error.effect() == Effect::None || error::is_over_quota(error),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use backend_kit::keyspace::Keyspace;
    use etcd_client::proto::{PbResponseHeader, PbTxnResponse};
    use lock_core::{Incarnation, LockName, Metadata, Mode, SessionId, rule};
    use tonic::Status;

    use super::*;

    fn ticket() -> Ticket {
        Ticket {
            name: LockName::new("a").expect("valid"),
            mode: Mode::Exclusive,
            serial: 1,
            metadata: Arc::new(Metadata::default()),
        }
    }

    /// The store is full: a removal that moves the epoch needs room.
    #[test]
    fn a_value_that_a_full_store_may_have_taken_leaves_the_removal_as_it_is() {
        let protocol = Protocol::new(Layout::new(Keyspace::default(), SessionId(7)));
        let entry = EntryId {
            key: b"turnlock/a/write/7-1".as_slice().into(),
            incarnation: Incarnation::new(5),
        };
        let access = Access::Put(b"v".as_slice().into());
        let (_, attempt) = protocol.begin_access(&ticket(), &entry, "k", &access);
        let full = Status::resource_exhausted("etcdserver: mvcc: database space exceeded");
        let full = error::from_client("h:1", etcd_client::Error::GRpcStatus(full)).error;
        assert_eq!(full.effect(), Effect::Unknown);
        let ended = protocol.end_access(&ticket(), &entry, attempt, Err(full));
        ended.expect_err("no room");
        let removal = protocol.begin_removal(&ticket(), Some(&entry), &[]);
        let (_, attempt) = removal.expect("there is an entry");
        assert!(!attempt.is_for_good);
    }

    /// The entry was made, its place could not be read, and the next attempt reached nobody.
    #[test]
    fn a_ticket_keeps_the_key_of_its_entry_when_a_later_attempt_was_never_sent() {
        let protocol = Protocol::new(Layout::new(Keyspace::default(), SessionId(7)));
        let ticket = ticket();
        let ask = rule::Ask {
            limit: 0,
            ..rule::ask(Mode::Exclusive)
        };
        let made = TxnResponse(PbTxnResponse {
            header: Some(PbResponseHeader {
                revision: 2,
                ..PbResponseHeader::default()
            }),
            succeeded: true,
            responses: Vec::new(),
        });
        let attempt = |outcome| {
            let attempt = protocol.begin_enqueue(&ticket);
            protocol.end_enqueue(&ticket, &attempt, ask, outcome)
        };
        attempt(Ok(made)).expect("made");
        attempt(Err(Error::new(ErrorKind::Unreachable, "for a test"))).expect_err("never sent");
        let removal = protocol.begin_removal(&ticket, None, &[]);
        assert!(removal.is_some(), "nobody would remove the entry");
    }
}

/// What an explorer needs: a copy for each state, and what tells two states apart.
#[cfg(feature = "models")]
mod models {
    use super::*;

    impl Clone for Protocol {
        fn clone(&self) -> Self {
            Protocol {
                layout: self.layout.clone(),
                epoch: AtomicI64::new(self.epoch()),
                key_slots: self.key_slots.clone(),
                offset: Mutex::new(self.known_offset()),
            }
        }
    }

    impl Protocol {
        /// Returns the highest known revision of the epoch.
        pub fn epoch(&self) -> i64 {
            self.epoch.load(Ordering::SeqCst)
        }

        /// Returns the slots of the tickets.
        pub fn key_slots(&self) -> &KeySlots {
            &self.key_slots
        }
    }
}
