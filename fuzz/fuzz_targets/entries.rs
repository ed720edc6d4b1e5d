//! What strangers can write into the queue of a lock and beside it: keys, values, and the token offset.
//! An input is a row of keys, each followed by its value. The first byte of a key says where it lies.

#![no_main]

use backend_embedded::machine::op::Put;
use backend_embedded::{Coordinator, EmbeddedBackend, Limits};
use backend_kit::keyspace::Keyspace;
use libfuzzer_sys::fuzz_target;
use lock_core::nesting::{Nesting, OuterHold};
use lock_core::{ErrorKind, LockName, Locks, Metadata, Options, SessionId, Token};
use turnlock_fuzz::{memory, pieces};

/// The coordinator, and the threads of the locks.
const LOCKS: usize = 16 << 20;

/// The most locks of a list.
const LISTED: usize = 100;

fuzz_target!(init: turnlock_fuzz::begin(seeds), |input: &[u8]| {
    memory::limit(input, LOCKS, || {
        let coordinator = Coordinator::in_memory(Limits::default()).expect("a coordinator");
        pollster::block_on(fill(&coordinator, input));
        pollster::block_on(read(&coordinator));
        coordinator.close().expect("it closes");
    });
});

async fn fill(coordinator: &Coordinator, input: &[u8]) {
    let keyspace = Keyspace::default();
    let lock = keyspace.lock(&name());
    let mut pieces = pieces::split(input);
    while let Some(key) = pieces.next() {
        let value = pieces.next().unwrap_or_default();
        if let Some(metadata) = Metadata::from_bytes(value) {
            let again = Metadata::from_bytes(&metadata.to_bytes());
            assert_eq!(again, Some(metadata));
        }
        let Some((place, rest)) = key.split_first() else {
            continue;
        };
        let before = match place % 4 {
            0 => Vec::new(),
            1 => keyspace.prefix_of_all().into_bytes(),
            2 => keyspace.token_offset_key().into_bytes(),
            _ => lock.start.clone().into(),
        };
        let put = Put {
            key: [before.as_slice(), rest].concat().into(),
            value: Some(value.to_vec().into()),
            lease: Some(0),
            prev_kv: false,
        };
        // A key without a letter is refused.
        let _ = coordinator.put(put).await;
    }
}

async fn read(coordinator: &Coordinator) {
    let backend = EmbeddedBackend::new(coordinator.clone());
    let locks = Locks::new(backend, Options::default()).expect("valid options");
    let name = name();
    let queue = locks.queue(&name).await;
    match locks.list("", None, LISTED).await {
        Ok(listed) => {
            let mut queues = listed.iter().chain(&queue);
            assert!(queues.all(|queue| queue.holders() <= queue.entries.len()));
        }
        // A token offset that is none: then no token can be trusted.
        Err(error) => assert_eq!(error.kind(), ErrorKind::Configuration, "{error}"),
    }
    let acquired = locks.mutex(&name).expect("a name").try_acquire().await;
    if let (Ok(queue), Ok(Some(_))) = (&queue, &acquired) {
        assert_eq!(queue.entries.len(), 0, "{queue:?}");
    }
    drop(acquired);
    for entry in queue.iter().flat_map(|queue| &queue.entries) {
        let _ = locks.evict(&name, &entry.id).await;
    }
    let _ = locks.close().await;
}

fn name() -> LockName {
    LockName::new("a/b").expect("a name")
}

fn seeds() -> Vec<Vec<u8>> {
    let outer = OuterHold::new(name(), Token(7), SessionId(3)).with_proof([2; 64]);
    let nesting = Nesting::default().with_key([1; 32]).with_outer(outer);
    let plain = Metadata::default()
        .with_process("host", 7)
        .with_note("note");
    let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let full = plain
        .clone()
        .with_traceparent(traceparent.parse().expect("a context"))
        .with_nesting(nesting);
    let rows = [
        vec![(b"3write/1-1".as_slice(), full.to_bytes())],
        vec![
            (b"3read/1-2", plain.to_bytes()),
            (b"3694d", b"etcd".to_vec()),
        ],
        vec![(b"2", b"1000".to_vec()), (b"1c%2Fd/1", Vec::new())],
    ];
    let pieces = |row: &Vec<(&[u8], Vec<u8>)>| {
        let pieces = row
            .iter()
            .flat_map(|(key, value)| [key.to_vec(), value.clone()]);
        pieces::join(pieces)
    };
    rows.iter().map(pieces).collect()
}
