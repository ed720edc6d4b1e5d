//! `etcdserverpb.Maintenance`: what `etcdctl endpoint`, `alarm list`, `defrag` and `snapshot save`
//! request.

use etcd_client::proto::{
    PbAlarmMember, PbAlarmRequest, PbAlarmResponse, PbDefragmentRequest, PbDefragmentResponse,
    PbDowngradeRequest, PbDowngradeResponse, PbHashKvRequest, PbHashKvResponse, PbHashRequest,
    PbHashResponse, PbMaintenanceService, PbMoveLeaderRequest, PbMoveLeaderResponse,
    PbSnapshotRequest, PbStatusRequest, PbStatusResponse,
};
use tonic::{Request, Response, Status};

use super::bodies::AnswerBudget;
use super::decode;
use super::encode::to_i64;
use super::snapshot::{self, SnapshotStream};
use super::state::{RAFT_TERM, Shared};
use super::status;
use super::unimplemented::unimplemented;
use crate::snapshot::{hash_all, hash_keys};

/// The etcd version whose API is served, with our own version as build metadata.
pub(super) const VERSION: &str = concat!("3.5.0+turnlock.", env!("CARGO_PKG_VERSION"));

/// `AlarmRequest.AlarmAction.GET`.
const ALARM_GET: i32 = 0;

/// `AlarmRequest.AlarmAction.DEACTIVATE`.
const ALARM_DEACTIVATE: i32 = 2;

/// `AlarmType.NOSPACE`.
const NO_SPACE: i32 = 1;

/// The maintenance service.
pub(super) struct Maintenance(pub(super) Shared);

#[tonic::async_trait]
impl PbMaintenanceService for Maintenance {
    async fn alarm(
        &self,
        request: Request<PbAlarmRequest>,
    ) -> Result<Response<PbAlarmResponse>, Status> {
        let request = request.into_inner();
        let is_full = self.0.coordinator.is_full();
        let alarm = PbAlarmMember {
            member_id: self.0.member_id(),
            alarm: NO_SPACE,
        };
        let alarms = match request.action {
            ALARM_GET => is_full.then_some(alarm),
            // What is not there is ended. Clients ask for it after they have made room.
            ALARM_DEACTIVATE if !is_full || request.alarm != NO_SPACE => None,
            ALARM_DEACTIVATE => return Err(Status::failed_precondition(status::STILL_FULL)),
            _ => return Err(unimplemented()),
        };
        Ok(Response::new(PbAlarmResponse {
            header: Some(self.0.header_now()),
            alarms: alarms.into_iter().collect(),
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
            db_size_quota: to_i64(self.0.coordinator.limits().store_bytes),
            leader: self.0.member_id(),
            // There is no raft log. The revision rises with every change, as a raft index would.
            raft_index: status.revision,
            raft_applied_index: status.revision,
            raft_term: RAFT_TERM,
            errors: self.0.warnings.clone(),
            ..PbStatusResponse::default()
        }))
    }

    /// Does nothing: free pages are used again, and to move the others would keep writes waiting.
    async fn defragment(
        &self,
        _: Request<PbDefragmentRequest>,
    ) -> Result<Response<PbDefragmentResponse>, Status> {
        // As in etcd, without a header.
        Ok(Response::new(PbDefragmentResponse { header: None }))
    }

    async fn hash(
        &self,
        request: Request<PbHashRequest>,
    ) -> Result<Response<PbHashResponse>, Status> {
        let coordinator = self.0.coordinator_for(&request);
        let _hashing = self.0.hashing.lock().await;
        let state = coordinator.copy(0).await?;
        let header = self.0.header(state.revision);
        Ok(Response::new(PbHashResponse {
            header: Some(header),
            hash: coordinator.run_heavy(move || hash_all(&state)).await?,
        }))
    }

    async fn hash_kv(
        &self,
        request: Request<PbHashKvRequest>,
    ) -> Result<Response<PbHashKvResponse>, Status> {
        let coordinator = self.0.coordinator_for(&request);
        let at = decode::to_u64(request.into_inner().revision);
        let _hashing = self.0.hashing.lock().await;
        let state = coordinator.copy(at).await?;
        let (revision, compact_revision) = (state.revision, state.compact_revision);
        let hash = coordinator.run_heavy(move || hash_keys(&state)).await?;
        Ok(Response::new(PbHashKvResponse {
            header: Some(self.0.header_now()),
            hash,
            compact_revision: to_i64(compact_revision),
            hash_revision: to_i64(revision),
        }))
    }

    type SnapshotStream = SnapshotStream;

    async fn snapshot(
        &self,
        request: Request<PbSnapshotRequest>,
    ) -> Result<Response<Self::SnapshotStream>, Status> {
        let coordinator = self.0.coordinator_for(&request);
        let answer = AnswerBudget::of(&request)?;
        let pieces = snapshot::open(&self.0, coordinator, answer).await?;
        Ok(Response::new(pieces))
    }

    async fn move_leader(
        &self,
        request: Request<PbMoveLeaderRequest>,
    ) -> Result<Response<PbMoveLeaderResponse>, Status> {
        // The only member always leads. As in etcd, a move to the leader is done without a header.
        match request.into_inner().target_id == self.0.member_id() {
            true => Ok(Response::new(PbMoveLeaderResponse { header: None })),
            false => Err(Status::failed_precondition(status::BAD_TRANSFEREE)),
        }
    }

    async fn downgrade(
        &self,
        _: Request<PbDowngradeRequest>,
    ) -> Result<Response<PbDowngradeResponse>, Status> {
        Err(unimplemented())
    }
}
