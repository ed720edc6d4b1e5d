//! `v3electionpb.Election`.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use etcd_client::proto::{
    PbCampaignResponse, PbLeaderKey, PbLeaderResponse, PbProclaimResponse, PbResignResponse,
};
use futures_util::{Stream, stream};
use tonic::{Request, Response, Status};

use super::bodies::AnswerBudget;
use super::decode::to_u64;
use super::encode::{self, to_i64};
use super::proto::{CampaignRequest, LeaderRequest, ProclaimRequest, ResignRequest};
use super::queue;
use super::state::Shared;
use crate::coordinator::{Applied, Coordinator, Watcher};
use crate::error::Error;
use crate::machine::op::{Delete, KeyRange, KeyValue, Op, Put, Txn};

/// The election service.
pub(super) struct Election(pub(super) Shared);

/// Returns the status for an election without a leader. etcd reports it as a plain error, for which
/// gRPC sends `UNKNOWN`.
fn no_leader() -> Status {
    Status::unknown("election: no leader")
}

fn not_leader() -> Status {
    Status::unknown("election: not leader")
}

fn require_leader(leader: Option<PbLeaderKey>) -> Result<PbLeaderKey, Status> {
    leader.ok_or_else(|| Status::unknown("\"leader\" field must be provided"))
}

/// Makes a transaction that does `op` if `leader` is still the leader or in the queue.
fn txn_if_unchanged(leader: &PbLeaderKey, op: Op) -> Txn {
    let key = Bytes::from(leader.key.clone());
    Txn {
        compare: vec![queue::compare_create_revision(key, to_u64(leader.rev))],
        then: vec![op],
        or_else: vec![],
    }
}

#[tonic::async_trait]
impl super::proto::Election for Election {
    async fn campaign(
        &self,
        request: Request<CampaignRequest>,
    ) -> Result<Response<PbCampaignResponse>, Status> {
        let coordinator = self.0.coordinator_for(&request);
        let CampaignRequest { name, lease, value } = request.into_inner();
        let value = Some(value.into());
        let queue_key = queue::acquire(&self.0, coordinator, name.clone(), lease, value).await?;
        Ok(Response::new(PbCampaignResponse {
            header: Some(self.0.header(queue_key.revision)),
            leader: Some(PbLeaderKey {
                name,
                key: queue_key.key.to_vec(),
                rev: to_i64(queue_key.create_revision),
                lease: queue_key.lease,
            }),
        }))
    }

    async fn proclaim(
        &self,
        request: Request<ProclaimRequest>,
    ) -> Result<Response<PbProclaimResponse>, Status> {
        let coordinator = self.0.coordinator_for(&request);
        let ProclaimRequest { leader, value } = request.into_inner();
        let leader = require_leader(leader)?;
        // No key was ever created at such a revision, not even one that does not exist.
        if leader.rev < 0 {
            return Err(not_leader());
        }
        let put = Op::Put(Put {
            key: leader.key.clone().into(),
            value: Some(value.into()),
            lease: Some(leader.lease),
            prev_kv: false,
        });
        let done = coordinator
            .serve_txn(txn_if_unchanged(&leader, put))
            .await?;
        if !done.result.succeeded {
            return Err(not_leader());
        }
        Ok(Response::new(PbProclaimResponse {
            header: Some(self.0.header(done.revision)),
        }))
    }

    async fn leader(
        &self,
        request: Request<LeaderRequest>,
    ) -> Result<Response<PbLeaderResponse>, Status> {
        let coordinator = self.0.coordinator_for(&request);
        let answer = AnswerBudget::of(&request)?;
        let found = queue::read_head(&coordinator, &request.into_inner().name).await?;
        let leader = found.result.ok_or_else(no_leader)?;
        answer.reserve(leader.size()).await?;
        Ok(Response::new(PbLeaderResponse {
            header: Some(self.0.header(found.revision)),
            kv: Some(encode::key_value(&leader)),
        }))
    }

