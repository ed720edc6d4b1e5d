//! Hashes, alarms, compaction, and reads of the past.

use backend_embedded::Limits;
use backend_embedded::machine::op::{Delete, KeyRange, Put};
use etcd_client::GetOptions;
use etcd_client::proto::{PbHashKvRequest, PbHashKvResponse, PbHashRequest, PbHashResponse};
use tonic::Code;
use tonic::transport::Channel;

use crate::etcdctl::Etcdctl;
use crate::support::{Served, call, refusal};

fn put(key: &str, value: &str) -> Put {
    Put {
        key: key.as_bytes().to_vec().into(),
        value: Some(value.as_bytes().to_vec().into()),
        lease: Some(0),
        prev_kv: false,
    }
}

async fn hash_kv(channel: &Channel, revision: i64) -> Result<PbHashKvResponse, tonic::Status> {
    let request = PbHashKvRequest { revision };
    call(channel, "/etcdserverpb.Maintenance/HashKV", request).await
}

async fn hash(channel: &Channel) -> u32 {
    let path = "/etcdserverpb.Maintenance/Hash";
    let answer = call::<_, PbHashResponse>(channel, path, PbHashRequest {}).await;
    answer.expect("a hash").hash
}

/// What the test of compaction of the crate `etcd-client` does.
#[tokio::test]
async fn the_last_revisions_are_read_until_they_are_compacted() {
    let served = Served::start();
    let mut client = served.client().await;
    let mut revisions = Vec::new();
    for value in ["0", "1", "2"] {
        let put = client.put("compact", value, None).await.expect("put");
        revisions.push(put.header().expect("a header").revision());
    }
    let at = |revision| Some(GetOptions::new().with_revision(revision));
    for (value, revision) in ["0", "1", "2"].iter().zip(&revisions) {
        let found = client.get("compact", at(*revision)).await.expect("known");
        assert_eq!(found.kvs()[0].value(), value.as_bytes());
    }
    client.compact(revisions[1], None).await.expect("compacted");
    let gone = client.get("compact", at(revisions[0])).await;
    let text = "etcdserver: mvcc: required revision has been compacted";
    assert_eq!(refusal(gone), (Code::OutOfRange, text.to_owned()));
    let found = client
        .get("compact", at(revisions[1]))
        .await
        .expect("known");
    assert_eq!(found.kvs()[0].value(), b"1");
    let future = client.get("compact", at(revisions[2] + 1)).await;
    let text = "etcdserver: mvcc: required revision is a future revision";
    assert_eq!(refusal(future), (Code::OutOfRange, text.to_owned()));
    served.stop().await;
}

#[tokio::test]
async fn a_hash_is_that_of_the_keys_at_a_revision() {
    let served = Served::start();
    let channel = served.channel().await;
    let coordinator = &served.coordinator;
    let empty = hash_kv(&channel, 0).await.expect("a hash").hash;
    let first = coordinator.put(put("a", "1")).await.expect("put").revision;
    let first = i64::try_from(first).expect("small");
    let one = hash_kv(&channel, 0).await.expect("a hash");
    assert_ne!(one.hash, empty);
    assert_eq!(one.hash_revision, first);
    coordinator.put(put("b", "2")).await.expect("put");
    assert_ne!(hash_kv(&channel, 0).await.expect("a hash").hash, one.hash);
    let then = hash_kv(&channel, first).await.expect("a hash");
    assert_eq!((then.hash, then.hash_revision), (one.hash, first));
    assert_eq!(then.header.expect("a header").revision, first + 1);
    let status = hash_kv(&channel, first + 2).await.expect_err("to come");
    assert_eq!(status.code(), Code::OutOfRange, "{status}");
    coordinator.compact(3).await.expect("compacted");
    let status = hash_kv(&channel, first).await.expect_err("gone");
    assert_eq!(status.code(), Code::OutOfRange, "{status}");
    let compacted = hash_kv(&channel, 0).await.expect("a hash");
    assert_eq!(compacted.compact_revision, 3);

    // That of everything has the leases, too.
    let before = hash(&channel).await;
    assert_eq!(hash(&channel).await, before);
    let ttl = std::time::Duration::from_secs(60);
    coordinator.grant(7, ttl).await.expect("granted");
    assert_ne!(hash(&channel).await, before);
    let after = hash_kv(&channel, 0).await.expect("a hash").hash;
    assert_eq!(after, compacted.hash);
    drop(channel);
    served.stop().await;
}

#[tokio::test]
async fn an_alarm_says_that_there_is_no_room() {
    let limits = Limits::default().with_store_bytes(100);
    let served = Served::with(limits, |server| server);
    let etcdctl = Etcdctl::new(&served);
    assert_eq!(etcdctl.run(&["alarm", "list"]).await, "");
    let full = put("k", &"v".repeat(99));
    served.coordinator.put(full).await.expect("it fits");
    let member = served.coordinator.status().member_id;
    let alarm = etcdctl.run(&["alarm", "list"]).await;
    assert_eq!(alarm, format!("memberID:{member} alarm:NOSPACE \n"));
    let error = etcdctl.fail(&["put", "more", ""]).await;
    assert!(error.contains("database space exceeded"), "{error}");
    let error = etcdctl.fail(&["alarm", "disarm"]).await;
    assert!(error.contains("still full"), "{error}");
    let all = Delete {
        keys: KeyRange::all(),
        prev_kv: false,
    };
    served.coordinator.delete(all).await.expect("deleted");
    assert_eq!(etcdctl.run(&["alarm", "list"]).await, "");
    assert_eq!(etcdctl.run(&["alarm", "disarm"]).await, "");
    let said = etcdctl.run(&["defrag"]).await;
    assert!(said.starts_with("Finished defragmenting"), "{said}");
    served.stop().await;
}
