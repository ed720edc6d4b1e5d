//! Snapshots, by Debian's `etcdctl` and by the crate `etcd-client`, and the stores that are made from
//! them.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use backend_embedded::machine::op::{KeyRange, Put, Range};
use backend_embedded::snapshot::{RestoreError, restore};
use backend_embedded::{Coordinator, Error};
use etcd_client::proto::{PbHashKvRequest, PbHashKvResponse};
use etcd_client::{Client, SnapshotStreaming, WatchOptions};
use tonic::Code;

use crate::etcdctl::Etcdctl;
use crate::support::{Served, call, private_folder, refusal, soon, until};

fn put(key: &str, value: impl Into<Vec<u8>>, lease: i64) -> Put {
    Put {
        key: key.as_bytes().to_vec().into(),
        value: Some(value.into().into()),
        lease: Some(lease),
        prev_kv: false,
    }
}

/// The number of keys of a MiB.
const LARGE_KEYS: usize = 24;

/// Fills a store so that a snapshot of it does not fit into the buffers of a connection.
async fn fill(coordinator: &Coordinator) {
    for nth in 0..LARGE_KEYS {
        let large = put(&format!("large/{nth}"), vec![b'v'; 1 << 20], 0);
        coordinator.put(large).await.expect("written");
    }
}

async fn begin(served: &Served) -> (Client, SnapshotStreaming) {
    let client = served.client().await;
    let begun = client.maintenance_client().snapshot().await;
    (client, begun.expect("begun"))
}

async fn hash_of_keys(served: &Served) -> u32 {
    let path = "/etcdserverpb.Maintenance/HashKV";
    let request = PbHashKvRequest { revision: 0 };
    let answer = call::<_, PbHashKvResponse>(&served.channel().await, path, request).await;
    answer.expect("a hash").hash
}

/// Changes of a store that go on until they are ended.
struct Load {
    ending: Arc<AtomicBool>,
    highest: Arc<AtomicU64>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    fn start(coordinator: &Coordinator) -> Self {
        let (ending, highest) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let tasks = (0..8).map(|task| {
            let (coordinator, ending, highest) = (
                coordinator.clone(),
                Arc::clone(&ending),
                Arc::clone(&highest),
            );
            tokio::spawn(async move {
                let mut nth: u64 = 0;
                while !ending.load(Ordering::Relaxed) {
                    let key = format!("load/{task}/{}", nth % 100);
                    let done = coordinator.put(put(&key, nth.to_string(), 0)).await;
                    highest.fetch_max(done.expect("written").revision, Ordering::Relaxed);
                    nth += 1;
                }
            })
        });
        Load {
            tasks: tasks.collect(),
            ending,
            highest,
        }
    }

    /// Returns the highest revision that was given out so far.
    fn highest(&self) -> u64 {
        self.highest.load(Ordering::Relaxed)
    }

    /// Ends the changes, and returns the highest revision that was given out.
    async fn end(self) -> u64 {
        self.ending.store(true, Ordering::Relaxed);
        for task in self.tasks {
            soon("the load to end", task).await.expect("no panic");
        }
        self.highest.load(Ordering::Relaxed)
    }
}

