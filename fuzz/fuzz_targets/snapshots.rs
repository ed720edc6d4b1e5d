//! Snapshots. An input is one without its padding and its sum: a fuzzer finds no sum. The store that is
//! made from it is opened.

#![no_main]

use std::sync::LazyLock;

use aws_lc_rs::digest::{SHA256, digest};
use backend_embedded::snapshot::{RestoreError, restore};
use backend_embedded::{Config, Coordinator, Limits};
use etcd_client::proto::{PbLeaseGrantRequest, PbPutRequest, PbSnapshotResponse};
use libfuzzer_sys::fuzz_target;
use prost::Message;
use tempfile::TempDir;
use turnlock_fuzz::server::{METHODS, call, frame};
use turnlock_fuzz::{folder, memory};

/// The content is a multiple of this long.
const BLOCK: usize = 512;

/// The tables of a store, and what opening it takes.
const STORE: usize = 64 << 20;

/// A file, in whose place there can be no folder.
static NO_FOLDER: LazyLock<(TempDir, std::path::PathBuf)> = LazyLock::new(|| {
    let folder = folder::make();
    let path = folder.path().join("file");
    std::fs::write(&path, "").expect("there is room");
    (folder, path)
});

fuzz_target!(init: turnlock_fuzz::begin(seeds), |input: &[u8]| {
    let mut snapshot = input.to_vec();
    snapshot.resize(snapshot.len().next_multiple_of(BLOCK), 0);
    snapshot.extend(digest(&SHA256, &snapshot).as_ref());
    let no_folder = NO_FOLDER.1.join("folder");
    let refused = memory::limit(&snapshot, 0, || restore(snapshot.as_slice(), &no_folder));
    // To make a store takes a thousand times as long as to read a snapshot.
    if let Err(RestoreError::Folder(_)) = refused {
        memory::limit(&snapshot, STORE, || open(&snapshot));
    }
});

fn open(snapshot: &[u8]) {
    let folder = folder::make();
    let restored = restore(snapshot, folder.path()).expect("it is a snapshot");
    let config = Config::new(folder.path()).with_limits(Limits::default());
    let coordinator = Coordinator::open(config).expect("it is a store");
    let status = coordinator.status();
    assert_eq!(
        (status.keys, status.leases),
        (restored.keys, restored.leases)
    );
    assert!(status.revision >= restored.revision);
    folder::use_all(&coordinator);
    coordinator.close().expect("it closes");
}

fn seeds() -> Vec<Vec<u8>> {
    let method = |name: &str| {
        let at = METHODS.iter().position(|method| method.ends_with(name));
        at.expect("there is such a method")
    };
    let put = |key: &str, lease| {
        let put = PbPutRequest {
            key: key.into(),
            value: b"value".to_vec(),
            lease,
            ..PbPutRequest::default()
        };
        (method("/Put"), frame([put.encode_to_vec()]))
    };
    let grant = PbLeaseGrantRequest { ttl: 9, id: 7 }.encode_to_vec();
    let grant = (method("/LeaseGrant"), frame([grant]));
    let snapshot = || (method("/Snapshot"), frame([[]]));
    let calls = [snapshot(), grant, put("a", 7), put("b", 0), snapshot()];
    let answers = call(calls);
    let whole = answers.iter().filter(|answer| answer.body.len() > BLOCK);
    whole.map(|answer| without_sum(&answer.body)).collect()
}

/// Returns the snapshot in these frames, without its sum.
fn without_sum(mut frames: &[u8]) -> Vec<u8> {
    let mut snapshot = Vec::new();
    while let Some((prefix, rest)) = frames.split_first_chunk::<5>() {
        let [_, length @ ..] = *prefix;
        let (message, rest) = rest.split_at(u32::from_be_bytes(length) as usize);
        let piece = PbSnapshotResponse::decode(message).expect("a message");
        snapshot.extend(piece.blob);
        frames = rest;
    }
    let sum = digest(&SHA256, &[]).as_ref().len();
    snapshot.truncate(snapshot.len().saturating_sub(sum));
    snapshot
}
