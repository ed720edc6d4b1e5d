//! Every method of the protos: without credentials, with wrong ones, with those of another tenant,
//! and with the right ones.

use std::collections::BTreeSet;
use std::time::Duration;

use backend_embedded::machine::op::{Op, Put, Txn};
use etcd_client::proto::{
    PbAlarmRequest, PbCompactionRequest, PbDeleteRequest, PbLeaderKey, PbLeaseGrantRequest,
    PbLeaseKeepAliveRequest, PbLeaseLeasesResponse, PbLeaseRevokeRequest, PbLeaseTimeToLiveRequest,
    PbPutRequest, PbRangeRequest, PbTxnOpRequest, PbTxnRequest, PbTxnRequestOp, PbWatchRequest,
    PbWatchResponse,
};
use prost::Message;
use testkit::etcd_protos;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::Files;
use super::wire::{log_in, send};
use crate::support::Served;

/// In every key and every value of the tenant that is attacked.
const MARK: &str = "xyzzy";

/// What the other tenant gets for a request on the keys of this one.
enum Outcome {
    /// "Permission denied"; the tenant itself gets an answer.
    Denied,
    /// "Permission denied", for the tenant itself too: only an admin may do it.
    Admin,
    /// An answer that says nothing of any tenant.
    Open,
    /// An answer in which the tenant's leases are left out.
    Filtered,
    /// A watch that is cancelled at once.
    Cancelled,
    /// "Not implemented".
    Missing,
    /// A token, for a user with its password.
    Token,
}

/// Returns a request on the keys of tenant a, and what tenant b gets for it. A method that is not
/// listed here makes the test fail.
fn attack(method: &str, leader: &PbLeaderKey) -> (Vec<u8>, Outcome) {
    let key = || format!("a/{MARK}").into_bytes();
    let named = |name: &str| field_1(name.as_bytes());
    match method {
        "/etcdserverpb.KV/Range" => (range(key()).encode_to_vec(), Outcome::Denied),
        "/etcdserverpb.KV/RangeStream" => (range(key()).encode_to_vec(), Outcome::Missing),
        "/etcdserverpb.KV/Put" => {
            let put = PbPutRequest {
                key: key(),
                prev_kv: true,
                ..PbPutRequest::default()
            };
            (put.encode_to_vec(), Outcome::Denied)
        }
        "/etcdserverpb.KV/DeleteRange" => {
            let delete = PbDeleteRequest {
                key: key(),
                prev_kv: true,
                ..PbDeleteRequest::default()
            };
            (delete.encode_to_vec(), Outcome::Denied)
        }
        "/etcdserverpb.KV/Txn" => {
            let txn = PbTxnRequest {
                success: vec![PbTxnRequestOp {
                    request: Some(PbTxnOpRequest::RequestRange(range(key()))),
                }],
                ..PbTxnRequest::default()
            };
            (txn.encode_to_vec(), Outcome::Denied)
        }
        "/etcdserverpb.KV/Compact" => {
            let compact = PbCompactionRequest {
                revision: 2,
                physical: false,
            };
            (compact.encode_to_vec(), Outcome::Admin)
        }
        "/etcdserverpb.Watch/Watch" => (watch(&key()), Outcome::Cancelled),
        // Everybody who may take locks somewhere may have a lease.
        "/etcdserverpb.Lease/LeaseGrant" => {
            let grant = PbLeaseGrantRequest { id: 0, ttl: 60 };
            (grant.encode_to_vec(), Outcome::Open)
        }
        "/etcdserverpb.Lease/LeaseRevoke" => {
            let revoke = PbLeaseRevokeRequest { id: LEASE };
            (revoke.encode_to_vec(), Outcome::Denied)
        }
        "/etcdserverpb.Lease/LeaseKeepAlive" => {
            let renew = PbLeaseKeepAliveRequest { id: LEASE };
            (renew.encode_to_vec(), Outcome::Denied)
        }
        "/etcdserverpb.Lease/LeaseTimeToLive" => {
            let ask = PbLeaseTimeToLiveRequest {
                id: LEASE,
                keys: true,
            };
            (ask.encode_to_vec(), Outcome::Denied)
        }
        "/etcdserverpb.Lease/LeaseLeases" => (Vec::new(), Outcome::Filtered),
        "/v3lockpb.Lock/Lock" => (named(&format!("a/{MARK}-lock")), Outcome::Denied),
        "/v3lockpb.Lock/Unlock" => (named(&format!("a/{MARK}")), Outcome::Denied),
        "/v3electionpb.Election/Campaign" => (named(&format!("a/{MARK}-lock")), Outcome::Denied),
        "/v3electionpb.Election/Leader" | "/v3electionpb.Election/Observe" => {
            (named(&format!("a/{MARK}-election")), Outcome::Denied)
        }
        "/v3electionpb.Election/Proclaim" | "/v3electionpb.Election/Resign" => {
            // The leader is field 1 of both.
            (field_1(&leader.encode_to_vec()), Outcome::Denied)
        }
        "/etcdserverpb.Cluster/MemberList"
        | "/etcdserverpb.Maintenance/Status"
        | "/etcdserverpb.Auth/AuthStatus" => (Vec::new(), Outcome::Open),
        "/etcdserverpb.Maintenance/Alarm" => {
            (PbAlarmRequest::default().encode_to_vec(), Outcome::Admin)
        }
        "/etcdserverpb.Auth/Authenticate" => (Vec::new(), Outcome::Token),
        "/etcdserverpb.Cluster/MemberAdd"
        | "/etcdserverpb.Cluster/MemberRemove"
        | "/etcdserverpb.Cluster/MemberUpdate"
        | "/etcdserverpb.Cluster/MemberPromote"
        | "/etcdserverpb.Maintenance/Defragment"
        | "/etcdserverpb.Maintenance/Hash"
        | "/etcdserverpb.Maintenance/HashKV"
        | "/etcdserverpb.Maintenance/Snapshot"
        | "/etcdserverpb.Maintenance/MoveLeader"
        | "/etcdserverpb.Maintenance/Downgrade"
        | "/etcdserverpb.Auth/AuthEnable"
        | "/etcdserverpb.Auth/AuthDisable"
        | "/etcdserverpb.Auth/UserAdd"
        | "/etcdserverpb.Auth/UserGet"
        | "/etcdserverpb.Auth/UserList"
        | "/etcdserverpb.Auth/UserDelete"
        | "/etcdserverpb.Auth/UserChangePassword"
        | "/etcdserverpb.Auth/UserGrantRole"
        | "/etcdserverpb.Auth/UserRevokeRole"
        | "/etcdserverpb.Auth/RoleAdd"
        | "/etcdserverpb.Auth/RoleGet"
        | "/etcdserverpb.Auth/RoleList"
        | "/etcdserverpb.Auth/RoleDelete"
        | "/etcdserverpb.Auth/RoleGrantPermission"
        | "/etcdserverpb.Auth/RoleRevokePermission" => (Vec::new(), Outcome::Admin),
        other => panic!("a new method: decide who may call {other}, and list it here"),
    }
}

