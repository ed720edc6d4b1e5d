//! Measures the cost of locks that are only held: many of one process, on a coordinator in another.

use std::time::{Duration, Instant};

use benches::servers::Server;
use load::runtime;
use turnlock::{Guard, Locks};

use super::{Bound, Finding};

const LOCKS: usize = 100_000;
/// The number of acquires under way at once.
const AT_ONCE: usize = 64;
/// The time after which every held entry is watched.
const SETTLED: Duration = Duration::from_secs(5);
/// The length of the measurement. It is long enough for everything that is done now and then.
const WATCHED: Duration = Duration::from_secs(150);
/// The promised client memory of a held lock.
const BYTES: f64 = 1024.0;
/// The promised processor time of all locks together, beyond that of one lock and its renewals.
const PROCESSOR: f64 = 1.0;

pub(super) fn findings() -> Vec<Finding> {
    let runtime = runtime().expect("the operating system gives threads");
    let server = Server::start("served");
    let locks = server.target().session().expect("valid options");
    let first = runtime.block_on(hold(&locks, 0, 1));
    let alone = runtime.block_on(processor_share(SETTLED));
    let before = resident_bytes();
    let started = Instant::now();
    let guards = runtime.block_on(hold_all(&locks));
    eprintln!("{LOCKS} locks taken in {:.1?}", started.elapsed());
    std::thread::sleep(SETTLED);
    let grown = resident_bytes().saturating_sub(before);
    let together = runtime.block_on(processor_share(WATCHED));
    eprintln!("processor: {alone:.3} % with one lock, {together:.3} % with all");
    let held = guards.iter().flatten().chain(&first);
    let lost = held.filter(|guard| guard.deadline().is_none()).count();
    runtime
        .block_on(locks.close())
        .expect("the coordinator serves");
    vec![
        Finding {
            what: format!("served: client memory of each of {LOCKS} locks"),
            measured: grown as f64 / LOCKS as f64,
            unit: " bytes",
            bound: Bound::AtMost(BYTES),
        },
        Finding {
            what: format!("served: processor time of {LOCKS} idle locks beyond that of one"),
            measured: (together - alone).max(0.0),
            unit: " %",
            bound: Bound::AtMost(PROCESSOR),
        },
        Finding {
            what: "served: of them lost meanwhile".into(),
            measured: lost as f64,
            unit: "",
            bound: Bound::AtMost(0.0),
        },
    ]
}

/// Acquires all locks. The guards are not in one list, because the list and the parts that it is
/// made from would exist at the same time.
async fn hold_all(locks: &Locks) -> Vec<Vec<Guard>> {
    let share = LOCKS / AT_ONCE;
    let tasks: Vec<_> = (0..AT_ONCE)
        .map(|task| {
            let locks = locks.clone();
            // The last task takes the remainder of the division.
            let end = if task + 1 == AT_ONCE {
                LOCKS
            } else {
                (task + 1) * share
            };
            tokio::spawn(async move { hold(&locks, 1 + task * share, 1 + end).await })
        })
        .collect();
    let mut guards = Vec::with_capacity(AT_ONCE);
    for task in tasks {
        guards.push(task.await.expect("a task does not panic"));
    }
    guards
}

async fn hold(locks: &Locks, from: usize, to: usize) -> Vec<Guard> {
    let mut guards = Vec::with_capacity(to - from);
    for number in from..to {
        let lock = locks.mutex(format!("idle/{number}")).expect("a valid name");
        guards.push(lock.acquire().await.expect("nobody else wants it"));
    }
    guards
}

/// Returns the share of one processor that this process uses, in percent.
async fn processor_share(length: Duration) -> f64 {
    let (before, started) = (processor_time(), Instant::now());
    tokio::time::sleep(length).await;
    let used = processor_time().saturating_sub(before);
    100.0 * used.as_secs_f64() / started.elapsed().as_secs_f64()
}

/// Returns the time that the threads of this process ran, to the nanosecond.
fn processor_time() -> Duration {
    let threads = std::fs::read_dir("/proc/self/task").expect("Linux tells");
    let nanos = threads.map(|thread| {
        let path = thread.expect("Linux tells").path().join("schedstat");
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let ran = text.split(' ').next().and_then(|field| field.parse().ok());
        ran.unwrap_or(0)
    });
    Duration::from_nanos(nanos.sum())
}

fn resident_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").expect("Linux tells");
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.expect("Linux tells") * 1024
}
