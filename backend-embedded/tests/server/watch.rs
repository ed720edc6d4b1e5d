//! Watches through crate `etcd-client`.

use std::time::Duration;

use backend_embedded::Limits;
use bytes::Bytes;
use etcd_client::{
    Client, DeleteOptions, EventType, Txn, TxnOp, WatchFilterType, WatchOptions, WatchResponse,
    WatchStream,
};

use crate::support::{Served, private_folder, soon};

async fn next(watch: &mut WatchStream) -> WatchResponse {
    soon("a watch response", watch.message())
        .await
        .expect("a response")
        .expect("the stream is open")
}

/// Opens a watch, and takes the response of its creation.
async fn open(
    client: &mut Client,
    key: &str,
    options: WatchOptions,
) -> (WatchStream, WatchResponse) {
    let mut watch = soon("the stream", client.watch(key, Some(options)))
        .await
        .expect("a watch");
    let created = next(&mut watch).await;
    assert!(created.created(), "{created:?}");
    (watch, created)
}

async fn put(client: &mut Client, key: &str, value: &str) -> i64 {
    let put = client.put(key, value, None).await.expect("put");
    put.header().expect("a header").revision()
}

fn revision(response: &WatchResponse) -> i64 {
    response.header().expect("a header").revision()
}

/// Returns the kind, key, value and revision of each event.
fn events(response: &WatchResponse) -> Vec<(EventType, String, String, i64)> {
    response
        .events()
        .iter()
        .map(|event| {
            let kv = event.kv().expect("a key");
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            (
                event.event_type(),
                text(kv.key()),
                text(kv.value()),
                kv.mod_revision(),
            )
        })
        .collect()
}

fn put_event(key: &str, value: &str, revision: i64) -> (EventType, String, String, i64) {
    (EventType::Put, key.to_owned(), value.to_owned(), revision)
}

fn delete_event(key: &str, revision: i64) -> (EventType, String, String, i64) {
    (EventType::Delete, key.to_owned(), String::new(), revision)
}

#[tokio::test]
async fn a_watch_reports_events_from_its_creation_on() {
    let served = Served::start();
    let mut client = served.client().await;
    let before = put(&mut client, "k", "0").await;
    let (mut watch, created) = open(&mut client, "k", WatchOptions::new()).await;
    assert_eq!((created.watch_id(), revision(&created)), (0, before));

    let first = put(&mut client, "k", "1").await;
    put(&mut client, "other", "").await;
    let deleted = client.delete("k", None).await.expect("deleted");
    let deleted = deleted.header().expect("a header").revision();

    let response = next(&mut watch).await;
    assert_eq!(events(&response), [put_event("k", "1", first)]);
    assert_eq!(revision(&response), first);
    assert!(response.events()[0].prev_kv().is_none());
    assert_eq!(
        events(&next(&mut watch).await),
        [delete_event("k", deleted)]
    );
    served.stop().await;
}

#[tokio::test]
async fn a_watch_may_start_in_the_past_or_in_the_future() {
    let served = Served::start();
    let mut client = served.client().await;
    let first = put(&mut client, "a/1", "1").await;
    let second = put(&mut client, "a/2", "2").await;

    let past = WatchOptions::new().with_prefix().with_start_revision(first);
    let (mut watch, _) = open(&mut client, "a/", past).await;
    assert_eq!(
        events(&next(&mut watch).await),
        [put_event("a/1", "1", first)]
    );
    assert_eq!(
        events(&next(&mut watch).await),
        [put_event("a/2", "2", second)]
    );

    let future = WatchOptions::new()
        .with_prefix()
        .with_start_revision(second + 2);
    let (mut watch, _) = open(&mut client, "a/", future).await;
    put(&mut client, "a/3", "too early").await;
    let late = put(&mut client, "a/3", "now").await;
    assert_eq!(
        events(&next(&mut watch).await),
        [put_event("a/3", "now", late)]
    );
    served.stop().await;
}

