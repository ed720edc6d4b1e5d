//! The load: workers that each begin their next operation when the last one has ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::sync::Barrier;

use crate::peer::Peer;
use crate::workload::Workload;

/// Sessions are opened, and queues and caches filled, before anything counts.
const WARM_UP: Duration = Duration::from_millis(300);
/// The longest operation that is told from longer ones.
const LONGEST_US: u64 = 60_000_000;

/// What was measured.
pub struct Figures {
    pub ops: u64,
    pub elapsed: Duration,
    /// Microseconds an operation.
    pub latency: Histogram<u64>,
}

const WARMING: u8 = 0;
const MEASURING: u8 = 1;
const OVER: u8 = 2;

pub async fn measure(
    peer: &dyn Peer,
    workload: Workload,
    workers: usize,
    length: Duration,
) -> Figures {
    let phase = Arc::new(AtomicU8::new(WARMING));
    let ready = Arc::new(Barrier::new(workers + 1));
    let mut tasks = Vec::new();
    for number in 0..workers {
        let mut worker = workload.worker(peer, number).await;
        let (phase, ready) = (phase.clone(), ready.clone());
        tasks.push(tokio::spawn(async move {
            let mut latency = histogram();
            worker.step().await;
            ready.wait().await;
            loop {
                let started = Instant::now();
                worker.step().await;
                match phase.load(Ordering::Relaxed) {
                    WARMING => {}
                    MEASURING => latency.saturating_record(micros(started.elapsed())),
                    _ => return latency,
                }
            }
        }));
    }
    ready.wait().await;
    tokio::time::sleep(WARM_UP).await;
    let started = Instant::now();
    phase.store(MEASURING, Ordering::Relaxed);
    tokio::time::sleep(length).await;
    phase.store(OVER, Ordering::Relaxed);
    let elapsed = started.elapsed();
    let mut latency = histogram();
    for task in tasks {
        let of_worker = task.await.expect("a worker does not panic");
        latency.add(of_worker).expect("of the same bounds");
    }
    Figures {
        ops: latency.len(),
        elapsed,
        latency,
    }
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST_US, 3).expect("bounds in order")
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
