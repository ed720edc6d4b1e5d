//! One request, its response, and the parts of the response that must agree.

use etcd_client::proto::{
    PbCompactionRequest, PbCompactionResponse, PbDeleteRequest, PbDeleteResponse, PbKeyValue,
    PbLeaseGrantRequest, PbLeaseGrantResponse, PbLeaseLeasesRequest, PbLeaseLeasesResponse,
    PbLeaseRevokeRequest, PbLeaseRevokeResponse, PbLeaseTimeToLiveRequest,
    PbLeaseTimeToLiveResponse, PbPutRequest, PbPutResponse, PbRangeRequest, PbRangeResponse,
    PbResponseHeader, PbTxnOpRequest, PbTxnOpResponse, PbTxnRequest, PbTxnResponse,
};
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::support::call;

/// A request.
#[derive(Debug, Clone)]
pub enum Ask {
    Range(PbRangeRequest),
    Put(PbPutRequest),
    Delete(PbDeleteRequest),
    Txn(PbTxnRequest),
    Compact(PbCompactionRequest),
    Grant(PbLeaseGrantRequest),
    Revoke(PbLeaseRevokeRequest),
    TimeToLive(PbLeaseTimeToLiveRequest),
    Leases,
}

/// A response, without the parts that may differ.
#[derive(Debug, PartialEq)]
pub enum Answer {
    Range(PbRangeResponse),
    Put(PbPutResponse),
    Delete(PbDeleteResponse),
    Txn(PbTxnResponse),
    Compact(PbCompactionResponse),
    Grant(PbLeaseGrantResponse),
    Revoke(PbLeaseRevokeResponse),
    TimeToLive(PbLeaseTimeToLiveResponse),
    Leases(PbLeaseLeasesResponse),
}

impl Answer {
    /// Returns the store's revision according to the header.
    pub fn revision(&self) -> i64 {
        let header = match self {
            Self::Range(answer) => &answer.header,
            Self::Put(answer) => &answer.header,
            Self::Delete(answer) => &answer.header,
            Self::Txn(answer) => &answer.header,
            Self::Compact(answer) => &answer.header,
            Self::Grant(answer) => &answer.header,
            Self::Revoke(answer) => &answer.header,
            Self::TimeToLive(answer) => &answer.header,
            Self::Leases(answer) => &answer.header,
        };
        header.as_ref().expect("a header").revision
    }
}

/// A response, or the code and the text of a refusal.
pub type Answered = Result<Answer, (Code, String)>;

/// Sends a request to a server, and returns the parts of the response that must agree.
pub async fn ask(channel: &Channel, ask: &Ask) -> Answered {
    let answer = raw(channel, ask).await;
    answer.map_err(|status| (status.code(), status.message().to_owned()))
}

