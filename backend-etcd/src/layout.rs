//! The transactions that make, look at and remove entries, and the meaning of their replies.

use std::sync::Arc;

use backend_kit::keyspace::{Keyspace, Span};
use etcd_client::proto::{PbKeyValue, PbRangeResponse, PbTxnOpResponse as Answer};
use etcd_client::{
    Compare, CompareOp, DeleteOptions, GetOptions, PutOptions, SortOrder, SortTarget, Txn, TxnOp,
    TxnResponse,
};
use lock_core::rule::{Ahead, Ask, View};
use lock_core::session::Admission;
use lock_core::{
    Access, EntryId, Error, Incarnation, KnownTokenOffset, LockName, Removed, SessionId, Ticket,
    TokenOffset,
};

use crate::error;
use crate::watch::Target;

/// The keys that one session uses.
#[derive(Debug, Clone)]
pub struct Layout {
    keyspace: Keyspace,
    session: SessionId,
    epoch: String,
}

/// Selects the servers that serve a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Consistency {
    /// The cluster: the reply is not older than the request.
    Cluster,
    /// The connected member alone, which may lag behind. Such a read costs no round among the
    /// members, and does not wait for the writes that are on their way to the disk.
    Member,
}

impl Consistency {
    fn apply(self, options: GetOptions) -> GetOptions {
        match self {
            Consistency::Cluster => options,
            Consistency::Member => options.with_serializable(),
        }
    }
}

/// The result of an enqueue's transaction.
#[derive(Debug)]
pub enum Found {
    /// The session had no such entry. The entry was made, with this incarnation, behind these
    /// entries.
    Made(Incarnation, Vec<Ahead>),
    /// An earlier attempt had made the entry, with this incarnation.
    Own(Incarnation),
    /// An etcd over its quota has made the entry, with this incarnation, and has refused the request.
    Refused(Incarnation),
    /// The key exists, but not on the session's lease.
    Foreign,
    /// The epoch had moved to this revision. Nothing was done.
    Shut(i64),
    /// The token offset had been raised to this one. Nothing was done.
    Raised(KnownTokenOffset),
    /// The lock is not free, and the request was for a free lock only. Nothing was done.
    Busy,
}

impl Layout {
    /// Returns the keys of a session in this namespace.
    pub fn new(keyspace: Keyspace, session: SessionId) -> Self {
        Layout {
            epoch: keyspace.session_key(session),
            keyspace,
            session,
        }
    }

    /// Returns the session's own key; see [`enqueue`](Layout::enqueue).
    pub fn epoch(&self) -> &str {
        &self.epoch
    }

    pub(crate) fn key(&self, ticket: &Ticket, slot: u64) -> String {
        self.keyspace.entry_key(self.session, ticket, slot)
    }

    /// Returns the transaction that makes the entry with this key if it does not exist. If asked,
    /// the transaction also reads the entries that stood ahead before. The reads come first,
    /// because an operation of a transaction sees the effects of the operations before it.
    ///
    /// A request whose reply was lost may still lie in the socket of a member that stands still.
    /// The member may carry it out long after the entry was removed. So every request compares the
    /// revision of the session's epoch, and a removal moves the epoch if such a request may still
    /// be under way.
    ///
    /// With [`Admission::IfFree`], the transaction also compares that the ranges to be read are
    /// empty: a comparison of a range with a create revision of zero holds only for an empty range.
    pub(crate) fn enqueue(
        &self,
        ticket: &Ticket,
        key: &str,
        ask: Ask,
        admission: Admission,
        epoch: i64,
        offset: KnownTokenOffset,
    ) -> Txn {
        let mut make = self.ahead(&ticket.name, ask, None, Consistency::Cluster);
        make.push(TxnOp::put(
            key,
            ticket.metadata.to_bytes(),
            Some(PutOptions::new().with_lease(self.session.0)),
        ));
        let mut compares = vec![
            Compare::create_revision(key, CompareOp::Equal, 0),
            Compare::mod_revision(self.epoch.clone(), CompareOp::Equal, epoch),
        ];
        if !ticket.name.is_raw() {
            compares.push(offset_unchanged(&self.keyspace, offset));
        }
        if admission == Admission::IfFree {
            let spans = self.keyspace.ahead(&ticket.name, ask).into_iter();
            compares.extend(spans.map(|span| {
                Compare::create_revision(span.start, CompareOp::Equal, 0).with_range(span.end)
            }));
        }
        Txn::new().when(compares).and_then(make).or_else([
            get_key_only(key, Consistency::Cluster),
            get_key_only(self.epoch.clone(), Consistency::Cluster),
            TxnOp::get(self.keyspace.token_offset_key(), None),
        ])
    }

