//! Clients that want to harm `turnlock serve`: the server's memory stays bounded, a holder keeps its
//! lock, and honest users are served meanwhile.

mod attacker;
mod scene;
#[path = "../support/mod.rs"]
mod support;

use std::time::Duration;

use bytes::Bytes;
use etcd_client::proto::{
    PbCompare, PbDeleteRequest, PbLeaseGrantRequest, PbPutRequest, PbRangeRequest, PbTxnOpRequest,
    PbTxnRequest, PbWatchRequest, PbWatchRequestUnion,
};
use futures_util::future::join_all;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use self::attacker::{Attacker, announced, framed, head, status};
use self::scene::Scene;

/// The window that clients have by default.
const WINDOW: u32 = 65_535;

/// gRPC's numbers of statuses.
const OK: &str = "0";
const DEADLINE_EXCEEDED: &str = "4";
const RESOURCE_EXHAUSTED: &str = "8";

fn put(key: &str, value: usize) -> PbPutRequest {
    PbPutRequest {
        key: key.into(),
        value: vec![b'v'; value],
        ..PbPutRequest::default()
    }
}

fn all_keys() -> PbRangeRequest {
    PbRangeRequest {
        key: vec![0],
        range_end: vec![0],
        ..PbRangeRequest::default()
    }
}

fn txn(success: Vec<PbTxnOpRequest>) -> PbTxnRequest {
    let op = |request| etcd_client::proto::PbTxnRequestOp {
        request: Some(request),
    };
    PbTxnRequest {
        success: success.into_iter().map(op).collect(),
        ..PbTxnRequest::default()
    }
}

/// Fills the store with this many keys.
async fn fill(attacker: &Attacker, keys: usize, value: usize) {
    let numbers: Vec<usize> = (0..keys).collect();
    for numbers in numbers.chunks(100) {
        let puts = numbers
            .iter()
            .map(|number| PbTxnOpRequest::RequestPut(put(&format!("k{number}"), value)));
        let request = txn(puts.collect());
        let answer = attacker.ask("KV/Txn", &request).await.expect("a call");
        assert_eq!(status(answer).await.as_deref(), Some(OK));
    }
}