#[tokio::test]
async fn filters_and_previous_states_are_per_watch() {
    let served = Served::start();
    let mut client = served.client().await;
    put(&mut client, "k", "old").await;
    let options = WatchOptions::new()
        .with_prev_key()
        .with_filters([WatchFilterType::NoDelete]);
    let (mut puts, _) = open(&mut client, "k", options).await;
    let options = WatchOptions::new()
        .with_prev_key()
        .with_filters([WatchFilterType::NoPut]);
    let (mut deletes, _) = open(&mut client, "k", options).await;

    let changed = put(&mut client, "k", "new").await;
    client.delete("k", None).await.expect("deleted");
    let created = put(&mut client, "k", "again").await;

    let response = next(&mut puts).await;
    assert_eq!(events(&response), [put_event("k", "new", changed)]);
    assert_eq!(
        response.events()[0]
            .prev_kv()
            .expect("the old state")
            .value(),
        b"old"
    );
    let response = next(&mut puts).await;
    assert_eq!(events(&response), [put_event("k", "again", created)]);
    assert!(response.events()[0].prev_kv().is_none());
    let response = next(&mut deletes).await;
    assert_eq!(events(&response), [delete_event("k", changed + 1)]);
    assert_eq!(
        response.events()[0]
            .prev_kv()
            .expect("the old state")
            .value(),
        b"new"
    );
    served.stop().await;
}

#[tokio::test]
async fn one_revision_is_one_response() {
    let served = Served::start();
    let mut client = served.client().await;
    let (mut watch, _) = open(&mut client, "", WatchOptions::new().with_all_keys()).await;
    let txn = Txn::new().and_then([TxnOp::put("b", "1", None), TxnOp::put("a", "2", None)]);
    let done = client.txn(txn).await.expect("txn");
    let revision = done.header().expect("a header").revision();
    let mut seen = events(&next(&mut watch).await);
    seen.sort_by(|a, b| a.1.cmp(&b.1));
    assert_eq!(
        seen,
        [put_event("a", "2", revision), put_event("b", "1", revision)]
    );
    served.stop().await;
}

#[tokio::test]
async fn a_stream_carries_many_watches() {
    let served = Served::start();
    let mut client = served.client().await;
    let (mut watch, first) = open(&mut client, "a", WatchOptions::new()).await;
    assert_eq!(first.watch_id(), 0);

    let chosen = WatchOptions::new().with_watch_id(7);
    watch.watch("b", Some(chosen.clone())).await.expect("asked");
    let created = next(&mut watch).await;
    assert!(created.created() && !created.canceled());
    assert_eq!(created.watch_id(), 7);
    watch.watch("c", Some(chosen)).await.expect("asked");
    let refusal = next(&mut watch).await;
    assert!(refusal.created() && refusal.canceled());
    assert_eq!(
        (refusal.watch_id(), refusal.cancel_reason()),
        (-1, "mvcc: duplicate watch ID provided on the WatchStream")
    );
    watch.watch("c", None).await.expect("asked");
    assert_eq!(next(&mut watch).await.watch_id(), 1);

    let revision = put(&mut client, "b", "to seven").await;
    let response = next(&mut watch).await;
    assert_eq!(response.watch_id(), 7);
    assert_eq!(events(&response), [put_event("b", "to seven", revision)]);

    watch.cancel(7).await.expect("asked");
    let canceled = next(&mut watch).await;
    assert!(canceled.canceled() && !canceled.created());
    assert_eq!((canceled.watch_id(), canceled.cancel_reason()), (7, ""));
    put(&mut client, "b", "to nobody").await;
    let revision = put(&mut client, "c", "to one").await;
    let response = next(&mut watch).await;
    assert_eq!(
        (response.watch_id(), events(&response)),
        (1, vec![put_event("c", "to one", revision)])
    );

    // The id is free again.
    watch
        .watch("b", Some(WatchOptions::new().with_watch_id(7)))
        .await
        .expect("asked");
    let created = next(&mut watch).await;
    assert!(created.created() && !created.canceled());
    served.stop().await;
}

/// One process may hold many locks, each with a watch, over one stream.
#[tokio::test]
async fn a_stream_carries_as_many_watches_as_there_are() {
    const WATCHES: usize = 20_000;
    let served = Served::start();
    let mut client = served.client().await;
    let (mut watch, _) = open(&mut client, "key/0", WatchOptions::new()).await;
    for number in 1..WATCHES {
        watch
            .watch(format!("key/{number}"), None)
            .await
            .expect("asked");
        let created = next(&mut watch).await;
        assert!(
            created.created() && !created.canceled(),
            "{number}: {}",
            created.cancel_reason()
        );
    }
    let last = format!("key/{}", WATCHES - 1);
    let revision = put(&mut client, &last, "to the last").await;
    let received = events(&next(&mut watch).await);
    assert_eq!(received, [put_event(&last, "to the last", revision)]);
    served.stop().await;
}

