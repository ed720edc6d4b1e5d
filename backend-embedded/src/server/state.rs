//! The state that all services share.

use std::sync::Arc;
use std::time::Duration;

use etcd_client::proto::PbResponseHeader;
use tokio::sync::Semaphore;
use tonic::{Request, Status};

use super::access::{Access, Caller, Nobody};
use super::call_registry::CallRegistry;
use super::commit_wait::CommitWait;
use super::connections::Peer;
use super::encode::to_i64;
use super::lifecycle::Lifecycle;
use super::status;
use crate::coordinator::Coordinator;
use crate::machine::op::Revision;

/// The `raft_term` of every response. There is no raft, so the leader never changes.
pub(super) const RAFT_TERM: u64 = 1;

/// The state that all services share.
pub(super) struct State {
    /// May do everything: for the server's own affairs, not for requests.
    pub(super) coordinator: Coordinator,
    access: Option<Access>,
    pub(super) lifecycle: Lifecycle,
    /// The addresses of the server as URLs.
    pub(super) client_urls: Vec<String>,
    /// What is wrong with how the server is set up.
    pub(super) warnings: Vec<String>,
    /// How often an idle watch gets a progress notification, if it asked for them.
    pub(super) progress_interval: Duration,
    /// The waiting calls of the lock and election services.
    pub(super) call_registry: CallRegistry,
    pub(super) commit_wait: CommitWait,
    /// Snapshots are sent one at a time.
    pub(super) snapshot_turn: Arc<Semaphore>,
    /// Held while a copy of the store is made for its hash and hashed: several would all be in memory.
    pub(super) hashing: tokio::sync::Mutex<()>,
    cluster_id: u64,
    member_id: u64,
}

pub(super) type Shared = Arc<State>;

impl State {
    pub(super) fn new(
        coordinator: Coordinator,
        access: Option<Access>,
        lifecycle: Lifecycle,
        client_urls: Vec<String>,
        warnings: Vec<String>,
        progress_interval: Duration,
    ) -> Self {
        let status = coordinator.status();
        Self {
            coordinator,
            access,
            lifecycle,
            client_urls,
            warnings,
            progress_interval,
            call_registry: CallRegistry::default(),
            commit_wait: CommitWait::default(),
            snapshot_turn: Arc::new(Semaphore::new(1)),
            hashing: tokio::sync::Mutex::default(),
            cluster_id: status.cluster_id,
            member_id: status.member_id,
        }
    }

    /// Returns the rules and users, if there are any.
    pub(super) fn access(&self) -> Option<&Access> {
        self.access.as_ref()
    }

    /// Returns the coordinator for a request: it does what the request's sender may do.
    pub(super) fn coordinator_for<T>(&self, request: &Request<T>) -> Coordinator {
        let coordinator = match (&self.access, Caller::of(request.extensions())) {
            (None, _) => self.coordinator.clone(),
            (Some(_), Some(caller)) => self.coordinator.on_behalf_of(caller),
            (Some(_), None) => self.coordinator.on_behalf_of(Arc::new(Nobody::new())),
        };
        match request.extensions().get::<Peer>() {
            Some(peer) => coordinator.in_turns_of(peer.usage.turn()),
            None => coordinator,
        }
    }

    pub(super) fn member_id(&self) -> u64 {
        self.member_id
    }

    /// Returns the status with which open streams and waiting calls end.
    pub(super) fn stop_status(&self) -> Status {
        let failure = self.coordinator.failure();
        failure.map_or_else(status::stop_status, Status::from)
    }

    /// Returns the header of a response that was true at `revision`.
    pub(super) fn header(&self, revision: Revision) -> PbResponseHeader {
        PbResponseHeader {
            cluster_id: self.cluster_id,
            member_id: self.member_id,
            revision: to_i64(revision),
            raft_term: RAFT_TERM,
        }
    }

    /// Returns the header of a response that has no revision of its own.
    pub(super) fn header_now(&self) -> PbResponseHeader {
        self.header(self.coordinator.status().revision)
    }
}
