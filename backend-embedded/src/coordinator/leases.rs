//! The requests on leases, and the records of them for the next coordinator.

use std::sync::Arc;
use std::time::Duration;

use super::pending::Class;
use super::shared::{Clock, Shared, closed_error};
use super::{Authorizer, Coordinator, Granted, LeaseInfo, Operation};
use crate::error::Error;
use crate::evidence::Process;
use crate::machine::op::{LeaseId, Revision};
use crate::machine::{Changes, Machine};

/// Requests on leases, for the server and for tests. They are not a stable API.
#[doc(hidden)]
impl Coordinator {
    /// Grants a lease. Id 0 lets the coordinator choose a free id. The time to live is rounded up
    /// to whole seconds, and to [`MIN_LEASE_TTL`](crate::config::MIN_LEASE_TTL) at least.
    ///
    /// # Errors
    /// [`Error::LeaseExists`]; [`Error::InvalidLeaseId`]; [`Error::LeaseTtlTooLarge`] over
    /// [`MAX_LEASE_TTL`](crate::config::MAX_LEASE_TTL); [`Error::TooManyLeases`]; and the reason
    /// why it cannot be recorded now, as [`txn`](Self::txn).
    ///
    /// # Cancel safety
    /// If the future is dropped, the lease may have been granted. It then expires by itself.
    pub async fn grant(&self, id: LeaseId, ttl: Duration) -> Result<Granted, Error> {
        self.grant_to(None, id, ttl).await
    }

    /// Grants a lease to a process, if the process is known. If that process is found dead after a
    /// restart, the lease ends.
    pub(crate) async fn grant_to(
        &self,
        holder: Option<Process>,
        requested_id: LeaseId,
        ttl: Duration,
    ) -> Result<Granted, Error> {
        // Before anything is noted on the disk for it.
        self.check_authority(Operation::Grant)?;
        self.shared().extend_before_ack()?;
        loop {
            let id = match requested_id {
                0 => self.shared().choose_id(),
                chosen => chosen,
            };
            self.shared().record_holder(id, requested_id != 0, holder)?;
            let granted = self
                .submit(Class::Write, |machine, clock, changes| {
                    self.authorize(Operation::Grant, machine)?;
                    if let Some(authorizer) = &self.authorizer {
                        machine.check_leases_of(authorizer.owner())?;
                    }
                    let granted = machine.grant(clock.now(), id, ttl, changes)?;
                    if let Some(authorizer) = &self.authorizer {
                        machine.set_lease_owner(id, authorizer.owner());
                    }
                    Ok(granted)
                })
                .await;
            match granted {
                Ok(granted) => {
                    let ttl = granted.result;
                    return Ok(Granted { id, ttl });
                }
                Err(Error::LeaseExists { .. }) if requested_id == 0 => {}
                Err(error) => {
                    if requested_id == 0 {
                        self.shared().evidence().forget(id);
                    }
                    return Err(error);
                }
            }
        }
    }

    /// Revokes a lease, deletes its keys, and returns the store's revision.
    ///
    /// # Errors
    /// [`Error::LeaseNotFound`], and the reason why it cannot be recorded now, as
    /// [`txn`](Self::txn).
    ///
    /// # Cancel safety
    /// If the future is dropped, the lease may have been revoked.
    pub async fn revoke(&self, id: LeaseId) -> Result<Revision, Error> {
        let applied = self
            .submit(Class::Release, |machine, _, changes| {
                self.authorize(Operation::Revoke(id), machine)?;
                machine.revoke(id, changes)
            })
            .await?;
        Ok(applied.revision)
    }

    /// Renews a lease, and returns its time to live, which starts again in full. A renewal is not
    /// recorded: after a restart every lease that may still be relied on has its full time to live.
    /// So a renewal never waits for a commit, and succeeds even while writes are refused.
    ///
    /// # Errors
    /// [`Error::LeaseNotFound`], [`Error::Stopped`], [`Error::Displaced`].
    ///
    /// # Cancel safety
    /// Cancel safe: it completes at its first poll.
    pub async fn keep_alive(&self, id: LeaseId) -> Result<Duration, Error> {
        self.shared().renew(id, self.authorizer.as_ref())
    }

