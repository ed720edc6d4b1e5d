//! `grpc.health.v1.Health`: whether writes are taken, for load balancers and `grpc_health_probe`.

use std::pin::Pin;
use std::time::Duration;

use futures_util::{Stream, stream};
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus as Serving;
use tonic_health::pb::health_server::Health as HealthService;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use super::state::Shared;

/// The services that a client may ask about. The empty name stands for the server.
const SERVICES: [&str; 9] = [
    "",
    "etcdserverpb.KV",
    "etcdserverpb.Watch",
    "etcdserverpb.Lease",
    "etcdserverpb.Cluster",
    "etcdserverpb.Maintenance",
    "etcdserverpb.Auth",
    "v3lockpb.Lock",
    "v3electionpb.Election",
];

/// How often a watch looks.
const INTERVAL: Duration = Duration::from_secs(1);

/// The health service.
pub(super) struct Health(pub(super) Shared);

type Watched = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

#[tonic::async_trait]
impl HealthService for Health {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        if !SERVICES.contains(&request.get_ref().service.as_str()) {
            return Err(Status::not_found("service not registered"));
        }
        Ok(Response::new(to_response(look(&self.0))))
    }

    type WatchStream = Watched;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Watched>, Status> {
        let is_known = SERVICES.contains(&request.get_ref().service.as_str());
        let watching = (self.0.clone(), None);
        let stream = stream::try_unfold(watching, move |(state, told)| async move {
            loop {
                let now = match is_known {
                    true => look(&state),
                    false => Serving::ServiceUnknown,
                };
                if told != Some(now) {
                    return Ok(Some((to_response(now), (state, Some(now)))));
                }
                // A client is told that the server drains before its stream ends.
                let drains = state.lifecycle.is_draining();
                tokio::select! {
                    () = tokio::time::sleep(INTERVAL) => {}
                    () = state.lifecycle.wait_for_draining(), if !drains => {}
                    () = state.lifecycle.wait_for_ending(), if drains => {
                        return Err(state.stop_status());
                    }
                }
            }
        });
        Ok(Response::new(Box::pin(stream)))
    }
}

fn look(state: &Shared) -> Serving {
    match state.coordinator.check_ready() {
        Ok(()) if !state.lifecycle.is_draining() => Serving::Serving,
        _ => Serving::NotServing,
    }
}

fn to_response(status: Serving) -> HealthCheckResponse {
    HealthCheckResponse {
        status: i32::from(status),
    }
}