#[tokio::test]
async fn a_store_comes_back_from_what_etcdctl_saved_under_load() {
    const LEASE: i64 = 0x1234;
    let folder = private_folder();
    let served = Served::durable(&folder.path().join("first"));
    let coordinator = &served.coordinator;
    let ttl = Duration::from_secs(3600);
    coordinator.grant(LEASE, ttl).await.expect("granted");
    coordinator
        .put(put("held", "by a client", LEASE))
        .await
        .expect("written");
    fill(coordinator).await;
    let load = Load::start(coordinator);
    until("some load", || std::future::ready(load.highest() > 0)).await;
    let begun = load.highest();
    let file = folder.path().join("saved");
    let path = file.to_str().expect("text");
    let said = Etcdctl::new(&served).run(&["snapshot", "save", path]).await;
    assert!(said.contains("Snapshot saved"), "{said}");
    let saved = load.highest();
    until("more load", || {
        std::future::ready(load.highest() > saved + 100)
    })
    .await;
    let last = load.end().await;
    let first_id = coordinator.status().cluster_id;
    served.stop().await;

    let data = folder.path().join("second");
    let restored = restore(File::open(&file).expect("there"), &data).expect("restored");
    let revision = restored.snapshot_revision;
    assert!(
        begun <= revision && revision <= last,
        "{begun} {revision} {last}"
    );
    assert!(restored.revision > last, "{restored:?}");
    assert_eq!((restored.leases, restored.longest_ttl), (1, ttl));
    let again = Served::durable(&data);
    let coordinator = &again.coordinator;
    let status = coordinator.status();
    assert_ne!(status.cluster_id, first_id);
    assert_eq!((status.keys, status.leases), (restored.keys, 1));
    let large = coordinator
        .range(Range::all(KeyRange::prefix("large/")))
        .await;
    let large = large.expect("read").result.kvs;
    assert!(large.len() == LARGE_KEYS && large.iter().all(|kv| kv.value.len() == 1 << 20));

    // Nobody can go on with the lease, and what was on it is there until it ends.
    let gone = coordinator.keep_alive(LEASE).await;
    assert!(
        matches!(gone, Err(Error::LeaseNotFound { id: LEASE })),
        "{gone:?}"
    );
    let held = coordinator
        .range(Range::all(KeyRange::One("held".into())))
        .await;
    let lease = held.expect("read").result.kvs[0].lease;
    let info = coordinator
        .time_to_live(lease, true)
        .await
        .expect("it is there");
    assert_eq!((info.granted, info.keys.len()), (ttl, 1));

    // Whoever has seen the former store begins anew.
    let mut client = again.client().await;
    for start in [revision, last, last + 1] {
        for key in ["held", "load/0/0", "none"] {
            let start = i64::try_from(start).expect("in range");
            let options = WatchOptions::new().with_start_revision(start);
            let mut stream = client.watch(key, Some(options)).await.expect("a stream");
            let answer = soon("an answer", stream.message())
                .await
                .expect("an answer");
            let mut answer = answer.expect("not ended");
            if !answer.canceled() {
                answer = soon("the end", stream.message())
                    .await
                    .expect("it")
                    .expect("it");
            }
            assert!(
                answer.canceled() && answer.compact_revision() > 0,
                "{key} {start}"
            );
        }
    }
    let next = coordinator.put(put("next", "", 0)).await.expect("written");
    assert!(next.revision > restored.revision);
    drop(client);
    again.stop().await;
}

#[tokio::test]
async fn a_restored_store_has_the_hash_of_the_first_one_until_something_is_written() {
    let folder = private_folder();
    let served = Served::start();
    served
        .coordinator
        .put(put("a", "1", 0))
        .await
        .expect("written");
    served
        .coordinator
        .put(put("b", "2", 0))
        .await
        .expect("written");
    let (_client, mut pieces) = begin(&served).await;
    let mut bytes = Vec::new();
    let mut left = None;
    while let Some(piece) = soon("a piece", pieces.message()).await.expect("a piece") {
        bytes.extend_from_slice(piece.blob());
        let length = piece.blob().len() as u64;
        assert!(left.is_none_or(|left| left == length + piece.remaining_bytes()));
        left = Some(piece.remaining_bytes());
        let revision = piece.header().expect("a header").revision();
        assert_eq!(revision, 3);
    }
    assert_eq!(left, Some(0));
    let (content, sum) = bytes.split_at(bytes.len() - 32);
    assert_eq!(
        (content.len() % 512, digest(&SHA256, content).as_ref()),
        (0, sum)
    );
    let data = folder.path().join("data");
    restore(&bytes[..], &data).expect("restored");
    let again = Served::durable(&data);
    assert_eq!(hash_of_keys(&again).await, hash_of_keys(&served).await);
    again
        .coordinator
        .put(put("a", "1", 0))
        .await
        .expect("written");
    assert_ne!(hash_of_keys(&again).await, hash_of_keys(&served).await);
    again.stop().await;
    served.stop().await;
}