#[tokio::test]
async fn a_compacted_watch_gets_the_revision_to_resume_from() {
    let served = Served::start();
    let mut client = served.client().await;
    let first = put(&mut client, "k", "1").await;
    let second = put(&mut client, "k", "2").await;
    let third = put(&mut client, "k", "3").await;
    client.compact(second, None).await.expect("compacted");

    let past = WatchOptions::new().with_start_revision(first);
    let (mut watch, created) = open(&mut client, "k", past).await;
    assert!(!created.canceled());
    let canceled = next(&mut watch).await;
    assert!(canceled.canceled());
    assert_eq!(canceled.watch_id(), created.watch_id());
    let available = canceled.compact_revision();
    assert!((second..=third + 1).contains(&available), "{available}");

    let (mut watch, _) = open(
        &mut client,
        "k",
        WatchOptions::new().with_start_revision(available),
    )
    .await;
    let fourth = put(&mut client, "k", "4").await;
    loop {
        let seen = events(&next(&mut watch).await);
        if seen == [put_event("k", "4", fourth)] {
            break;
        }
        assert!(seen.iter().all(|event| event.3 >= available), "{seen:?}");
    }
    served.stop().await;
}

#[tokio::test]
async fn impossible_watches_are_refused_and_the_stream_goes_on() {
    let served = Served::start();
    let mut client = served.client().await;
    let (mut watch, created) = open(&mut client, "b", WatchOptions::new().with_range("a")).await;
    assert!(created.canceled());
    assert_eq!(
        (created.watch_id(), created.cancel_reason()),
        (-1, "mvcc: watcher range is empty")
    );
    watch
        .watch("b", Some(WatchOptions::new().with_start_revision(-1)))
        .await
        .expect("asked");
    let refusal = next(&mut watch).await;
    assert!(refusal.created() && refusal.canceled());
    assert_eq!(
        refusal.cancel_reason(),
        "etcdserver: mvcc: required revision has been compacted"
    );
    watch.watch("b", None).await.expect("asked");
    assert!(!next(&mut watch).await.canceled());
    served.stop().await;
}

#[tokio::test]
async fn progress_is_reported_after_the_events_that_it_covers() {
    let served = Served::start();
    let mut client = served.client().await;
    let (mut watch, _) = open(&mut client, "a", WatchOptions::new()).await;
    watch.watch("b", None).await.expect("asked");
    next(&mut watch).await;

    for round in 0..50 {
        let last = put(&mut client, "a", &round.to_string()).await;
        let mut other = client.clone();
        let elsewhere = put(&mut other, "elsewhere", "").await;
        watch.request_progress().await.expect("asked");
        let event = next(&mut watch).await;
        assert_eq!(events(&event), [put_event("a", &round.to_string(), last)]);
        let progress = next(&mut watch).await;
        assert_eq!((progress.watch_id(), progress.events().len()), (-1, 0));
        assert_eq!(revision(&progress), elsewhere);
    }
    served.stop().await;
}

#[tokio::test]
async fn an_idle_watch_gets_progress_on_request() {
    let interval = Duration::from_millis(50);
    let served = Served::with(Limits::default(), |server| {
        server.with_progress_interval(interval)
    });
    let mut client = served.client().await;
    let options = WatchOptions::new().with_progress_notify().with_watch_id(3);
    let (mut watch, _) = open(&mut client, "k", options).await;
    let elsewhere = put(&mut client, "elsewhere", "").await;
    loop {
        let progress = next(&mut watch).await;
        assert_eq!((progress.watch_id(), progress.events().len()), (3, 0));
        assert!(!progress.created() && !progress.canceled());
        if revision(&progress) == elsewhere {
            break;
        }
    }
    served.stop().await;
}

