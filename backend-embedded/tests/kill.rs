//! Kills a writing process again and again, at any moment. Every write that was acknowledged to it
//! is there when the folder is opened again, and revisions never go back or repeat.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use backend_embedded::machine::op::{
    Compare, CompareOp, CompareTarget, KeyRange, Op, Put, Range, Txn,
};
use backend_embedded::{Config, Coordinator, Error};
use bytes::Bytes;

/// The folder of the process to be killed.
const WORK: &str = "TURNLOCK_KILL_WORK";
/// How many times to kill (default 30).
const ROUNDS: &str = "TURNLOCK_KILL_ROUNDS";

const WRITERS: usize = 8;
const PATIENCE: Duration = Duration::from_secs(60);

fn put(key: String, value: String, lease: i64) -> Put {
    Put {
        key: key.into(),
        value: Some(value.into()),
        lease: Some(lease),
        prev_kv: false,
    }
}

/// Runs as the process to be killed. It is not a test by itself.
#[test]
#[ignore = "run by the test that kills it"]
fn writer() {
    let Some(work) = std::env::var_os(WORK) else {
        return;
    };
    // Ends with the test, also if the test itself is killed.
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(1);
    });
    let work = Path::new(&work);
    let coordinator = Coordinator::open(Config::new(work.join("data"))).unwrap();
    let journal = File::options()
        .append(true)
        .create(true)
        .open(work.join("journal"));
    let journal = Arc::new(Mutex::new(journal.unwrap()));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build();
    runtime.unwrap().block_on(async {
        let writers = (0..WRITERS).map(|writer| {
            tokio::spawn(write_for_ever(coordinator.clone(), journal.clone(), writer))
        });
        for writer in Vec::from_iter(writers) {
            writer.await.unwrap();
        }
    });
}

/// Counts up in a key of its own, with a lease for each count, and writes each count to the journal
/// once it is acknowledged.
async fn write_for_ever(coordinator: Coordinator, journal: Arc<Mutex<File>>, writer: usize) {
    let mut count = counts(&coordinator)
        .await
        .get(&writer)
        .copied()
        .unwrap_or(0);
    loop {
        count += 1;
        let lease = coordinator
            .grant(0, Duration::from_secs(600))
            .await
            .unwrap()
            .id;
        let text = count.to_string();
        let marker = put(format!("mark/{writer}/{count}"), text.clone(), lease);
        let txn = Txn {
            compare: vec![Compare {
                keys: KeyRange::One(marker.key.clone()),
                op: CompareOp::Equal,
                target: CompareTarget::Version(0),
            }],
            then: vec![
                Op::Put(put(format!("count/{writer}"), text, 0)),
                Op::Put(marker),
            ],
            or_else: Vec::new(),
        };
        let done = coordinator.txn(txn).await.unwrap();
        assert!(done.result.succeeded, "a count was written twice");
        let line = format!("{writer} {count} {} {lease}\n", done.revision);
        journal.lock().unwrap().write_all(line.as_bytes()).unwrap();
        if count % 3 == 0 {
            // The key of the count is deleted with its lease.
            coordinator.revoke(lease).await.unwrap();
        }
    }
}

async fn counts(coordinator: &Coordinator) -> BTreeMap<usize, u64> {
    let found = coordinator
        .range(Range::all(KeyRange::prefix("count/")))
        .await
        .unwrap();
    let number = |bytes: &[u8]| std::str::from_utf8(bytes).unwrap().parse::<u64>().unwrap();
    (found.result.kvs.iter())
        .map(|kv| {
            (
                number(&kv.key["count/".len()..]) as usize,
                number(&kv.value),
            )
        })
        .collect()
}

struct Noted {
    writer: usize,
    count: u64,
    revision: u64,
    lease: i64,
}

fn noted(work: &Path) -> Vec<Noted> {
    let journal = fs::read_to_string(work.join("journal")).unwrap_or_default();
    // The kill may cut off the last line.
    let whole = journal.rfind('\n').map_or("", |end| &journal[..end]);
    let line = |line: &str| {
        let fields: Vec<i64> = line
            .split(' ')
            .map(|field| field.parse().unwrap())
            .collect();
        Noted {
            writer: fields[0] as usize,
            count: fields[1] as u64,
            revision: fields[2] as u64,
            lease: fields[3],
        }
    };
    whole.lines().map(line).collect()
}

fn start(work: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["writer", "--exact", "--ignored"])
        .env(WORK, work)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

#[tokio::test]
async fn a_kill_loses_nothing_acknowledged() {
    let rounds = std::env::var(ROUNDS)
        .ok()
        .and_then(|rounds| rounds.parse().ok());
    let rounds: usize = rounds.unwrap_or(30);
    let root = tempfile::tempdir().unwrap();
    let work = root.path();
    let data = work.join("data");
    let journal = work.join("journal");
    let mut last_revision = 1;
    for round in 0..rounds {
        let before = fs::metadata(&journal).map_or(0, |journal| journal.len());
        let mut child = start(work);
        let wanted = before + fastrand::u64(1..3_000);
        let started = Instant::now();
        while fs::metadata(&journal).map_or(0, |journal| journal.len()) < wanted {
            assert!(started.elapsed() < PATIENCE, "the writer does not get on");
            assert!(child.try_wait().unwrap().is_none(), "the writer has ended");
            std::thread::sleep(Duration::from_millis(1));
        }
        if round == 0 {
            let refusal = Coordinator::open(Config::new(&data)).err();
            let Some(Error::AlreadyOpen { path, pid }) = refusal else {
                panic!("{refusal:?}");
            };
            assert_eq!((path, pid), (data.clone(), Some(child.id())));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        last_revision = check(work, round, last_revision).await;
    }
}

/// Compares the store with the journal, and returns the store's revision.
async fn check(work: &Path, round: usize, last_revision: u64) -> u64 {
    let coordinator = Coordinator::open(Config::new(work.join("data"))).unwrap();
    let noted = noted(work);
    let counts = counts(&coordinator).await;
    let leases = coordinator.leases().await.unwrap();
    let revision = coordinator.status().revision;
    assert!(
        revision >= last_revision,
        "round {round}: the revision went back"
    );
    let mut revisions = BTreeMap::new();
    for note in &noted {
        let context = || format!("round {round}: writer {}, {}", note.writer, note.count);
        assert!(counts[&note.writer] >= note.count, "{}: lost", context());
        assert!(note.revision <= revision, "{}", context());
        let other = revisions.insert(note.revision, (note.writer, note.count));
        assert_eq!(other, None, "{}: a revision twice", context());
        let mark = Bytes::from(format!("mark/{}/{}", note.writer, note.count));
        let found = coordinator
            .range(Range::all(KeyRange::One(mark)))
            .await
            .unwrap();
        match found.result.kvs.first() {
            Some(kv) => {
                assert_eq!((kv.create_revision, kv.lease), (note.revision, note.lease));
                assert!(leases.binary_search(&note.lease).is_ok(), "{}", context());
            }
            None => assert_eq!(note.count % 3, 0, "{}: lost", context()),
        }
    }
    for (writer, count) in counts {
        let last = noted.iter().rev().find(|note| note.writer == writer);
        let unanswered = count - last.map_or(0, |note| note.count);
        // A kill may come between the commit and the line in the journal: one for each kill.
        assert!(unanswered <= round as u64 + 1, "writer {writer}");
    }
    coordinator.close().unwrap();
    revision
}