    pub(crate) fn parse_enqueue(
        &self,
        ticket: &Ticket,
        ask: Ask,
        epoch: i64,
        offset: KnownTokenOffset,
        answer: &TxnResponse,
    ) -> Result<Found, Error> {
        if answer.succeeded() {
            // The revision of a writing transaction is the revision of its writes.
            let made = parse_incarnation(revision(answer)?)?;
            return Ok(Found::Made(
                made,
                self.nearest(&ticket.name, ask, Some(made), answer)?,
            ));
        }
        let mut reads = reads(answer);
        let (Some(own), Some(now), Some(raised)) = (reads.next(), reads.next(), reads.next())
        else {
            return Err(error::protocol("an enqueue is not answered by three reads"));
        };
        let raised = parse_offset(&self.keyspace, raised.kvs.first())?;
        Ok(match own.kvs.first() {
            Some(kv) if kv.lease == self.session.0 => {
                Found::Own(parse_incarnation(kv.create_revision)?)
            }
            Some(_) => Found::Foreign,
            None => match now.kvs.first().map_or(0, |kv| kv.mod_revision) {
                _ if !ticket.name.is_raw() && raised != offset => Found::Raised(raised),
                same if same == epoch => Found::Busy,
                moved => Found::Shut(moved),
            },
        })
    }

    /// Returns the transaction that reads the entries ahead of an entry, if the entry still exists.
    pub(crate) fn look(
        &self,
        ticket: &Ticket,
        entry: &EntryId,
        ask: Ask,
        consistency: Consistency,
    ) -> Txn {
        Txn::new()
            .when([
                entry_exists(entry),
                Compare::lease(&*entry.key, CompareOp::Equal, self.session.0),
            ])
            .and_then(self.ahead(&ticket.name, ask, Some(entry), consistency))
    }

    /// Returns the transaction that reads the oldest entry behind an entry, if the entry still exists.
    pub(crate) fn look_behind(&self, ticket: &Ticket, entry: &EntryId) -> Txn {
        let queue = self.keyspace.lock(&ticket.name);
        let options = GetOptions::new()
            .with_keys_only()
            .with_limit(1)
            .with_min_create_revision(create_revision(entry).saturating_add(1))
            .with_range(queue.end);
        Txn::new()
            .when(self.own_entry_exists(entry))
            .and_then([TxnOp::get(queue.start, Some(options))])
    }

    /// Returns the queue of this ticket, as it is watched.
    pub(crate) fn queue(&self, ticket: &Ticket) -> Target {
        let queue = self.keyspace.lock(&ticket.name);
        Target::Range(Arc::new((queue.start, queue.end)))
    }

    pub(crate) fn parse_look(
        &self,
        ticket: &Ticket,
        entry: &EntryId,
        ask: Ask,
        answer: &TxnResponse,
    ) -> Result<View, Error> {
        let present = answer.succeeded();
        let ahead = if present {
            self.nearest(&ticket.name, ask, entry.incarnation, answer)?
        } else {
            Vec::new()
        };
        Ok(View { present, ahead })
    }

    /// Returns the transaction that removes the entry of this ticket, if there is one.
    pub(crate) fn remove_what_is_there(&self, ticket: &Ticket, slot: u64) -> Txn {
        let key = self.key(ticket, slot);
        let on_our_lease = Compare::lease(key.clone(), CompareOp::Equal, self.session.0);
        Txn::new()
            .when([on_our_lease])
            .and_then([TxnOp::delete(key, None)])
    }

    /// Returns the transaction that removes any entry of this ticket, and moves the epoch so that
    /// no enqueue still under way can succeed.
    pub(crate) fn remove_for_good(&self, ticket: &Ticket, slot: u64) -> Txn {
        let key = self.key(ticket, slot);
        let shut = TxnOp::put(
            self.epoch.clone(),
            Vec::new(),
            Some(PutOptions::new().with_lease(self.session.0)),
        );
        let previous = DeleteOptions::new().with_prev_key();
        Txn::new()
            .when([Compare::lease(
                key.clone(),
                CompareOp::Equal,
                self.session.0,
            )])
            .and_then([TxnOp::delete(key, Some(previous)), shut.clone()])
            .or_else([shut])
    }

