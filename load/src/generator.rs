//! The load generator: each worker begins its next operation when the last one has ended.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{Barrier, Semaphore, watch};
use tokio::task::JoinSet;
use turnlock::Error;

use crate::latencies::Latencies;
use crate::measurement::Measurement;
use crate::target::Target;
use crate::workload::{Worker, Workload};

/// The shortest warm-up, in which sessions are opened, and queues and caches filled. It also lasts
/// until every worker has been through an operation that began while all the others ran.
const WARM_UP: Duration = Duration::from_millis(300);

/// The largest number of workers that the command accepts, and [`find_limit`](crate::find_limit)
/// tries. Each has a session of its own.
pub const MAX_WORKERS: usize = 16_384;

const WARMING: u8 = 0;
const MEASURING: u8 = 1;
const OVER: u8 = 2;

/// The plan of a measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// The workload.
    pub workload: Workload,
    /// The number of workers, at least one.
    pub workers: usize,
    /// The length of the measurement. A round of [`Workload::Drain`] that has begun is completed.
    pub length: Duration,
}

/// Measures a workload on a target, and ends the sessions that the workers opened. Runs on the
/// caller's tokio runtime. Figures can be compared if both were taken on
/// [`runtime`](crate::runtime)'s.
///
/// # Errors
/// The first error of any worker.
///
/// # Cancel safety
/// The workers stop. Their sessions stay open until [`Target::part`] ends them.
pub async fn measure(target: &Target, plan: Plan) -> Result<Measurement, Error> {
    let outcome = run(target, plan).await;
    let parted = target.part().await;
    let line = outcome?;
    parted.map(|()| line)
}

/// The workers at work. A drop stops them.
type Crew = JoinSet<Result<(), Error>>;

async fn run(target: &Target, plan: Plan) -> Result<Measurement, Error> {
    let mut workers = Vec::with_capacity(plan.workers);
    for number in 0..plan.workers {
        workers.push(plan.workload.worker(target, number).await?);
    }
    let mut crew = Crew::new();
    let latencies = Arc::new(Latencies::new());
    let elapsed = match plan.workload {
        Workload::Drain => run_rounds(&mut crew, workers, &latencies, plan.length).await?,
        _ => run_loops(&mut crew, workers, &latencies, plan.length).await?,
    };
    while let Some(ended) = crew.join_next().await {
        outcome(ended)?;
    }
    let latencies = latencies.sum();
    Ok(Measurement::new(target.name(), plan, elapsed, &latencies))
}

/// Runs each worker by itself, over and over. Returns how long that was measured.
async fn run_loops(
    crew: &mut Crew,
    workers: Vec<Worker>,
    latencies: &Arc<Latencies>,
    length: Duration,
) -> Result<Duration, Error> {
    let phase = Arc::new(AtomicU8::new(WARMING));
    let count = u32::try_from(workers.len()).expect("fewer workers than memory has bytes");
    let ready = Arc::new(Barrier::new(workers.len() + 1));
    let warm = Arc::new(Semaphore::new(0));
    for (number, mut worker) in workers.into_iter().enumerate() {
        let (phase, ready, warm) = (phase.clone(), ready.clone(), warm.clone());
        let latencies = latencies.clone();
        crew.spawn(async move {
            worker.step().await?;
            ready.wait().await;
            worker.step().await?;
            warm.add_permits(1);
            loop {
                // An operation in memory may never have to wait, and others must run.
                tokio::task::coop::consume_budget().await;
                let started = Instant::now();
                worker.step().await?;
                match phase.load(Ordering::Relaxed) {
                    WARMING => {}
                    MEASURING => latencies.record(number, started.elapsed()),
                    _ => return Ok(()),
                }
            }
        });
    }
    wait_unless_failed(crew, ready.wait()).await?;
    let warm_up = async { tokio::join!(warm.acquire_many(count), tokio::time::sleep(WARM_UP)) };
    wait_unless_failed(crew, warm_up).await?;
    let started = Instant::now();
    phase.store(MEASURING, Ordering::Relaxed);
    wait_unless_failed(crew, tokio::time::sleep(length)).await?;
    phase.store(OVER, Ordering::Relaxed);
    Ok(started.elapsed())
}

/// Runs all workers at once, one operation each, over and over. Returns how long that was measured.
async fn run_rounds(
    crew: &mut Crew,
    workers: Vec<Worker>,
    latencies: &Arc<Latencies>,
    length: Duration,
) -> Result<Duration, Error> {
    let ready = Arc::new(Barrier::new(workers.len() + 1));
    let (signal, _) = watch::channel(None::<Instant>);
    for (number, mut worker) in workers.into_iter().enumerate() {
        let (mut signal, ready) = (signal.subscribe(), ready.clone());
        let latencies = latencies.clone();
        crew.spawn(async move {
            worker.step().await?;
            loop {
                ready.wait().await;
                // An error means that the measurement was dropped.
                let Ok(()) = signal.changed().await else {
                    return Ok(());
                };
                let Some(started) = *signal.borrow_and_update() else {
                    return Ok(());
                };
                worker.step().await?;
                latencies.record(number, started.elapsed());
            }
        });
    }
    wait_unless_failed(crew, ready.wait()).await?;
    let mut elapsed = Duration::ZERO;
    while elapsed < length {
        let started = Instant::now();
        signal.send_replace(Some(started));
        wait_unless_failed(crew, ready.wait()).await?;
        elapsed += started.elapsed();
    }
    signal.send_replace(None);
    Ok(elapsed)
}

/// Waits for an event that the workers bring about, or returns the error of a worker that failed.
async fn wait_unless_failed<T>(
    crew: &mut Crew,
    event: impl Future<Output = T>,
) -> Result<(), Error> {
    tokio::pin!(event);
    loop {
        tokio::select! {
            _ = &mut event => return Ok(()),
            Some(ended) = crew.join_next() => outcome(ended)?,
        };
    }
}

fn outcome(ended: Result<Result<(), Error>, tokio::task::JoinError>) -> Result<(), Error> {
    ended.unwrap_or_else(|died| std::panic::resume_unwind(died.into_panic()))
}