/// The lease of tenant a, with a key.
const LEASE: i64 = 0x7755_3311_2244;

fn range(key: Vec<u8>) -> PbRangeRequest {
    PbRangeRequest {
        key,
        ..PbRangeRequest::default()
    }
}

/// Returns the request for a watch of all that there was of one key.
fn watch(key: &[u8]) -> Vec<u8> {
    // `create_request` is field 1, in which `key` is field 1 and `start_revision` is field 3.
    let create = [&field_1(key)[..], &[0x18, 0x02]].concat();
    let request = field_1(&create);
    PbWatchRequest::decode(request.as_slice()).expect("a request");
    request
}

/// Returns a message whose field 1 is this.
fn field_1(content: &[u8]) -> Vec<u8> {
    let length = u8::try_from(content.len()).expect("short");
    [&[0x0a, length], content].concat()
}

/// Writes what tenant a has: a key on a lease, and an election with a leader.
async fn fill(served: &Served) -> PbLeaderKey {
    let coordinator = &served.coordinator;
    let ttl = Duration::from_secs(3600);
    coordinator.grant(LEASE, ttl).await.expect("granted");
    let election = format!("a/{MARK}-election");
    let key = format!("{election}/1");
    let put = |key: &str| {
        Op::Put(Put {
            key: key.as_bytes().to_vec().into(),
            value: Some(MARK.into()),
            lease: Some(LEASE),
            prev_kv: false,
        })
    };
    let txn = Txn {
        then: vec![put(&format!("a/{MARK}")), put(&key)],
        ..Txn::default()
    };
    let done = coordinator.txn(txn).await.expect("written");
    PbLeaderKey {
        name: election.into_bytes(),
        key: key.into_bytes(),
        rev: i64::try_from(done.revision).expect("small"),
        lease: LEASE,
    }
}

/// Checks that nothing of tenant a is in an answer.
fn assert_silent(answer: &Result<Vec<u8>, Status>, what: &str) {
    let text = match answer {
        Ok(answer) => String::from_utf8_lossy(answer).into_owned(),
        Err(status) => format!("{status:?}"),
    };
    assert!(!text.contains(MARK), "{what}: {text}");
    assert!(!text.contains(&format!("{LEASE:x}")), "{what}: {text}");
    assert!(!text.contains(&LEASE.to_string()), "{what}: {text}");
}

fn code(answer: &Result<Vec<u8>, Status>) -> Option<Code> {
    answer.as_ref().err().map(Status::code)
}

/// Returns the paths of all methods.
fn read_methods() -> Vec<String> {
    let methods = etcd_protos::methods(&etcd_protos::read_descriptors());
    methods.iter().map(etcd_protos::path).collect()
}

struct Attack<'a> {
    channel: &'a Channel,
    method: &'a str,
    body: Vec<u8>,
}