/// Counts the calls that ended with each status.
async fn statuses(answers: Vec<h2::client::ResponseFuture>, wanted: &str) -> usize {
    let ended = join_all(answers.into_iter().map(status)).await;
    ended
        .iter()
        .flatten()
        .filter(|status| *status == wanted)
        .count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn messages_are_announced_and_not_sent() {
    let scene = Scene::begin();
    let mut attackers = Vec::new();
    let mut calls = Vec::new();
    for _ in 0..4 {
        let attacker = Attacker::connect(scene.address(), WINDOW).await;
        for _ in 0..1_000 {
            if let Some(mut call) = attacker.call("KV/Put").await {
                call.stream
                    .send_data(announced(2 << 20), false)
                    .expect("open");
                calls.push(call);
            }
        }
        attackers.push(attacker);
    }
    let begun = calls.len();
    assert!(begun > 3_000, "{begun} calls got through");
    let (answers, streams): (Vec<_>, Vec<_>) = calls
        .into_iter()
        .map(|call| (call.answer, call.stream))
        .unzip();
    let late = statuses(answers, DEADLINE_EXCEEDED).await;
    assert_eq!(late, begun, "each is ended");
    drop(streams);
    scene.end(0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn messages_are_sent_and_not_ended() {
    let scene = Scene::begin();
    let mut held = Vec::new();
    let mut answers = Vec::new();
    let begun = [announced(1536 << 10), Bytes::from(vec![b'm'; 60_000])].concat();
    for _ in 0..40 {
        let attacker = Attacker::connect(scene.address(), WINDOW).await;
        for _ in 0..100 {
            if let Some(mut call) = attacker.call("KV/Put").await {
                call.stream
                    .send_data(begun.clone().into(), false)
                    .expect("open");
                held.push(call.stream);
                answers.push(call.answer);
            }
        }
        held.extend(
            attacker
                .call("Lease/LeaseKeepAlive")
                .await
                .map(|call| call.stream),
        );
    }
    let all = answers.len();
    let refused = statuses(answers, RESOURCE_EXHAUSTED).await;
    assert!(refused > 0 && refused < all, "{refused} of {all}");
    drop(held);
    scene.end(0);
}

/// Returns the request for a watch of one key, or of the keys up to another one.
fn watch(key: &str, range_end: &str, start_revision: i64) -> PbWatchRequest {
    let mut union = PbWatchRequestUnion::CreateRequest(Default::default());
    if let PbWatchRequestUnion::CreateRequest(create) = &mut union {
        create.key = key.into();
        create.range_end = range_end.into();
        create.start_revision = start_revision;
    }
    PbWatchRequest {
        request_union: Some(union),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn watches_of_a_long_past_are_not_read() {
    let scene = Scene::begin();
    let writer = Attacker::connect(scene.address(), WINDOW).await;
    let first = writer
        .ask("KV/Put", &put("past", 100))
        .await
        .expect("a call");
    let first = revision(first).await;
    let again = put("past", 100);
    for _ in 0..100 {
        let answers = (0..90).map(|_| writer.ask("KV/Put", &again));
        let answers = join_all(answers).await.into_iter().flatten().collect();
        assert_eq!(statuses(answers, OK).await, 90);
    }
    let attacker = Attacker::connect(scene.address(), 1).await;
    let mut held = Vec::new();
    for _ in 0..50 {
        let mut call = attacker.call("Watch/Watch").await.expect("a call");
        for _ in 0..100 {
            call.stream
                .send_data(framed(&watch("past", "", first)), false)
                .expect("open");
        }
        held.push(call);
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    drop(held);
    scene.end(0);
}

/// Returns the revision in the header of an answer to a put.
async fn revision(answer: h2::client::ResponseFuture) -> i64 {
    use prost::Message;
    let (mut body, _) = head(answer).await.expect("an answer");
    let piece = body.data().await.expect("a message").expect("no error");
    let answer = etcd_client::proto::PbPutResponse::decode(&piece[5..]).expect("an answer");
    answer.header.expect("a header").revision
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn many_watches_of_a_key_end_together() {
    let scene = Scene::begin();
    for create in [watch("one", "", 0), watch("a", "zz", 0)] {
        let attacker = Attacker::connect(scene.address(), 1 << 20).await;
        let mut call = attacker.call("Watch/Watch").await.expect("a call");
        let (mut body, _) = {
            call.stream.send_data(framed(&create), false).expect("open");
            head(call.answer).await.expect("an answer")
        };
        for _ in 0..50 {
            let many: Vec<u8> = std::iter::repeat_n(framed(&create), 1_000)
                .flatten()
                .collect();
            call.stream.send_data(many.into(), false).expect("open");
            // A client that does not read would have its connection ended.
            let taken = async {
                let mut bytes = 0;
                while bytes < 1_000 {
                    let piece = body.data().await.expect("open").expect("no error");
                    bytes += piece.len();
                    body.flow_control()
                        .release_capacity(piece.len())
                        .expect("taken");
                }
            };
            taken.await;
        }
        drop((body, call.stream, attacker));
    }
    scene.end(0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn answers_are_not_taken() {
    const STORE: u64 = 48 << 20;
    let scene = Scene::begin();
    let attacker = Attacker::connect(scene.address(), WINDOW).await;
    fill(&attacker, 4_800, 10 << 10).await;
    let mut held = Vec::new();
    for _ in 0..40 {
        held.push(attacker.ask("KV/Range", &all_keys()).await.expect("a call"));
    }
    let mut heads = Vec::new();
    let mut refused = 0;
    for answer in join_all(held.into_iter().map(head))
        .await
        .into_iter()
        .flatten()
    {
        refused += usize::from(answer.1.as_deref() == Some(RESOURCE_EXHAUSTED));
        heads.push(answer);
    }
    assert!(refused > 30, "{refused} of 40");
    drop((heads, attacker));
    scene.end(STORE);
}

/// The attacker answers the server's pings, so its connection looks alive.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn who_takes_no_answers_does_not_keep_others_from_theirs() {
    const STORE: u64 = 32 << 20;
    let scene = Scene::begin();
    let attacker = Attacker::connect(scene.address(), WINDOW).await;
    fill(&attacker, 3_200, 10 << 10).await;
    let mut held = Vec::new();
    for _ in 0..4 {
        let answer = attacker.ask("KV/Range", &all_keys()).await.expect("a call");
        held.push(head(answer).await.expect("an answer"));
    }
    let honest = Attacker::connect(scene.address(), 1 << 20).await;
    let mut tries = 0;
    loop {
        let answer = honest.ask("KV/Range", &all_keys()).await.expect("a call");
        match status(answer).await.as_deref() {
            Some(OK) if tries > 0 => break,
            Some(RESOURCE_EXHAUSTED) => tries += 1,
            other => panic!("{other:?}"),
        }
        assert!(tries < 20, "the attacker is not cut off");
    }
    drop((held, attacker));
    scene.end(STORE);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn transactions_look_at_everything_again_and_again() {
    let scene = Scene::begin();
    let attacker = Attacker::connect(scene.address(), 1 << 20).await;
    fill(&attacker, 20_000, 10).await;
    let range = PbTxnOpRequest::RequestRange(all_keys());
    // A prefix that ends in no slash is counted key by key.
    let count = PbTxnOpRequest::RequestRange(PbRangeRequest {
        key: vec![b'k'],
        range_end: vec![b'l'],
        count_only: true,
        ..PbRangeRequest::default()
    });
    let nested = |op: PbTxnOpRequest| {
        let inner = txn(vec![op; 40]);
        txn(vec![PbTxnOpRequest::RequestTxn(inner); 40])
    };
    let compared = PbTxnRequest {
        compare: vec![
            PbCompare {
                key: vec![0],
                range_end: vec![0],
                // The versions are greater than 0.
                result: 1,
                ..PbCompare::default()
            };
            128
        ],
        ..PbTxnRequest::default()
    };
    let requests = [nested(range), nested(count), compared];
    let mut answers = Vec::new();
    for _ in 0..10 {
        for request in &requests {
            answers.push(attacker.ask("KV/Txn", request).await.expect("a call"));
        }
    }
    let all = answers.len();
    assert_eq!(statuses(answers, RESOURCE_EXHAUSTED).await, all);
    // What is allowed is done, again and again.
    let all_keys = all_keys();
    for _ in 0..4 {
        let answers = (0..20).map(|_| attacker.ask("KV/Range", &all_keys));
        let answers = join_all(answers).await.into_iter().flatten().collect();
        assert_eq!(statuses(answers, OK).await, 20);
    }
    let delete = PbDeleteRequest {
        key: vec![b'k'],
        range_end: vec![b'l'],
        ..PbDeleteRequest::default()
    };
    let deleted = attacker
        .ask("KV/DeleteRange", &delete)
        .await
        .expect("a call");
    assert_eq!(status(deleted).await.as_deref(), Some(OK));
    scene.end(0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_lease_is_loaded_with_keys() {
    let scene = Scene::begin();
    let attacker = Attacker::connect(scene.address(), WINDOW).await;
    let grant = PbLeaseGrantRequest { ttl: 2, id: 77 };
    let granted = attacker
        .ask("Lease/LeaseGrant", &grant)
        .await
        .expect("a call");
    assert_eq!(status(granted).await.as_deref(), Some(OK));
    for batch in 0..100 {
        let puts = (0..100).map(|number| {
            PbTxnOpRequest::RequestPut(PbPutRequest {
                lease: 77,
                ..put(&format!("leased/{batch}/{number}"), 0)
            })
        });
        let answer = attacker
            .ask("KV/Txn", &txn(puts.collect()))
            .await
            .expect("a call");
        assert!(status(answer).await.is_some());
    }
    scene.end(0);
}

/// Each connection answers the server's pings, so it looks alive.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn idle_connections_give_way_to_those_in_use() {
    const PLACES: usize = 4_096;
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, raised).expect("up to its maximum");
    let enough = limit.maximum.is_none_or(|most| most > PLACES as u64 + 500);
    assert!(
        enough,
        "this test needs 4,600 descriptors: raise ulimit -Hn"
    );
    let scene = Scene::begin();
    let mut held = Vec::new();
    for _ in 0..PLACES + 200 {
        held.push(Attacker::connect(scene.address(), WINDOW).await);
    }
    scene.end(0);
}