async fn raw(channel: &Channel, ask: &Ask) -> Result<Answer, Status> {
    Ok(match ask.clone() {
        Ask::Range(request) => {
            let answer: PbRangeResponse =
                call(channel, "/etcdserverpb.KV/Range", request.clone()).await?;
            Answer::Range(comparable_range(&request, answer))
        }
        Ask::Put(request) => {
            let mut answer: PbPutResponse = call(channel, "/etcdserverpb.KV/Put", request).await?;
            anonymous(&mut answer.header);
            Answer::Put(answer)
        }
        Ask::Delete(request) => {
            let path = "/etcdserverpb.KV/DeleteRange";
            let mut answer: PbDeleteResponse = call(channel, path, request).await?;
            anonymous(&mut answer.header);
            Answer::Delete(answer)
        }
        Ask::Txn(request) => {
            let path = "/etcdserverpb.KV/Txn";
            let answer: PbTxnResponse = call(channel, path, request.clone()).await?;
            Answer::Txn(comparable_txn(&request, answer))
        }
        Ask::Compact(request) => {
            let path = "/etcdserverpb.KV/Compact";
            let mut answer: PbCompactionResponse = call(channel, path, request).await?;
            anonymous(&mut answer.header);
            Answer::Compact(answer)
        }
        Ask::Grant(request) => {
            let path = "/etcdserverpb.Lease/LeaseGrant";
            let mut answer: PbLeaseGrantResponse = call(channel, path, request).await?;
            anonymous(&mut answer.header);
            Answer::Grant(answer)
        }
        Ask::Revoke(request) => {
            let path = "/etcdserverpb.Lease/LeaseRevoke";
            let mut answer: PbLeaseRevokeResponse = call(channel, path, request).await?;
            anonymous(&mut answer.header);
            Answer::Revoke(answer)
        }
        Ask::TimeToLive(request) => {
            let path = "/etcdserverpb.Lease/LeaseTimeToLive";
            let mut answer: PbLeaseTimeToLiveResponse = call(channel, path, request).await?;
            anonymous(&mut answer.header);
            // Time passes between the two requests.
            answer.ttl = answer.ttl.signum();
            answer.keys.sort();
            Answer::TimeToLive(answer)
        }
        Ask::Leases => {
            let path = "/etcdserverpb.Lease/LeaseLeases";
            let request = PbLeaseLeasesRequest::default();
            let mut answer: PbLeaseLeasesResponse = call(channel, path, request).await?;
            anonymous(&mut answer.header);
            answer.leases.sort_by_key(|lease| lease.id);
            Answer::Leases(answer)
        }
    })
}

/// Removes everything but the revision from a header.
fn anonymous(header: &mut Option<PbResponseHeader>) {
    if let Some(header) = header {
        *header = PbResponseHeader {
            revision: header.revision,
            ..PbResponseHeader::default()
        };
    }
}

fn comparable_txn(request: &PbTxnRequest, mut answer: PbTxnResponse) -> PbTxnResponse {
    anonymous(&mut answer.header);
    let branch = if answer.succeeded {
        &request.success
    } else {
        &request.failure
    };
    for (request, answer) in branch.iter().zip(&mut answer.responses) {
        let response = match (&request.request, answer.response.take()) {
            (
                Some(PbTxnOpRequest::RequestRange(request)),
                Some(PbTxnOpResponse::ResponseRange(answer)),
            ) => Some(PbTxnOpResponse::ResponseRange(comparable_range(
                request, answer,
            ))),
            (
                Some(PbTxnOpRequest::RequestTxn(request)),
                Some(PbTxnOpResponse::ResponseTxn(answer)),
            ) => Some(PbTxnOpResponse::ResponseTxn(comparable_txn(
                request, answer,
            ))),
            (_, other) => other,
        };
        answer.response = response;
    }
    answer
}

/// Makes a range comparable. etcd sorts unstably: keys that are equal by the sort target come in
/// any order, and a limit takes any of them.
fn comparable_range(request: &PbRangeRequest, mut answer: PbRangeResponse) -> PbRangeResponse {
    anonymous(&mut answer.header);
    let by = |kv: &PbKeyValue| -> Vec<u8> {
        match request.sort_target {
            1 => kv.version.to_be_bytes().to_vec(),
            2 => kv.create_revision.to_be_bytes().to_vec(),
            3 => kv.mod_revision.to_be_bytes().to_vec(),
            4 => kv.value.clone(),
            _ => kv.key.clone(),
        }
    };
    let kvs = &mut answer.kvs;
    let mut start = 0;
    while start < kvs.len() {
        let this = by(&kvs[start]);
        let same = kvs[start..].iter().take_while(|kv| by(kv) == this).count();
        let end = start + same;
        if end == kvs.len() && answer.more && request.sort_target != 0 {
            for kv in &mut kvs[start..] {
                *kv = PbKeyValue {
                    key: this.clone(),
                    ..PbKeyValue::default()
                };
            }
        } else {
            kvs[start..end].sort_by(|a, b| a.key.cmp(&b.key));
        }
        start = end;
    }
    answer
}
