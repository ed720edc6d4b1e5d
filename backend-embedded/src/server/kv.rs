//! `etcdserverpb.KV`.

use std::sync::Arc;

use etcd_client::proto::{
    PbCompactionRequest, PbCompactionResponse, PbDeleteRequest, PbDeleteResponse, PbKvService,
    PbPutRequest, PbPutResponse, PbRangeRequest, PbRangeResponse, PbRangeStreamResponse,
    PbTxnRequest, PbTxnResponse,
};
use futures_util::stream;
use prost::Message;
use tonic::{Request, Response, Status};

use super::bodies::AnswerBudget;
use super::state::Shared;
use super::{decode, encode, status, unimplemented};
use crate::config::MAX_REQUEST_BYTES;
use crate::machine::op::Op;

/// The key-value service.
pub(super) struct Kv(pub(super) Shared);

/// Fails if a write is too large. As in etcd, only writes are limited: what is to be stored must
/// fit.
fn check_size(request: &impl Message) -> Result<(), Status> {
    if request.encoded_len() > MAX_REQUEST_BYTES {
        return Err(Status::invalid_argument(status::REQUEST_TOO_LARGE));
    }
    Ok(())
}

#[tonic::async_trait]
impl PbKvService for Kv {
    async fn range(
        &self,
        request: Request<PbRangeRequest>,
    ) -> Result<Response<PbRangeResponse>, Status> {
        let coordinator = self.0.coordinator_for(&request);
        let answer = AnswerBudget::of(&request)?;
        let range = decode::range(request.into_inner())?;
        let found = coordinator.serve_range(range).await?;
        answer.reserve(encode::bytes_of(&found.result.kvs)).await?;
        let header = self.0.header(found.revision);
        Ok(Response::new(encode::range(Some(header), &found.result)))
    }

    type RangeStreamStream = stream::Empty<Result<PbRangeStreamResponse, Status>>;

    async fn range_stream(
        &self,
        _: Request<PbRangeRequest>,
    ) -> Result<Response<Self::RangeStreamStream>, Status> {
        Err(unimplemented::unimplemented())
    }

    async fn put(&self, request: Request<PbPutRequest>) -> Result<Response<PbPutResponse>, Status> {
        let coordinator = self.0.coordinator_for(&request);
        let answer = AnswerBudget::of(&request)?;
        let request = request.into_inner();
        let size = check_size(&request);
        let put = decode::put(request)?;
        size?;
        let putting = coordinator.put(put);
        let done = self.0.commit_wait.wait_for(putting).await?;
        let bytes = encode::bytes_of(&done.result);
        answer.reserve_for_done(bytes).await?;
        let header = self.0.header(done.revision);
        Ok(Response::new(encode::put(
            Some(header),
            done.result.as_deref(),
        )))
    }

    async fn delete_range(
        &self,
        request: Request<PbDeleteRequest>,
    ) -> Result<Response<PbDeleteResponse>, Status> {
        let coordinator = self.0.coordinator_for(&request);
        let answer = AnswerBudget::of(&request)?;
        let request = request.into_inner();
        let size = check_size(&request);
        let delete = decode::delete(request)?;
        size?;
        let deleting = coordinator.serve_delete(delete);
        let done = self.0.commit_wait.wait_for(deleting).await?;
        let header = self.0.header(done.revision);
        let (deleted, prev_kvs): (u64, Vec<Arc<_>>) = done.result;
        answer.reserve_for_done(encode::bytes_of(&prev_kvs)).await?;
        Ok(Response::new(encode::delete(
            Some(header),
            deleted,
            &prev_kvs,
        )))
    }

    async fn txn(&self, request: Request<PbTxnRequest>) -> Result<Response<PbTxnResponse>, Status> {
        let coordinator = self.0.coordinator_for(&request);
        let room = AnswerBudget::of(&request)?;
        let request = request.into_inner();
        let size = check_size(&request);
        let txn = decode::txn(request)?;
        size?;
        // One message of a client may carry the transactions of several callers.
        let callers = txn.then.iter().filter(|op| matches!(op, Op::Txn(_)));
        let callers = callers.count().max(1);
        let answer = coordinator.serve_txn(txn);
        let done = self.0.commit_wait.wait_for_callers(callers, answer).await?;
        let bytes = encode::bytes_of_txn(&done.result);
        room.reserve_for_done(bytes).await?;
        let header = self.0.header(done.revision);
        Ok(Response::new(encode::txn(header, &done.result)))
    }

    async fn compact(
        &self,
        request: Request<PbCompactionRequest>,
    ) -> Result<Response<PbCompactionResponse>, Status> {
        // `physical` asks to wait until the space is free, which it is when this returns.
        let coordinator = self.0.coordinator_for(&request);
        let revision = decode::to_u64(request.into_inner().revision);
        let revision = coordinator.compact(revision).await?;
        Ok(Response::new(PbCompactionResponse {
            header: Some(self.0.header(revision)),
        }))
    }
}
