//! Clients that want to harm `turnlock serve`: the server's memory stays bounded, a holder keeps its
//! lock, and honest users are served meanwhile.
//!
//! With `TURNLOCK_ATTACK_SECONDS`, each attack is ten times as large, and comes again and again for
//! that long.

mod attacker;
mod random;
mod scene;
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeMap;

use bytes::Bytes;
use etcd_client::proto::{
    PbCompare, PbDeleteRequest, PbLeaseGrantRequest, PbLeaseRevokeRequest, PbPutRequest,
    PbRangeRequest, PbSnapshotRequest, PbTxnOpRequest, PbTxnRequest, PbWatchRequest,
    PbWatchRequestUnion,
};
use futures_util::future::join_all;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use self::attacker::{Attacker, announced, framed, head, number, rest, status};
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
async fn count_statuses(answers: Vec<h2::client::ResponseFuture>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for status in join_all(answers.into_iter().map(status)).await {
        *counts.entry(status.unwrap_or_default()).or_default() += 1;
    }
    counts
}

/// Counts the calls that ended with this status.
async fn statuses(answers: Vec<h2::client::ResponseFuture>, wanted: &str) -> usize {
    let counts = count_statuses(answers).await;
    counts.get(wanted).copied().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn messages_are_announced_and_not_sent() {
    scene::endure(0, announce_messages).await;
}

async fn announce_messages(scene: &Scene, factor: usize) -> usize {
    let mut attackers = Vec::new();
    let mut calls = Vec::new();
    for _ in 0..4 * factor {
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
    let ended = count_statuses(answers).await;
    let count = |status| ended.get(status).copied().unwrap_or_default();
    let (late, refused) = (count(DEADLINE_EXCEEDED), count(RESOURCE_EXHAUSTED));
    assert!(late > 3_000, "{ended:?}");
    assert_eq!(late + refused, begun, "each is ended: {ended:?}");
    drop(streams);
    late
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn messages_are_sent_and_not_ended() {
    scene::endure(0, send_beginnings).await;
}

async fn send_beginnings(scene: &Scene, factor: usize) -> usize {
    let mut held = Vec::new();
    let mut answers = Vec::new();
    let begun = [announced(1536 << 10), Bytes::from(vec![b'm'; 60_000])].concat();
    for _ in 0..40 * factor {
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
    all - refused
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
    scene::endure(0, watch_the_past).await;
}

/// A stream takes a request once the answer before it was taken, so each stream has one watch.
async fn watch_the_past(scene: &Scene, factor: usize) -> usize {
    const STREAMS: usize = 250;
    /// As many streams as leave places for others: who takes all of them is refused by another limit.
    const MAX_ATTACKERS: usize = 40;
    let writer = Attacker::connect(scene.address(), WINDOW).await;
    let first = writer
        .ask("KV/Put", &put("past", 100))
        .await
        .expect("a call");
    let first = revision(first).await;
    let again = put("past", 100);
    let mut written = 0;
    while written < 9_000 {
        let answers = (0..90).map(|_| writer.ask("KV/Put", &again));
        let answers = join_all(answers).await.into_iter().flatten().collect();
        // The streams of the attack before may still be ending, and leave fewer places.
        written += statuses(answers, OK).await;
    }
    let mut held = Vec::new();
    let attackers = MAX_ATTACKERS.min(20 * factor);
    for _ in 0..attackers {
        let attacker = Attacker::connect(scene.address(), 1).await;
        for _ in 0..STREAMS {
            let Some(mut call) = attacker.call("Watch/Watch").await else {
                break;
            };
            if call
                .stream
                .send_data(framed(&watch("past", "", first)), false)
                .is_ok()
            {
                held.push(call);
            }
        }
    }
    // Those of the holder and of the honest users come on top.
    let watches = scene.wait_for_watches(attackers * STREAMS).await;
    drop(held);
    watches
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
    scene::endure(0, watch_often).await;
}

async fn watch_often(scene: &Scene, factor: usize) -> usize {
    const AT_ONCE: usize = 1_000;
    let many = 50 * factor;
    for create in [watch("one", "", 0), watch("a", "zz", 0)] {
        let attacker = Attacker::connect(scene.address(), 1 << 20).await;
        let mut call = attacker.call("Watch/Watch").await.expect("a call");
        let (mut body, _) = {
            call.stream.send_data(framed(&create), false).expect("open");
            head(call.answer).await.expect("an answer")
        };
        for _ in 0..many {
            let creates: Vec<u8> = std::iter::repeat_n(framed(&create), AT_ONCE)
                .flatten()
                .collect();
            call.stream.send_data(creates.into(), false).expect("open");
            // A client that does not read would have its connection ended.
            let taken = async {
                let mut bytes = 0;
                while bytes < AT_ONCE {
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
    2 * many * AT_ONCE
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn answers_are_not_taken() {
    scene::endure(48 << 20, ask_and_take_nothing).await;
}

async fn ask_and_take_nothing(scene: &Scene, factor: usize) -> usize {
    let reads = 40 * factor;
    let attacker = Attacker::connect(scene.address(), WINDOW).await;
    fill(&attacker, 4_800, 10 << 10).await;
    let mut held = Vec::new();
    for _ in 0..reads {
        held.push(attacker.ask("KV/Range", &all_keys()).await.expect("a call"));
    }
    let mut heads = Vec::new();
    let mut refused = 0;
    for answer in join_all(held.into_iter().map(head))
        .await
        .into_iter()
        .flatten()
    {
        let status = answer.1.as_ref().map(number);
        refused += usize::from(status.as_deref() == Some(RESOURCE_EXHAUSTED));
        heads.push(answer);
    }
    assert!(
        refused > reads * 3 / 4 && refused < reads,
        "{refused} of {reads}"
    );
    drop((heads, attacker));
    reads - refused
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn snapshots_are_begun_and_not_taken_while_everything_is_replaced() {
    scene::endure((SNAPSHOT_KEYS * SNAPSHOT_VALUE) as u64, begin_snapshots).await;
}

const SNAPSHOT_KEYS: usize = 15_000;
const SNAPSHOT_VALUE: usize = 10 << 10;

async fn begin_snapshots(scene: &Scene, factor: usize) -> usize {
    // What is not taken keeps back all answers of its connection.
    let idle = Attacker::connect(scene.address(), WINDOW).await;
    let attacker = Attacker::connect(scene.address(), 1 << 20).await;
    fill(&attacker, SNAPSHOT_KEYS, SNAPSHOT_VALUE).await;
    let request = PbSnapshotRequest {};
    let snapshot = || attacker.ask("Maintenance/Snapshot", &request);
    let first = idle.ask("Maintenance/Snapshot", &request).await;
    let (first, begun) = head(first.expect("a call")).await.expect("an answer");
    assert!(begun.is_none(), "the first one is begun: {begun:?}");
    let others = join_all((0..20 * factor).map(|_| snapshot())).await;
    let others = others.into_iter().flatten().collect();
    assert_eq!(statuses(others, RESOURCE_EXHAUSTED).await, 20 * factor);
    fill(&attacker, SNAPSHOT_KEYS, SNAPSHOT_VALUE).await;
    let ended = rest(first).await.map(|status| number(&status));
    assert_eq!(ended.as_deref(), Some(DEADLINE_EXCEEDED));
    // The next one has its turn, and is whole.
    let whole = snapshot().await.expect("a call");
    assert_eq!(status(whole).await.as_deref(), Some(OK));
    1
}

/// The attacker answers the server's pings, so its connection looks alive.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn who_takes_no_answers_does_not_keep_others_from_theirs() {
    scene::endure(32 << 20, fill_the_room_for_answers).await;
}

async fn fill_the_room_for_answers(scene: &Scene, _: usize) -> usize {
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
    tries
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn transactions_look_at_everything_again_and_again() {
    scene::endure(0, look_at_everything).await;
}

async fn look_at_everything(scene: &Scene, factor: usize) -> usize {
    let attacker = Attacker::connect(scene.address(), 1 << 20).await;
    fill(&attacker, 20_000, 10).await;
    let range = PbTxnOpRequest::RequestRange(all_keys());
    // A range that ends in the middle of a directory is counted key by key.
    let count = PbTxnOpRequest::RequestRange(PbRangeRequest {
        key: vec![b'k'],
        range_end: b"k5".to_vec(),
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
    for _ in 0..10 * factor {
        for request in &requests {
            answers.push(attacker.ask("KV/Txn", request).await.expect("a call"));
        }
    }
    let all = answers.len();
    assert_eq!(statuses(answers, RESOURCE_EXHAUSTED).await, all);
    // What is allowed is done, again and again.
    let all_keys = all_keys();
    for _ in 0..4 * factor {
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
    4 * factor * 20
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_lease_is_loaded_with_keys() {
    scene::endure(0, load_a_lease).await;
}

async fn load_a_lease(scene: &Scene, factor: usize) -> usize {
    let attacker = Attacker::connect(scene.address(), WINDOW).await;
    let grant = PbLeaseGrantRequest {
        ttl: 2 * i64::try_from(factor).expect("small"),
        id: 77,
    };
    let granted = attacker
        .ask("Lease/LeaseGrant", &grant)
        .await
        .expect("a call");
    assert_eq!(status(granted).await.as_deref(), Some(OK));
    let mut loaded = 0;
    for batch in 0..100 * factor {
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
        // The lease may have expired by now.
        let is_done = status(answer).await.as_deref() == Some(OK);
        loaded += if is_done { 100 } else { 0 };
    }
    // Another attack has a lease of its own.
    let revoke = PbLeaseRevokeRequest { id: 77 };
    let revoked = attacker.ask("Lease/LeaseRevoke", &revoke).await;
    assert!(status(revoked.expect("a call")).await.is_some());
    assert!(loaded > 0, "none got through");
    loaded
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
    // Ten times as many exceed what one process may have open.
    let connect = async |scene: &Scene, _: usize| {
        let mut held = Vec::new();
        for _ in 0..PLACES + 200 {
            held.push(Attacker::connect(scene.address(), WINDOW).await);
        }
        held.len()
    };
    scene::endure(0, connect).await;
}