#[tokio::test]
async fn a_client_that_does_not_read_loses_its_watch_with_a_reason() {
    let mut limits = Limits::default();
    limits.watch_queue_events = 16;
    let served = Served::with(limits, |server| server);
    let mut client = served.client().await;
    let (mut watch, _) = open(&mut client, "k", WatchOptions::new()).await;

    // Much more than HTTP/2's windows and the sockets' buffers hold.
    let value = Bytes::from(vec![b'v'; 256 << 10]);
    for _ in 0..200 {
        let put = backend_embedded::machine::op::Put {
            key: Bytes::from_static(b"k"),
            value: Some(value.clone()),
            lease: Some(0),
            prev_kv: false,
        };
        served
            .coordinator
            .put(put)
            .await
            .expect("a slow watcher stops nobody");
    }
    let mut last = 0;
    let canceled = loop {
        let response = next(&mut watch).await;
        if response.canceled() {
            break response;
        }
        for event in events(&response) {
            assert!(last == 0 || event.3 == last + 1, "a gap before {}", event.3);
            last = event.3;
        }
    };
    assert!(
        canceled.cancel_reason().contains("too slow"),
        "{}",
        canceled.cancel_reason()
    );
    let resume = format!("from revision {}", last + 1);
    assert!(
        canceled.cancel_reason().contains(&resume),
        "{} after {last}",
        canceled.cancel_reason()
    );

    // The stream continues.
    watch.watch("k", None).await.expect("asked");
    assert!(next(&mut watch).await.created());
    served.stop().await;
}

#[tokio::test]
async fn a_revision_too_large_for_a_message_is_fragmented_on_request() {
    let served = Served::start();
    let mut client = served.client().await;
    let value = "v".repeat(1 << 20);
    for key in ["a", "b", "c"] {
        put(&mut client, key, &value).await;
    }
    let options = WatchOptions::new()
        .with_all_keys()
        .with_prev_key()
        .with_fragment();
    let mut watch = client.watch("", Some(options)).await.expect("a watch");
    assert!(next(&mut watch).await.created());
    let options = DeleteOptions::new().with_all_keys();
    let deleted = client.delete("", Some(options)).await.expect("deleted");
    let revision = deleted.header().expect("a header").revision();

    let mut keys = Vec::new();
    let mut parts = 0;
    while keys.len() < 3 {
        let part = next(&mut watch).await;
        parts += 1;
        for event in part.events() {
            assert_eq!(
                event.prev_kv().expect("the old state").value().len(),
                value.len()
            );
            let kv = event.kv().expect("a key");
            assert_eq!(kv.mod_revision(), revision);
            keys.push(kv.key_str().expect("text").to_owned());
        }
    }
    assert_eq!(keys, ["a", "b", "c"]);
    assert!(parts > 1, "3 MiB in one message");
    served.stop().await;
}

#[tokio::test]
async fn watches_go_when_their_stream_goes() {
    let mut limits = Limits::default();
    limits.watches = 3;
    let served = Served::with(limits, |server| server);
    let mut client = served.client().await;
    for _ in 0..20 {
        let (mut watch, _) = open(&mut client, "k", WatchOptions::new()).await;
        watch.watch("l", None).await.expect("asked");
        next(&mut watch).await;
        drop(watch);
        // The server notices a moment later.
        crate::support::until("the watches to end", || async {
            let probe = || {
                let key =
                    backend_embedded::machine::op::KeyRange::One(Bytes::from_static(b"probe"));
                served.coordinator.watch(key, None)
            };
            let probes = [probe(), probe(), probe()];
            probes.iter().all(Result::is_ok)
        })
        .await;
    }
    served.stop().await;
}

#[tokio::test]
async fn a_watch_goes_on_over_a_restart_from_where_it_was() {
    let data = private_folder();
    let served = Served::durable(data.path());
    let mut client = served.client().await;
    let first = put(&mut client, "q/a", "1").await;
    let b = put(&mut client, "q/b", "1").await;
    let a = put(&mut client, "q/a", "2").await;
    put(&mut client, "other", "").await;
    let deleted = client.delete("q/b", None).await.expect("deleted");
    let deleted = deleted.header().expect("a header").revision();
    let coordinator = served.coordinator.clone();
    served.stop().await;
    coordinator.close().expect("closed");

    let served = Served::durable(data.path());
    let mut client = served.client().await;
    let from = |revision| {
        WatchOptions::new()
            .with_prefix()
            .with_start_revision(revision)
    };
    let (mut watch, _) = open(&mut client, "q/", from(first)).await;
    let past = [put_event("q/a", "2", a), delete_event("q/b", deleted)];
    for event in past {
        assert_eq!(events(&next(&mut watch).await), [event]);
    }
    let now = put(&mut client, "q/c", "1").await;
    let present = put_event("q/c", "1", now);
    assert_eq!(events(&next(&mut watch).await), [present]);
    client.compact(b, None).await.expect("compacted");
    let (mut watch, _) = open(&mut client, "q/", from(first)).await;
    let refusal = next(&mut watch).await;
    assert!(refusal.canceled());
    assert_eq!(refusal.compact_revision(), b, "as asked for");
}
