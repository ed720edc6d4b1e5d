//! The same script of watches, renewals, locks and elections must produce the same lines on both
//! servers.

use std::fmt::Debug;

use etcd_client::{
    Client, Event, LeaseGrantOptions, LockOptions, ProclaimOptions, ResignOptions, Txn, TxnOp,
    WatchFilterType, WatchOptions, WatchResponse, WatchStream,
};

use super::Pair;
use crate::support::soon;

/// The lines that a script produced.
#[derive(Default)]
struct Transcript(Vec<String>);

impl Transcript {
    fn note(&mut self, what: &str, seen: impl Debug) {
        self.0.push(format!("{what}: {seen:?}"));
    }
}

fn event(event: &Event) -> String {
    let kv = event.kv().map(|kv| {
        (
            kv.key().escape_ascii().to_string(),
            kv.value().len(),
            kv.mod_revision(),
            kv.version(),
        )
    });
    let prev = event
        .prev_kv()
        .map(|kv| (kv.mod_revision(), kv.value().len()));
    format!("{:?} {kv:?} {prev:?}", event.event_type())
}

async fn next(watch: &mut WatchStream) -> WatchResponse {
    let response = soon("a watch response", watch.message()).await;
    response.expect("a response").expect("open")
}

/// Returns everything of a watch response but its header.
async fn response(watch: &mut WatchStream) -> String {
    let response = next(watch).await;
    let events: Vec<String> = response.events().iter().map(event).collect();
    format!(
        "id {} created {} canceled {} events {events:?}",
        response.watch_id(),
        response.created(),
        response.canceled(),
    )
}

async fn watches(client: &mut Client, seen: &mut Transcript) {
    client.put("w/1", "a", None).await.expect("put");
    let mut watch = client
        .watch("w/", Some(WatchOptions::new().with_prefix()))
        .await
        .expect("a watch");
    let created = next(&mut watch).await;
    let header = created.header().expect("a header").revision();
    seen.note(
        "created",
        (
            created.watch_id(),
            created.created(),
            created.canceled(),
            header,
        ),
    );

    for (what, key, options) in [
        (
            "chosen id",
            "w/1",
            WatchOptions::new().with_watch_id(9).with_prev_key(),
        ),
        ("duplicate id", "w/1", WatchOptions::new().with_watch_id(9)),
        ("next id", "x", WatchOptions::new()),
        ("empty range", "b", WatchOptions::new().with_range("a")),
        ("same bounds", "b", WatchOptions::new().with_range("b")),
        ("from key", "zz", WatchOptions::new().with_from_key()),
    ] {
        watch.watch(key, Some(options)).await.expect("asked");
        let created = next(&mut watch).await;
        let state = (created.watch_id(), created.created(), created.canceled());
        seen.note(what, (state, created.cancel_reason()));
    }
    for id in [0, 404, -1] {
        watch.cancel(id).await.expect("asked");
    }
    seen.note("cancelled", response(&mut watch).await);
    // The other ids are unknown and get no response.
    client.put("w/1", "bb", None).await.expect("put");
    seen.note("one event", response(&mut watch).await);
    client.delete("w/1", None).await.expect("deleted");
    seen.note("one deletion", response(&mut watch).await);
    client.delete("w/1", None).await.expect("deleted");
    client.put("w/1", "", None).await.expect("put");
    seen.note("one creation", response(&mut watch).await);
    let put = Txn::new().and_then([TxnOp::put("w/1", "never seen", None)]);
    let delete = Txn::new().and_then([TxnOp::delete("w/1", None)]);
    let both = Txn::new().and_then([TxnOp::txn(put), TxnOp::txn(delete)]);
    client.txn(both).await.expect("txn");
    seen.note("put and deleted", response(&mut watch).await);
    watch.request_progress().await.expect("asked");
    let progress = next(&mut watch).await;
    let header = progress.header().expect("a header").revision();
    seen.note(
        "progress",
        (progress.watch_id(), progress.events().len(), header),
    );
}

async fn past_watches(client: &mut Client, seen: &mut Transcript) {
    let first = client.put("p/1", "", None).await.expect("put");
    let first = first.header().expect("a header").revision();
    let txn = Txn::new().and_then([TxnOp::put("p/2", "", None), TxnOp::put("p/1", "x", None)]);
    client.txn(txn).await.expect("txn");
    client.delete("p/2", None).await.expect("deleted");

    for filters in [
        vec![],
        vec![WatchFilterType::NoPut],
        vec![WatchFilterType::NoDelete],
    ] {
        let options = WatchOptions::new()
            .with_prefix()
            .with_prev_key()
            .with_start_revision(first)
            .with_filters(filters.clone());
        let mut watch = client.watch("p/", Some(options)).await.expect("a watch");
        seen.note("created", response(&mut watch).await);
        // How past events are cut into responses is the server's choice.
        let last = client.put("p/last", "", None).await.expect("put");
        let last = last.header().expect("a header").revision();
        let deleted = client.delete("p/last", None).await.expect("deleted");
        let deleted = deleted.header().expect("a header").revision();
        let last = if filters.contains(&WatchFilterType::NoDelete) {
            last
        } else {
            deleted
        };
        loop {
            let response = next(&mut watch).await;
            for told in response.events() {
                seen.note("told", event(told));
            }
            let newest = response.events().last().and_then(|told| told.kv());
            if newest.is_some_and(|kv| kv.mod_revision() == last) {
                break;
            }
        }
    }

    let now = client.put("p/1", "", None).await.expect("put");
    let now = now.header().expect("a header").revision();
    client.compact(now, None).await.expect("compacted");
    let options = WatchOptions::new().with_start_revision(first);
    let mut watch = client.watch("p/1", Some(options)).await.expect("a watch");
    seen.note("compacted", response(&mut watch).await);
    let canceled = next(&mut watch).await;
    let state = (
        canceled.watch_id(),
        canceled.canceled(),
        canceled.events().len(),
    );
    seen.note("compacted", (state, canceled.compact_revision()));
}

