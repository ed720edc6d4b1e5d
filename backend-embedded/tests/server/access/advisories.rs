//! A case for each way in which another server of this API has let the wrong ones in. What was not
//! asked at all there (CVE-2026-33413) is in `methods`; what belongs to TLS is with it.

use std::time::Duration;

use backend_embedded::machine::op::Put;
use backend_embedded::server::Security;
use etcd_client::proto::{
    PbCompare, PbLeaseGrantRequest, PbLeaseGrantResponse, PbLeaseTimeToLiveRequest,
    PbLeaseTimeToLiveResponse, PbPutRequest, PbPutResponse, PbRangeRequest, PbTargetUnion,
    PbTxnOpRequest, PbTxnRequest, PbTxnRequestOp, PbTxnResponse,
};
use etcd_client::{Client, ConnectOptions, WatchOptions};
use tonic::Code;
use tonic::transport::Channel;

use super::wire::{ask, log_in, log_in_with};
use super::{Files, PASSWORD};
use crate::support::{Served, soon};

const PUT: &str = "/etcdserverpb.KV/Put";
const TXN: &str = "/etcdserverpb.KV/Txn";
const GRANT: &str = "/etcdserverpb.Lease/LeaseGrant";
const TIME_TO_LIVE: &str = "/etcdserverpb.Lease/LeaseTimeToLive";

struct Bob {
    served: Served,
    channel: Channel,
    token: String,
}

impl Bob {
    /// Serves a store with a key of alice on a lease of hers, and logs bob in.
    async fn new(files: &Files) -> Self {
        let served = files.serve();
        let ttl = Duration::from_secs(3600);
        served
            .coordinator
            .grant(ALICES, ttl)
            .await
            .expect("granted");
        let put = Put {
            key: "a/key".into(),
            value: Some("xyzzy".into()),
            lease: Some(ALICES),
            prev_kv: false,
        };
        served.coordinator.put(put).await.expect("written");
        let channel = served.channel().await;
        let token = log_in(&channel, "bob").await;
        Bob {
            served,
            channel,
            token,
        }
    }

    async fn put(&self, put: PbPutRequest) -> Result<PbPutResponse, tonic::Status> {
        ask(&self.channel, PUT, Some(&self.token), put).await
    }

    async fn txn(&self, txn: PbTxnRequest) -> Result<PbTxnResponse, tonic::Status> {
        ask(&self.channel, TXN, Some(&self.token), txn).await
    }

    async fn stop(self) {
        drop(self.channel);
        self.served.stop().await;
    }
}

const ALICES: i64 = 77;

fn put(key: &str) -> PbPutRequest {
    PbPutRequest {
        key: key.into(),
        ..PbPutRequest::default()
    }
}

fn op(request: PbTxnOpRequest) -> PbTxnRequestOp {
    PbTxnRequestOp {
        request: Some(request),
    }
}

fn assert_denied<T: std::fmt::Debug>(result: Result<T, tonic::Status>, what: &str) {
    let status = result.expect_err(what);
    assert_eq!(status.code(), Code::PermissionDenied, "{what}: {status}");
    assert!(
        !format!("{status:?}").contains("xyzzy"),
        "{what}: {status:?}"
    );
}