    type ObserveStream = Pin<Box<dyn Stream<Item = Result<PbLeaderResponse, Status>> + Send>>;

    async fn observe(
        &self,
        request: Request<LeaderRequest>,
    ) -> Result<Response<Self::ObserveStream>, Status> {
        let observer = Observer {
            shared: Arc::clone(&self.0),
            coordinator: self.0.coordinator_for(&request),
            answer: AnswerBudget::of(&request)?,
            name: request.into_inner().name,
            leader: None,
        };
        let proclamations = stream::try_unfold(observer, |mut observer| async move {
            let shared = Arc::clone(&observer.shared);
            let proclaimed = tokio::select! {
                proclaimed = observer.next() => proclaimed?,
                () = shared.lifecycle.wait_for_ending() => return Err(shared.stop_status()),
            };
            Ok(Some((proclaimed, observer)))
        });
        Ok(Response::new(Box::pin(proclamations)))
    }

    async fn resign(
        &self,
        request: Request<ResignRequest>,
    ) -> Result<Response<PbResignResponse>, Status> {
        let coordinator = self.0.coordinator_for(&request);
        let leader = require_leader(request.into_inner().leader)?;
        let delete = Op::Delete(Delete {
            keys: KeyRange::One(leader.key.clone().into()),
            prev_kv: false,
        });
        let done = coordinator
            .serve_txn(txn_if_unchanged(&leader, delete))
            .await?;
        Ok(Response::new(PbResignResponse {
            header: Some(self.0.header(done.revision)),
        }))
    }
}

/// Follows the leaders of an election. As in etcd, a leader that existed only between two reads may
/// be left out. The latest one never is.
struct Observer {
    shared: Shared,
    coordinator: Coordinator,
    name: Vec<u8>,
    /// The watch of the present leader's key, from the last reported revision on.
    leader: Option<Watcher>,
    /// The room for what the client has not taken yet.
    answer: AnswerBudget,
}

impl Observer {
    /// Waits for the next leader or proclamation, and for room to report it.
    async fn next(&mut self) -> Result<PbLeaderResponse, Status> {
        let Applied { revision, result } = self.find_next().await?;
        self.answer.reserve_for_done(result.size()).await?;
        Ok(PbLeaderResponse {
            header: Some(self.shared.header(revision)),
            kv: Some(encode::key_value(&result)),
        })
    }

    async fn find_next(&mut self) -> Result<Applied<Arc<KeyValue>>, Error> {
        loop {
            match &mut self.leader {
                Some(leader) => match leader.next().await {
                    Ok(batch) => match batch.events.last() {
                        Some(event) if !event.deleted => {
                            return Ok(Applied {
                                revision: batch.revision,
                                result: Arc::clone(&event.kv),
                            });
                        }
                        _ => self.leader = None,
                    },
                    Err(Error::SlowWatcher { .. }) => self.leader = None,
                    Err(err) => return Err(err),
                },
                None => {
                    if let Some(found) = self.read_leader().await? {
                        return Ok(found);
                    }
                }
            }
        }
    }

    /// Reads the present leader; `None` if there may be another one by now.
    async fn read_leader(&mut self) -> Result<Option<Applied<Arc<KeyValue>>>, Error> {
        let coordinator = &self.coordinator;
        // First the watch, then the read: a leader that comes in between wakes the watch.
        let mut candidates = coordinator.watch(queue::to_key_range(&self.name), None)?;
        let found = queue::read_head(coordinator, &self.name).await?;
        let Some(leader) = found.result else {
            return match candidates.next().await {
                Ok(_) | Err(Error::SlowWatcher { .. }) => Ok(None),
                Err(err) => Err(err),
            };
        };
        let keys = KeyRange::One(leader.key.clone());
        match coordinator.watch(keys, Some(found.revision + 1)) {
            Ok(watcher) => self.leader = Some(watcher),
            Err(Error::Compacted { .. }) => return Ok(None),
            Err(err) => return Err(err),
        }
        Ok(Some(Applied {
            revision: found.revision,
            result: leader,
        }))
    }
}
