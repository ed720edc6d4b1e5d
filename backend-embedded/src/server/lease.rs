//! `etcdserverpb.Lease`.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use etcd_client::proto::{
    PbLeaseGrantRequest, PbLeaseGrantResponse, PbLeaseKeepAliveRequest, PbLeaseKeepAliveResponse,
    PbLeaseLeasesRequest, PbLeaseLeasesResponse, PbLeaseRevokeRequest, PbLeaseRevokeResponse,
    PbLeaseService, PbLeaseStatus, PbLeaseTimeToLiveRequest, PbLeaseTimeToLiveResponse,
};
use futures_util::{Stream, stream};
use tonic::{Request, Response, Status, Streaming};

use super::bodies::AnswerBudget;
use super::connections::Peer;
use super::decode::to_u64;
use super::encode::to_i64;
use super::state::{Shared, State};
use crate::coordinator::Coordinator;
use crate::error::Error;
use crate::evidence::Process;

/// What the id of a lease takes up in an answer, in bytes.
const LEASE_BYTES: usize = 16;

/// The lease service.
pub(super) struct Lease(pub(super) Shared);

fn to_seconds(duration: Duration) -> i64 {
    to_i64(duration.as_secs())
}

#[tonic::async_trait]
impl PbLeaseService for Lease {
    async fn lease_grant(
        &self,
        request: Request<PbLeaseGrantRequest>,
    ) -> Result<Response<PbLeaseGrantResponse>, Status> {
        if self.0.lifecycle.is_draining() {
            return Err(self.0.stop_status());
        }
        let coordinator = self.0.coordinator_for(&request);
        let holder = find_holder(&request);
        let request = request.into_inner();
        let ttl = Duration::from_secs(to_u64(request.ttl));
        let granting = coordinator.grant_to(holder, request.id, ttl);
        let granted = match self.0.commit_wait.wait_for(granting).await {
            Ok(granted) => granted,
            // etcd accepts negative ids. Its Go client, like ours, never sends one.
            Err(err @ Error::InvalidLeaseId { .. }) => {
                return Err(Status::invalid_argument(format!("turnlock: {err}")));
            }
            Err(err) => return Err(err.into()),
        };
        Ok(Response::new(PbLeaseGrantResponse {
            header: Some(self.0.header_now()),
            id: granted.id,
            ttl: to_seconds(granted.ttl),
            error: String::new(),
        }))
    }

    async fn lease_revoke(
        &self,
        request: Request<PbLeaseRevokeRequest>,
    ) -> Result<Response<PbLeaseRevokeResponse>, Status> {
        let coordinator = self.0.coordinator_for(&request);
        let revoking = coordinator.serve_revoke(request.into_inner().id);
        let revision = self.0.commit_wait.wait_for(revoking).await?;
        Ok(Response::new(PbLeaseRevokeResponse {
            header: Some(self.0.header(revision)),
        }))
    }

    type LeaseKeepAliveStream =
        Pin<Box<dyn Stream<Item = Result<PbLeaseKeepAliveResponse, Status>> + Send>>;

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<PbLeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        // Requests are taken one at a time, as fast as the client takes the responses, so nothing
        // piles up here.
        let coordinator = self.0.coordinator_for(&request);
        let renewals = stream::try_unfold(
            (self.0.clone(), coordinator, request.into_inner()),
            |(state, coordinator, mut requests)| async move {
                let request = tokio::select! {
                    request = requests.message() => request?,
                    () = state.lifecycle.wait_for_ending() => return Err(state.stop_status()),
                };
                match request {
                    None => Ok(None),
                    Some(request) => {
                        let response = renew(&state, &coordinator, request.id).await?;
                        Ok(Some((response, (state, coordinator, requests))))
                    }
                }
            },
        );
        Ok(Response::new(Box::pin(renewals)))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<PbLeaseTimeToLiveRequest>,
    ) -> Result<Response<PbLeaseTimeToLiveResponse>, Status> {
        let coordinator = self.0.coordinator_for(&request);
        let answer = AnswerBudget::of(&request)?;
        let request = request.into_inner();
        let mut response = PbLeaseTimeToLiveResponse {
            id: request.id,
            ttl: -1,
            ..PbLeaseTimeToLiveResponse::default()
        };
        match coordinator
            .serve_time_to_live(request.id, request.keys)
            .await
        {
            Ok(lease) => {
                response.ttl = to_seconds(lease.remaining);
                response.granted_ttl = to_seconds(lease.granted);
                let bytes = lease.keys.iter().map(Bytes::len).sum();
                answer.reserve(bytes).await?;
                response.keys = lease.keys.iter().map(|key| key.to_vec()).collect();
            }
            Err(Error::LeaseNotFound { .. } | Error::InvalidLeaseId { .. }) => {}
            Err(err) => return Err(err.into()),
        }
        response.header = Some(self.0.header_now());
        Ok(Response::new(response))
    }

    async fn lease_leases(
        &self,
        request: Request<PbLeaseLeasesRequest>,
    ) -> Result<Response<PbLeaseLeasesResponse>, Status> {
        let answer = AnswerBudget::of(&request)?;
        let leases = self.0.coordinator_for(&request).serve_leases().await?;
        answer.reserve(leases.len() * LEASE_BYTES).await?;
        Ok(Response::new(PbLeaseLeasesResponse {
            header: Some(self.0.header_now()),
            leases: leases.into_iter().map(|id| PbLeaseStatus { id }).collect(),
        }))
    }
}

/// Returns the process that sent the request, if it is on this machine and connected without an
/// intermediary.
fn find_holder<T>(request: &Request<T>) -> Option<Process> {
    let Peer { pid, .. } = request.extensions().get()?;
    let user_agent = request.metadata().get("user-agent")?.to_str().ok()?;
    Process::from_peer((*pid)?, user_agent)
}

async fn renew(
    state: &State,
    coordinator: &Coordinator,
    id: i64,
) -> Result<PbLeaseKeepAliveResponse, Status> {
    // Read first: a lease must not seem to be renewed at a revision at which it no longer existed.
    let header = state.header_now();
    let ttl = match coordinator.keep_alive(id).await {
        Ok(ttl) => to_seconds(ttl),
        Err(Error::LeaseNotFound { .. } | Error::InvalidLeaseId { .. }) => 0,
        Err(err) => return Err(err.into()),
    };
    Ok(PbLeaseKeepAliveResponse {
        header: Some(header),
        id,
        ttl,
    })
}