/// CVE-2026-33343.
#[tokio::test]
async fn a_nested_transaction_is_decided_on_at_every_depth_and_in_both_branches() {
    let files = Files::new();
    let bob = Bob::new(&files).await;
    let reads_alice = PbTxnOpRequest::RequestRange(PbRangeRequest {
        key: "a/key".into(),
        ..PbRangeRequest::default()
    });
    let compares_alice = PbTxnOpRequest::RequestTxn(PbTxnRequest {
        compare: vec![PbCompare {
            key: "a/key".into(),
            target: 3,
            target_union: Some(PbTargetUnion::Value("guess".into())),
            ..PbCompare::default()
        }],
        ..PbTxnRequest::default()
    });
    let writes_alice = PbTxnOpRequest::RequestPut(put("a/key"));
    for (what, hidden) in [
        ("a read", reads_alice),
        ("a comparison", compares_alice),
        ("a write", writes_alice),
    ] {
        let mut hidden = op(hidden);
        for depth in 1..=3 {
            for success in [true, false] {
                let mut txn = PbTxnRequest::default();
                match success {
                    true => txn.success = vec![hidden.clone()],
                    false => txn.failure = vec![hidden.clone()],
                }
                assert_denied(bob.txn(txn).await, &format!("{what}, {depth}, {success}"));
            }
            hidden = op(PbTxnOpRequest::RequestTxn(PbTxnRequest {
                success: vec![op(PbTxnOpRequest::RequestPut(put("b/key")))],
                failure: vec![hidden],
                ..PbTxnRequest::default()
            }));
        }
    }
    assert_eq!(
        bob.served.coordinator.status().keys,
        1,
        "nothing was written"
    );
    bob.stop().await;
}

/// CVE-2026-44283.
#[tokio::test]
async fn the_lease_and_the_previous_value_of_a_put_are_decided_on() {
    let files = Files::new();
    let bob = Bob::new(&files).await;
    let previous = PbPutRequest {
        prev_kv: true,
        ..put("a/key")
    };
    let attached = PbPutRequest {
        lease: ALICES,
        ..put("b/key")
    };
    for (what, put) in [("prev_kv", previous), ("a lease of another", attached)] {
        let txn = PbTxnRequest {
            success: vec![op(PbTxnOpRequest::RequestPut(put.clone()))],
            ..PbTxnRequest::default()
        };
        assert_denied(bob.txn(txn).await, what);
        assert_denied(bob.put(put).await, what);
    }
    // With a lease and a key of his own, both are his to ask for.
    let grant = PbLeaseGrantRequest { id: 0, ttl: 60 };
    let granted: PbLeaseGrantResponse = ask(&bob.channel, GRANT, Some(&bob.token), grant)
        .await
        .expect("granted");
    let own = PbPutRequest {
        lease: granted.id,
        prev_kv: true,
        ..put("b/key")
    };
    bob.put(own).await.expect("it is his own");
    bob.stop().await;
}

/// A lease without keys cannot be judged by them.
#[tokio::test]
async fn a_lease_without_keys_belongs_to_whom_it_was_granted_to() {
    let files = Files::new();
    let bob = Bob::new(&files).await;
    let alice = log_in(&bob.channel, "alice").await;
    let grant = PbLeaseGrantRequest { id: 0, ttl: 60 };
    let granted: PbLeaseGrantResponse = ask(&bob.channel, GRANT, Some(&alice), grant)
        .await
        .expect("granted");
    let attached = PbPutRequest {
        lease: granted.id,
        ..put("b/key")
    };
    assert_denied(bob.put(attached).await, "a lease of another");
    let times = PbLeaseTimeToLiveRequest {
        id: granted.id,
        keys: false,
    };
    let shown: Result<PbLeaseTimeToLiveResponse, _> =
        ask(&bob.channel, TIME_TO_LIVE, Some(&bob.token), times).await;
    assert_denied(shown, "its times");
    let shown: PbLeaseTimeToLiveResponse = ask(&bob.channel, TIME_TO_LIVE, Some(&alice), times)
        .await
        .expect("it is hers");
    assert!(shown.ttl > 0, "{shown:?}");
    bob.stop().await;
}

/// CVE-2023-32082.
#[tokio::test]
async fn the_times_of_a_lease_tell_no_key_of_another() {
    let files = Files::new();
    let bob = Bob::new(&files).await;
    for keys in [true, false] {
        let request = PbLeaseTimeToLiveRequest { id: ALICES, keys };
        let shown: Result<PbLeaseTimeToLiveResponse, _> =
            ask(&bob.channel, TIME_TO_LIVE, Some(&bob.token), request).await;
        assert_denied(shown, "a lease of another");
    }
    bob.stop().await;
}