    /// Returns the remaining time of a lease and, if `keys`, the attached keys.
    ///
    /// # Errors
    /// [`Error::LeaseNotFound`], [`Error::Overloaded`], [`Error::Stopped`].
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn time_to_live(&self, id: LeaseId, keys: bool) -> Result<LeaseInfo, Error> {
        let applied = self
            .submit(Class::Read, |machine, clock, _| {
                self.authorize(Operation::TimeToLive(id), machine)?;
                read(machine, clock, id, keys)
            })
            .await?;
        Ok(applied.result)
    }

    /// Returns the ids of all leases that the subject of this handle may see, the first to expire first.
    ///
    /// # Errors
    /// [`Error::Overloaded`], [`Error::Stopped`].
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn leases(&self) -> Result<Vec<LeaseId>, Error> {
        let applied = self
            .submit(Class::Read, |machine, _, _| Ok(self.list(machine)))
            .await?;
        Ok(applied.result)
    }

    /// Returns the ids of the leases that the subject of this handle may see.
    pub(super) fn list(&self, machine: &Machine) -> Vec<LeaseId> {
        let mut ids = machine.leases();
        ids.retain(|&id| self.authorize(Operation::List(id), machine).is_ok());
        ids
    }
}

/// Returns the state of a lease and, if `keys`, its keys.
pub(super) fn read(
    machine: &Machine,
    clock: &Clock,
    id: LeaseId,
    keys: bool,
) -> Result<LeaseInfo, Error> {
    let (granted, remaining, attached) = machine.lease(clock.now(), id)?;
    Ok(LeaseInfo {
        id,
        granted,
        remaining,
        keys: attached.filter(|_| keys).cloned().collect(),
    })
}

impl Shared {
    /// See [`Evidence::extend_before_ack`].
    pub(super) fn extend_before_ack(&self) -> Result<(), Error> {
        self.stop_on_error(self.evidence().extend_before_ack())
    }

    /// See [`Evidence::refresh`].
    pub(super) fn refresh_evidence(&self) -> Result<(), Error> {
        self.stop_on_error(self.evidence().refresh())
    }

    /// See [`Evidence::record_holder`].
    pub(super) fn record_holder(
        &self,
        id: LeaseId,
        client_chosen: bool,
        holder: Option<Process>,
    ) -> Result<(), Error> {
        self.stop_on_error(self.evidence().record_holder(id, client_chosen, holder))
    }

    /// Stops the coordinator if the evidence can neither be written nor be emptied: it would end a
    /// live session after a restart.
    fn stop_on_error(&self, result: std::io::Result<()>) -> Result<(), Error> {
        result.map_err(|source| {
            let path = self.evidence().path();
            let source = Arc::new(source);
            self.stop(&Error::Io { path, source });
            self.failure().unwrap_or_else(closed_error)
        })
    }

    /// Revokes leases that ended before the coordinator was opened.
    pub(super) fn revoke_all(&self, ids: &[LeaseId]) {
        let mut state = self.state();
        for &id in ids {
            let mut changes = Changes::default();
            let revoked = state.machine.revoke(id, &mut changes);
            debug_assert!(revoked.is_ok(), "only a lease that is there is judged");
            self.record(&mut state, changes);
        }
    }

    pub(super) fn renew(
        &self,
        id: LeaseId,
        authorizer: Option<&Arc<dyn Authorizer>>,
    ) -> Result<Duration, Error> {
        self.extend_before_ack()?;
        let mut state = self.state();
        state.check_running()?;
        if let Some(authorizer) = authorizer {
            authorizer.authorize(Operation::Renew(id), &state.machine)?;
            // Owners are not recorded on the disk. After a restart, a lease belongs to the first one
            // who shows that it knows the random id.
            if state
                .machine
                .lease_use(id)
                .is_some_and(|(owner, _)| owner.is_none())
            {
                state.machine.set_lease_owner(id, authorizer.owner());
            }
        }
        // Read under the lock: a renewal that had to wait for the lock counts from when it is
        // applied.
        let now = self.clock().now();
        state.machine.renew(now, id)
    }
}