    /// Returns the outcome of a removal for good, and the epoch's new revision. If the key was made
    /// again after the entry had been removed, it is another entry, and the outcome is
    /// [`Removed::AlreadyGone`].
    pub(crate) fn parse_remove_for_good(
        &self,
        entry: Option<&EntryId>,
        answer: &TxnResponse,
    ) -> Result<(Removed, i64), Error> {
        let deleted = responses(answer).find_map(|op| match op {
            Answer::ResponseDeleteRange(delete) => Some(delete.prev_kvs.first()?.create_revision),
            _ => None,
        });
        let removed = match (deleted, entry) {
            (Some(_), None) => Removed::Removed,
            (Some(created), Some(entry)) if created == create_revision(entry) => Removed::Removed,
            _ => Removed::AlreadyGone,
        };
        Ok((removed, revision(answer)?))
    }

    /// Returns the transaction that accesses a value as the holder of an entry. With `move_epoch`, it
    /// also moves the session's epoch.
    pub(crate) fn access(
        &self,
        entry: &EntryId,
        key: &str,
        access: &Access,
        epoch: i64,
        move_epoch: bool,
    ) -> Txn {
        let mut compares = self.own_entry_exists(entry).to_vec();
        compares.push(Compare::mod_revision(
            self.epoch.clone(),
            CompareOp::Equal,
            epoch,
        ));
        let mut operations = vec![match access {
            Access::Get => TxnOp::get(key, None),
            Access::Put(value) => TxnOp::put(key, &**value, None),
            Access::Delete => TxnOp::delete(key, None),
        }];
        if move_epoch {
            let options = PutOptions::new().with_lease(self.session.0);
            operations.push(TxnOp::put(self.epoch.clone(), [], Some(options)));
        }
        Txn::new().when(compares).and_then(operations).or_else([
            get_key_only(&*entry.key, Consistency::Cluster),
            get_key_only(self.epoch.clone(), Consistency::Cluster),
        ])
    }

    /// Returns the conditions that the entry exists and is on the session's lease. A key that
    /// somebody put again without the lease would outlive the session.
    pub(crate) fn own_entry_exists(&self, entry: &EntryId) -> [Compare; 2] {
        [
            entry_exists(entry),
            Compare::lease(&*entry.key, CompareOp::Equal, self.session.0),
        ]
    }

    /// Returns whether a read of the entry's key has found the entry on the session's lease.
    pub(crate) fn is_ours(&self, entry: &EntryId, read: &PbRangeResponse) -> bool {
        read.kvs.first().is_some_and(|kv| {
            kv.create_revision == create_revision(entry) && kv.lease == self.session.0
        })
    }

    fn ahead(
        &self,
        name: &LockName,
        ask: Ask,
        of: Option<&EntryId>,
        consistency: Consistency,
    ) -> Vec<TxnOp> {
        if ask.limit == 0 {
            // etcd takes a limit of zero as no limit.
            return Vec::new();
        }
        let mut options = GetOptions::new()
            .with_keys_only()
            .with_sort(SortTarget::Create, SortOrder::Descend)
            .with_limit(i64::try_from(ask.limit).unwrap_or(i64::MAX));
        if let Some(entry) = of {
            options = options.with_max_create_revision(create_revision(entry) - 1);
        }
        let options = consistency.apply(options);
        let read = |span: Span| TxnOp::get(span.start, Some(options.clone().with_range(span.end)));
        self.keyspace
            .ahead(name, ask)
            .into_iter()
            .map(read)
            .collect()
    }

    /// Returns the entries that stand ahead of the entry with this incarnation, of all that were
    /// read.
    fn nearest(
        &self,
        name: &LockName,
        ask: Ask,
        own: Option<Incarnation>,
        answer: &TxnResponse,
    ) -> Result<Vec<Ahead>, Error> {
        let mut ahead = Vec::new();
        for kv in reads(answer).flat_map(|read| &read.kvs) {
            let id = EntryId {
                key: kv.key.as_slice().into(),
                incarnation: Some(parse_incarnation(kv.create_revision)?),
            };
            let mode = self.keyspace.mode_of(name, &kv.key);
            ahead.push(Ahead { id, mode });
        }
        ahead.retain(|a| a.id.incarnation < own);
        ahead.sort_unstable_by_key(|a| std::cmp::Reverse(a.id.incarnation));
        ahead.truncate(ask.limit);
        Ok(ahead)
    }
}