/// CVE-2026-73499.
#[tokio::test]
async fn a_watch_from_an_own_key_on_does_not_go_on_to_those_of_others() {
    let files = Files::new();
    let served = files.serve();
    let user = ConnectOptions::new().with_user("alice", PASSWORD);
    let mut alice = Client::connect([served.endpoint()], Some(user))
        .await
        .expect("she is let in");
    for (key, options) in [
        ("a/key", WatchOptions::new().with_from_key()),
        ("a/key", WatchOptions::new().with_range("b/key")),
        ("a/key", WatchOptions::new().with_range("a0\0")),
        ("", WatchOptions::new().with_all_keys()),
        ("a", WatchOptions::new().with_prefix()),
    ] {
        let opened = soon("a watch", alice.watch(key, Some(options.clone()))).await;
        let mut answers = match opened {
            Ok(answers) => answers,
            // This client makes an error of a watch that is refused at once.
            Err(error) => {
                assert!(error.to_string().contains("permission denied"), "{error}");
                continue;
            }
        };
        let answer = soon("an answer", answers.message()).await;
        let answer = answer.expect("the stream goes on").expect("an answer");
        assert!(answer.canceled(), "{key}: {options:?}");
        assert!(answer.cancel_reason().contains("permission denied"));
    }
    let prefix = WatchOptions::new().with_prefix();
    let mut own = alice.watch("a/", Some(prefix)).await.expect("allowed");
    alice.put("a/key", "1", None).await.expect("written");
    let answer = soon("an event", async {
        loop {
            let answer = own.message().await.expect("open").expect("goes on");
            if !answer.events().is_empty() {
                return answer;
            }
        }
    });
    assert_eq!(answer.await.events().len(), 1);
    drop((own, alice));
    served.stop().await;
}

/// CVE-2021-28235, and the audit of 2020.
#[tokio::test]
async fn no_answer_says_whether_there_is_a_user_or_how_far_a_password_is_right() {
    let files = Files::new();
    let served = files.serve();
    let channel = served.channel().await;
    let mut answers = Vec::new();
    for (user, password) in [
        ("alice", "the password of nobody"),
        ("alice", ""),
        ("mallory", PASSWORD),
        ("", ""),
        ("alice\0", PASSWORD),
    ] {
        let status = log_in_with(&channel, user, password).await.expect_err(user);
        assert_eq!(status.code(), Code::InvalidArgument);
        answers.push(status.message().to_owned());
    }
    answers.dedup();
    let text = "etcdserver: authentication failed, invalid user ID or password";
    assert_eq!(answers, [text]);
    log_in(&channel, "alice").await;
    drop(channel);
    served.stop().await;
}

#[tokio::test]
async fn nothing_that_is_kept_shows_a_password_or_a_token() {
    let files = Files::new();
    let folder = crate::support::private_folder();
    let security = Security::default().with_access(files.access.clone());
    let served = Served::durable_with(folder.path(), security);
    let channel = served.channel().await;
    let token = log_in(&channel, "alice").await;
    ask::<PbPutResponse>(&channel, PUT, Some(&token), put("a/key"))
        .await
        .expect("written");
    drop(channel);
    let shown = format!("{:?}", files.access);
    served.stop().await;
    let secret = |bytes: &[u8]| {
        let found = |secret: &str| {
            let secret = secret.as_bytes();
            bytes.windows(secret.len()).any(|part| part == secret)
        };
        found(PASSWORD) || found(&token)
    };
    assert!(!secret(shown.as_bytes()), "{shown}");
    let mut files_seen = 0;
    for entry in std::fs::read_dir(folder.path()).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_file() {
            files_seen += 1;
            let content = std::fs::read(&path).expect("readable");
            assert!(!secret(&content), "{}", path.display());
        }
    }
    assert!(files_seen > 0, "the journal and the store");
    assert!(!secret(
        &std::fs::read(files.path("users")).expect("readable")
    ));
}