impl Attack<'_> {
    async fn send(&self, token: Option<&str>) -> Result<Vec<u8>, Status> {
        send(self.channel, self.method, token, self.body.clone()).await
    }
}

#[tokio::test]
async fn no_method_of_the_protos_serves_the_wrong_ones_or_tells_them_anything() {
    let files = Files::new();
    let first = files.serve();
    let channel = first.channel().await;
    let [alice, bob] = [
        log_in(&channel, "alice").await,
        log_in(&channel, "bob").await,
    ];
    first.stop().await;
    let methods = read_methods();
    let distinct: BTreeSet<_> = methods.iter().collect();
    assert!(
        distinct.len() == methods.len() && methods.len() > 40,
        "{methods:?}"
    );
    for method in &methods {
        let served = files.serve();
        let leader = fill(&served).await;
        let before = served.coordinator.status();
        let (body, outcome) = attack(method, &leader);
        let channel = served.channel().await;
        let attack = Attack {
            channel: &channel,
            method,
            body,
        };

        let refused = match outcome {
            Outcome::Token => Code::InvalidArgument,
            _ => Code::Unauthenticated,
        };
        for token in [None, Some(""), Some("wrong"), Some("0000000000000000.7")] {
            let answer = attack.send(token).await;
            assert_eq!(code(&answer), Some(refused), "{method} with {token:?}");
            assert_silent(&answer, method);
        }

        let answer = attack.send(Some(&bob)).await;
        assert_silent(&answer, method);
        let expected = match outcome {
            Outcome::Denied | Outcome::Admin => Some(Code::PermissionDenied),
            Outcome::Missing => Some(Code::Unimplemented),
            Outcome::Token => Some(Code::InvalidArgument),
            Outcome::Open | Outcome::Filtered | Outcome::Cancelled => None,
        };
        assert_eq!(
            code(&answer),
            expected,
            "{method} of another tenant: {answer:?}"
        );
        if let Some(Code::PermissionDenied) = expected {
            let text = answer.as_ref().map_err(Status::message);
            assert_eq!(text.expect_err("denied"), "etcdserver: permission denied");
        }
        match (&outcome, answer) {
            (Outcome::Filtered, Ok(answer)) => {
                let leases = PbLeaseLeasesResponse::decode(answer.as_slice()).expect("leases");
                assert!(leases.leases.is_empty(), "{leases:?}");
            }
            (Outcome::Cancelled, Ok(answer)) => {
                let answer = PbWatchResponse::decode(answer.as_slice()).expect("an answer");
                assert!(answer.created && answer.canceled, "{answer:?}");
                let reason =
                    "rpc error: code = PermissionDenied desc = etcdserver: permission denied";
                assert_eq!(answer.cancel_reason, reason);
            }
            _ => {}
        }
        let after = served.coordinator.status();
        assert_eq!(
            before.revision, after.revision,
            "{method} changed something"
        );
        let info = served.coordinator.time_to_live(LEASE, true).await;
        assert_eq!(info.expect("it is there").keys.len(), 2, "{method}");

        // The same request is good, if it comes from the right one.
        let answer = attack.send(Some(&alice)).await;
        let expected = match outcome {
            Outcome::Admin => Some(Code::PermissionDenied),
            Outcome::Missing => Some(Code::Unimplemented),
            Outcome::Token => Some(Code::InvalidArgument),
            _ => None,
        };
        assert_eq!(
            code(&answer),
            expected,
            "{method} of its tenant: {answer:?}"
        );
        served.stop().await;
    }
}

#[tokio::test]
async fn what_only_an_admin_may_do_an_admin_can_do() {
    let files = Files::new();
    let served = files.serve();
    let leader = fill(&served).await;
    let channel = served.channel().await;
    let root = log_in(&channel, "root").await;
    for method in read_methods() {
        let (body, outcome) = attack(&method, &leader);
        if !matches!(outcome, Outcome::Admin) {
            continue;
        }
        let answer = send(&channel, &method, Some(&root), body).await;
        let done = [
            "/etcdserverpb.KV/Compact",
            "/etcdserverpb.Maintenance/Alarm",
            "/etcdserverpb.Maintenance/Defragment",
            "/etcdserverpb.Maintenance/Hash",
            "/etcdserverpb.Maintenance/HashKV",
            "/etcdserverpb.Maintenance/Snapshot",
        ];
        let expected = match method.as_str() {
            method if done.contains(&method) => None,
            // To a member that there is not.
            "/etcdserverpb.Maintenance/MoveLeader" => Some(Code::FailedPrecondition),
            _ => Some(Code::Unimplemented),
        };
        assert_eq!(code(&answer), expected, "{method}: {answer:?}");
        if method.starts_with("/etcdserverpb.Auth/") {
            let text = answer.expect_err("not implemented").message().to_owned();
            assert!(text.contains("--rules"), "{text}");
        }
    }
    served.stop().await;
}