#[tokio::test]
async fn leases_are_restored_whichever_expires_first() {
    let folder = private_folder();
    let served = Served::start();
    for (id, seconds) in [(9, 60), (5, 600), (7, 6_000)] {
        let granting = served.coordinator.grant(id, Duration::from_secs(seconds));
        granting.await.expect("granted");
    }
    let (_client, mut pieces) = begin(&served).await;
    let mut bytes = Vec::new();
    while let Some(piece) = soon("a piece", pieces.message()).await.expect("a piece") {
        bytes.extend_from_slice(piece.blob());
    }
    let restored = restore(&bytes[..], &folder.path().join("data")).expect("restored");
    assert_eq!(restored.leases, 3);
    served.stop().await;
}

#[tokio::test]
async fn there_is_one_snapshot_at_a_time_and_whoever_takes_nothing_is_cut_off() {
    let served = Served::start();
    fill(&served.coordinator).await;
    let (_idle, mut pieces) = begin(&served).await;
    let piece = soon("a piece", pieces.message()).await.expect("a piece");
    assert!(piece.expect("there is more").remaining_bytes() > 8 << 20);
    let client = served.client().await;
    let refused = client.maintenance_client().snapshot().await;
    let (code, text) = refusal(refused);
    assert_eq!(code, Code::ResourceExhausted);
    assert!(text.contains("another snapshot"), "{text}");
    // The first one takes nothing more, so the next one has its turn.
    until("the next one's turn", || {
        let client = client.clone();
        async move { client.maintenance_client().snapshot().await.is_ok() }
    })
    .await;
    let ended = soon("the end of the first", async {
        loop {
            match pieces.message().await {
                Ok(Some(piece)) => assert!(piece.remaining_bytes() > 0, "it is not complete"),
                ended => return ended.map(|_| ()),
            }
        }
    });
    let (code, text) = refusal(ended.await);
    assert_eq!(code, Code::DeadlineExceeded);
    assert!(text.contains("too slowly"), "{text}");
    served.stop().await;
}

#[tokio::test]
async fn a_snapshot_that_the_servers_end_cuts_off_says_so() {
    let served = Served::start();
    fill(&served.coordinator).await;
    let (_client, mut pieces) = begin(&served).await;
    soon("a piece", pieces.message()).await.expect("a piece");
    let stopping = tokio::spawn(served.stop());
    let ended = soon("the end", async {
        loop {
            match pieces.message().await {
                Ok(Some(piece)) => assert!(piece.remaining_bytes() > 0, "it is not complete"),
                ended => return ended.map(|_| ()),
            }
        }
    });
    let (code, _) = refusal(ended.await);
    assert_eq!(code, Code::Unavailable);
    stopping.await.expect("no panic");
}

#[tokio::test]
async fn only_a_folder_without_a_store_gets_one() {
    let folder = private_folder();
    let served = Served::start();
    let file = folder.path().join("saved");
    let path = file.to_str().expect("text");
    Etcdctl::new(&served).run(&["snapshot", "save", path]).await;
    served.stop().await;
    let again = |data: &Path| restore(File::open(&file).expect("there"), data);
    let data = folder.path().join("data");
    again(&data).expect("restored");
    let refused = again(&data).expect_err("there is one");
    assert!(
        matches!(refused, RestoreError::StoreExists { .. }),
        "{refused}"
    );
    let open = Coordinator::open(backend_embedded::Config::new(&data)).expect("opened");
    let refused = again(&data).expect_err("it is open");
    assert!(refused.to_string().contains("in use by"), "{refused}");
    open.close().expect("closed");
    for left in ["ACKED", "JOURNAL"] {
        let half = folder.path().join(left);
        std::fs::create_dir(&half).expect("made");
        std::fs::write(half.join(left), "").expect("written");
        let refused = again(&half).expect_err("a part of one");
        assert!(refused.to_string().contains(left), "{refused}");
    }
    let never = folder.path().join("never");
    restore(&b"TL-snap\n"[..], &never).expect_err("cut off");
    assert!(!never.exists(), "nothing is made of a bad one");
}