async fn leases(client: &mut Client, seen: &mut Transcript) {
    let options = LeaseGrantOptions::new().with_id(77);
    client
        .lease_grant(500, Some(options))
        .await
        .expect("granted");
    let (mut keeper, mut answers) = client.lease_keep_alive(77).await.expect("a stream");
    for _ in 0..2 {
        keeper.keep_alive().await.expect("asked");
        let answer = soon("an answer", answers.message())
            .await
            .expect("answer")
            .expect("open");
        let header = answer.header().expect("a header").revision();
        seen.note("renewed", (answer.id(), answer.ttl(), header));
        let _ = client.lease_revoke(77).await;
    }
    seen.note(
        "renewing nothing",
        client.lease_keep_alive(404).await.map(|_| ()).map_err(text),
    );
}

/// Returns the message. In etcd the code of the lock and election services is another one where it
/// passes on an error of its own client (`UNKNOWN`).
fn text(err: etcd_client::Error) -> String {
    match err {
        etcd_client::Error::GRpcStatus(status) => status.message().to_owned(),
        other => other.to_string(),
    }
}

async fn queues(client: &mut Client, seen: &mut Transcript) {
    for id in [0xa, 0xb] {
        let options = LeaseGrantOptions::new().with_id(id);
        client
            .lease_grant(500, Some(options))
            .await
            .expect("granted");
    }
    let with = |lease| Some(LockOptions::new().with_lease(lease));
    for _ in 0..2 {
        let held = client.lock("l", with(0xa)).await.expect("locked");
        let header = held.header().expect("a header").revision();
        seen.note("locked", (held.key().escape_ascii().to_string(), header));
    }
    let kv = client.get("l/a", None).await.expect("get");
    let kv = &kv.kvs()[0];
    seen.note(
        "its key",
        (kv.value(), kv.lease(), kv.create_revision(), kv.version()),
    );
    seen.note(
        "no lease",
        client
            .lock("l", with(0x404))
            .await
            .map(|_| ())
            .map_err(text),
    );
    let unlocked = client.unlock("l/a").await.expect("unlocked");
    seen.note("unlocked", unlocked.header().expect("a header").revision());
    client
        .unlock("l/a")
        .await
        .expect("unlocking twice is no error");
    seen.note(
        "unlock nothing",
        client.unlock("").await.map(|_| ()).map_err(text),
    );

    seen.note(
        "no leader",
        client.leader("e").await.map(|_| ()).map_err(text),
    );
    let elected = client.campaign("e", "one", 0xa).await.expect("elected");
    let leader = elected.leader().expect("a leader").clone();
    seen.note("elected", &leader);
    seen.note(
        "leader",
        client
            .leader("e")
            .await
            .map(|told| told.kv().cloned())
            .map_err(text),
    );
    let again = client.campaign("e", "two", 0xa).await.expect("elected");
    seen.note("again", again.leader());
    let options = ProclaimOptions::new().with_leader(leader.clone());
    client
        .proclaim("three", Some(options.clone()))
        .await
        .expect("proclaimed");
    seen.note(
        "leader",
        client
            .leader("e")
            .await
            .map(|told| told.kv().cloned())
            .map_err(text),
    );
    let resign = ResignOptions::new().with_leader(leader);
    let resigned = client.resign(Some(resign.clone())).await.expect("resigned");
    seen.note(
        "resigned",
        resigned.header().map(|header| header.revision()),
    );
    client
        .resign(Some(resign))
        .await
        .expect("resigning twice is no error");
    seen.note(
        "too late",
        client
            .proclaim("four", Some(options))
            .await
            .map(|_| ())
            .map_err(text),
    );
    seen.note(
        "no lease",
        client
            .campaign("e", "", 0x404)
            .await
            .map(|_| ())
            .map_err(text),
    );
}

async fn script(endpoint: &str) -> Vec<String> {
    let mut client = Client::connect([endpoint], None).await.expect("a client");
    let mut seen = Transcript::default();
    watches(&mut client, &mut seen).await;
    leases(&mut client, &mut seen).await;
    queues(&mut client, &mut seen).await;
    past_watches(&mut client, &mut seen).await;
    seen.0
}

#[tokio::test]
async fn streams_and_queues_read_as_etcds() {
    let pair = Pair::start().await;
    let ours = script(&pair.served.endpoint()).await;
    let theirs = script(&pair.etcd.endpoint).await;
    for (our, their) in ours.iter().zip(&theirs) {
        assert_eq!(our, their, "ours is left, etcd's is right");
    }
    assert_eq!(ours.len(), theirs.len());
    pair.served.stop().await;
}