/// Returns the transaction that removes an entry and reads whether the waiters' entries still
/// exist. Every enqueue of the entry must be known to be over.
pub(crate) fn remove(entry: &EntryId, waiters: &[EntryId]) -> Txn {
    let mut removal = vec![TxnOp::delete(&*entry.key, None)];
    let read = |waiter: &EntryId| get_key_only(&*waiter.key, Consistency::Cluster);
    removal.extend(waiters.iter().map(read));
    Txn::new().when([entry_exists(entry)]).and_then(removal)
}

/// Returns the waiters' entries that a removal found.
pub(crate) fn present_waiters(answer: &TxnResponse, waiters: &[EntryId]) -> Vec<EntryId> {
    let read = |(waiter, read): (&EntryId, &PbRangeResponse)| {
        let found = read.kvs.first()?;
        (found.create_revision == create_revision(waiter)).then(|| waiter.clone())
    };
    waiters.iter().zip(reads(answer)).filter_map(read).collect()
}

/// Returns the part that all keys of a queue begin with, from the key of an entry: everything
/// before the mode.
pub(crate) fn queue(key: &[u8]) -> Option<&[u8]> {
    let mut slashes = (0..key.len()).rev().filter(|at| key[*at] == b'/');
    slashes.nth(1).map(|at| &key[..at])
}

/// Returns a transaction that succeeds if the entry exists.
pub(crate) fn check_exists(entry: &EntryId, consistency: Consistency) -> Txn {
    // A transaction of nothing but compares is served by the member alone: see `isTxnSerializable`
    // in etcd. The read gives the transaction the consistency that the caller asks for.
    Txn::new()
        .when([entry_exists(entry)])
        .and_then([get_key_only(&*entry.key, consistency)])
}

pub(crate) fn entry_exists(entry: &EntryId) -> Compare {
    Compare::create_revision(&*entry.key, CompareOp::Equal, create_revision(entry))
}

pub(crate) fn get_key_only(key: impl Into<Vec<u8>>, consistency: Consistency) -> TxnOp {
    let options = GetOptions::new().with_keys_only();
    TxnOp::get(key, Some(consistency.apply(options)))
}

/// Parses what a read of the token offset's key found.
pub(crate) fn parse_offset(
    keyspace: &Keyspace,
    found: Option<&PbKeyValue>,
) -> Result<KnownTokenOffset, Error> {
    let Some(kv) = found else {
        return Ok(KnownTokenOffset::default());
    };
    Ok(KnownTokenOffset {
        offset: TokenOffset::from_bytes(&kv.value, &keyspace.token_offset_key())?,
        revision: kv.mod_revision.unsigned_abs(),
    })
}

/// Returns the comparison that holds while the token offset has not changed since it was read.
pub(crate) fn offset_unchanged(keyspace: &Keyspace, known: KnownTokenOffset) -> Compare {
    let revision = i64::try_from(known.revision).unwrap_or(i64::MAX);
    Compare::mod_revision(keyspace.token_offset_key(), CompareOp::Equal, revision)
}

fn responses(answer: &TxnResponse) -> impl Iterator<Item = &Answer> {
    answer
        .0
        .responses
        .iter()
        .filter_map(|op| op.response.as_ref())
}

pub(crate) fn reads(answer: &TxnResponse) -> impl Iterator<Item = &PbRangeResponse> {
    responses(answer).filter_map(|op| match op {
        Answer::ResponseRange(read) => Some(read),
        _ => None,
    })
}

/// Returns the value that a reply has read, if it has read one.
pub(crate) fn read_value(answer: &TxnResponse) -> Option<Vec<u8>> {
    let found = reads(answer).find_map(|read| read.kvs.first());
    found.map(|kv| kv.value.clone())
}

/// Returns the revision of the store at which the reply was made.
pub(crate) fn revision(answer: &TxnResponse) -> Result<i64, Error> {
    let header = answer
        .header()
        .ok_or_else(|| error::protocol("it has no header"))?;
    Ok(header.revision())
}

pub(crate) fn parse_incarnation(create_revision: i64) -> Result<Incarnation, Error> {
    let incarnation = u64::try_from(create_revision)
        .ok()
        .and_then(Incarnation::new);
    incarnation.ok_or_else(|| error::protocol("a create revision is not positive"))
}

/// Returns the create revision that the key of this entry has while the entry exists. If the
/// incarnation is not known, returns a revision that no key ever has.
pub(crate) fn create_revision(entry: &EntryId) -> i64 {
    let revision = entry.incarnation.map(Incarnation::get);
    revision.map_or(i64::MAX, |revision| {
        i64::try_from(revision).unwrap_or(i64::MAX)
    })
}
