//! `v3lockpb.Lock`.

use etcd_client::proto::{PbLockResponse, PbUnlockResponse};
use tonic::{Request, Response, Status};

use super::decode;
use super::proto::{LockRequest, UnlockRequest};
use super::queue;
use super::state::Shared;

/// The lock service.
pub(super) struct Lock(pub(super) Shared);

#[tonic::async_trait]
impl super::proto::Lock for Lock {
    async fn lock(
        &self,
        request: Request<LockRequest>,
    ) -> Result<Response<PbLockResponse>, Status> {
        let coordinator = self.0.coordinator_for(&request);
        let LockRequest { name, lease } = request.into_inner();
        let queue_key = queue::acquire(&self.0, coordinator, name, lease, None).await?;
        Ok(Response::new(PbLockResponse {
            header: Some(self.0.header(queue_key.revision)),
            key: queue_key.key.to_vec(),
        }))
    }

    async fn unlock(
        &self,
        request: Request<UnlockRequest>,
    ) -> Result<Response<PbUnlockResponse>, Status> {
        let coordinator = self.0.coordinator_for(&request);
        let delete = decode::delete_key(request.into_inner().key)?;
        let done = coordinator.serve_delete(delete).await?;
        Ok(Response::new(PbUnlockResponse {
            header: Some(self.0.header(done.revision)),
        }))
    }
}
