//! `etcdserverpb.Maintenance`: what `etcdctl endpoint status` and `endpoint health` request.

use etcd_client::proto::{
    PbAlarmRequest, PbAlarmResponse, PbDefragmentRequest, PbDefragmentResponse, PbDowngradeRequest,
    PbDowngradeResponse, PbHashKvRequest, PbHashKvResponse, PbHashRequest, PbHashResponse,
    PbMaintenanceService, PbMoveLeaderRequest, PbMoveLeaderResponse, PbSnapshotRequest,
    PbSnapshotResponse, PbStatusRequest, PbStatusResponse,
};
use futures_util::stream;
use tonic::{Request, Response, Status};

use super::encode::to_i64;
use super::state::{RAFT_TERM, Shared};
use super::unimplemented::unimplemented;

/// The etcd version whose API is served, with our own version as build metadata.
const VERSION: &str = concat!("3.5.0+turnlock.", env!("CARGO_PKG_VERSION"));

/// `AlarmRequest.AlarmAction.GET`.
const ALARM_GET: i32 = 0;

/// The maintenance service.
pub(super) struct Maintenance(pub(super) Shared);

#[tonic::async_trait]
impl PbMaintenanceService for Maintenance {
    async fn alarm(
        &self,
        request: Request<PbAlarmRequest>,
    ) -> Result<Response<PbAlarmResponse>, Status> {
        if request.into_inner().action != ALARM_GET {
            return Err(unimplemented());
        }
        Ok(Response::new(PbAlarmResponse {
            header: Some(self.0.header_now()),
            alarms: Vec::new(),
        }))
    }

    async fn status(
        &self,
        _: Request<PbStatusRequest>,
    ) -> Result<Response<PbStatusResponse>, Status> {
        let status = self.0.coordinator.status();
        Ok(Response::new(PbStatusResponse {
            header: Some(self.0.header(status.revision)),
            version: VERSION.to_owned(),
            db_size: to_i64(status.db_size),
            db_size_in_use: to_i64(status.db_size_in_use),
            leader: self.0.member_id(),
            // There is no raft log. The revision rises with every change, as a raft index would.
            raft_index: status.revision,
            raft_applied_index: status.revision,
            raft_term: RAFT_TERM,
            errors: self.0.warnings.clone(),
            ..PbStatusResponse::default()
        }))
    }

    async fn defragment(
        &self,
        _: Request<PbDefragmentRequest>,
    ) -> Result<Response<PbDefragmentResponse>, Status> {
        Err(unimplemented())
    }

    async fn hash(&self, _: Request<PbHashRequest>) -> Result<Response<PbHashResponse>, Status> {
        Err(unimplemented())
    }

    async fn hash_kv(
        &self,
        _: Request<PbHashKvRequest>,
    ) -> Result<Response<PbHashKvResponse>, Status> {
        Err(unimplemented())
    }

    type SnapshotStream = stream::Empty<Result<PbSnapshotResponse, Status>>;

    async fn snapshot(
        &self,
        _: Request<PbSnapshotRequest>,
    ) -> Result<Response<Self::SnapshotStream>, Status> {
        Err(unimplemented())
    }

    async fn move_leader(
        &self,
        _: Request<PbMoveLeaderRequest>,
    ) -> Result<Response<PbMoveLeaderResponse>, Status> {
        Err(unimplemented())
    }

    async fn downgrade(
        &self,
        _: Request<PbDowngradeRequest>,
    ) -> Result<Response<PbDowngradeResponse>, Status> {
        Err(unimplemented())
    }
}
