//! The question whether a subject may do what it asks for, asked where a request is applied.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::Coordinator;
use crate::error::Error;
use crate::machine::Machine;
use crate::machine::op::{Delete, KeyRange, LeaseId, Put, Range, Txn};

/// One request to the store, as it is about to be applied. Whoever decides on it matches all of its
/// kinds, so that a new kind does not compile without a decision.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(
    not(feature = "server"),
    expect(dead_code, reason = "only the server has subjects to decide on")
)]
pub(crate) enum Operation<'a> {
    /// Reads keys.
    Range(&'a Range),
    /// Writes a key.
    Put(&'a Put),
    /// Deletes keys.
    Delete(&'a Delete),
    /// Does several of these.
    Txn(&'a Txn),
    /// Watches keys.
    Watch(&'a KeyRange),
    /// Forgets events of all keys.
    Compact,
    /// Reads everything that is stored, leases among it.
    #[cfg(feature = "server")]
    Copy,
    /// Makes a lease.
    Grant,
    /// Ends a lease, and deletes its keys.
    Revoke(LeaseId),
    /// Renews a lease.
    Renew(LeaseId),
    /// Shows the times and the keys of a lease, or that there is one.
    TimeToLive(LeaseId),
    /// Shows that there is a lease of this id.
    List(LeaseId),
}

/// What a decision depends on in a lease.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(
    not(feature = "server"),
    expect(dead_code, reason = "only the server has subjects to decide on")
)]
pub(crate) struct LeaseState<'a> {
    /// The subject that it was granted to, if that is known: it is not recorded on the disk.
    pub(crate) owner: Option<&'a str>,
    /// Its keys.
    pub(crate) keys: &'a BTreeSet<Bytes>,
}

/// The leases, as they are while a request is applied.
pub(crate) trait Leases {
    /// Returns the state of a lease, if there is such a lease.
    #[cfg_attr(
        not(feature = "server"),
        expect(dead_code, reason = "only the server has subjects to decide on")
    )]
    fn find(&self, id: LeaseId) -> Option<LeaseState<'_>>;
}

impl Leases for Machine {
    fn find(&self, id: LeaseId) -> Option<LeaseState<'_>> {
        let (owner, keys) = self.lease_use(id)?;
        Some(LeaseState { owner, keys })
    }
}

/// Decides what one subject may do.
pub(crate) trait Authorizer: fmt::Debug + Send + Sync {
    /// Returns the name under which leases are noted as the subject's own.
    fn owner(&self) -> &Arc<str>;

    /// Decides on an operation.
    ///
    /// This is called under the lock under which the operation is then applied, so no lease gains a
    /// key, and none changes its owner, between the two.
    ///
    /// # Errors
    /// [`Error::PermissionDenied`].
    fn authorize(&self, operation: Operation<'_>, leases: &dyn Leases) -> Result<(), Error>;
}

impl Coordinator {
    /// Returns a handle for the requests of one subject.
    #[cfg(feature = "server")]
    pub(crate) fn on_behalf_of(&self, authorizer: Arc<dyn Authorizer>) -> Coordinator {
        Coordinator {
            inner: Arc::clone(&self.inner),
            authorizer: Some(authorizer),
            turn: self.turn.clone(),
        }
    }

    /// Decides on an operation. A handle without a subject may do everything.
    pub(super) fn authorize(
        &self,
        operation: Operation<'_>,
        machine: &Machine,
    ) -> Result<(), Error> {
        match &self.authorizer {
            None => Ok(()),
            Some(authorizer) => authorizer.authorize(operation, machine),
        }
    }

    /// Decides on an operation before it is prepared. It is decided on again when it is applied.
    pub(crate) fn check_authority(&self, operation: Operation<'_>) -> Result<(), Error> {
        match &self.authorizer {
            None => Ok(()),
            Some(authorizer) => {
                let state = self.shared().state();
                authorizer.authorize(operation, &state.machine)
            }
        }
    }
}
