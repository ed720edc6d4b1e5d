//! The load generator: each worker begins its next operation when the last one has ended.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::sync::{Barrier, Semaphore, watch};
use tokio::task::JoinSet;
use turnlock::Error;

use crate::measurement::Measurement;
use crate::target::Target;
use crate::workload::{Worker, Workload};

/// The shortest warm-up, in which sessions are opened, and queues and caches filled. It also lasts
/// until every worker has been through an operation that began while all the others ran.
const WARM_UP: Duration = Duration::from_millis(300);

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
type Crew = JoinSet<Result<Histogram<u32>, Error>>;

async fn run(target: &Target, plan: Plan) -> Result<Measurement, Error> {
    let mut workers = Vec::with_capacity(plan.workers);
    for number in 0..plan.workers {
        workers.push(plan.workload.worker(target, number).await?);
    }
    let mut crew = Crew::new();
    let elapsed = match plan.workload {
        Workload::Drain => run_rounds(&mut crew, workers, plan.length).await?,
        _ => run_loops(&mut crew, workers, plan.length).await?,
    };
    let mut latency = histogram();
    while let Some(ended) = crew.join_next().await {
        let of_worker = outcome(ended)?;
        latency.add(of_worker).expect("it grows as it has to");
    }
    Ok(Measurement::new(target.name(), plan, elapsed, &latency))
}

/// Runs each worker by itself, over and over. Returns how long that was measured.
async fn run_loops(
    crew: &mut Crew,
    workers: Vec<Worker>,
    length: Duration,
) -> Result<Duration, Error> {
    let phase = Arc::new(AtomicU8::new(WARMING));
    let count = u32::try_from(workers.len()).expect("fewer workers than memory has bytes");
    let ready = Arc::new(Barrier::new(workers.len() + 1));
    let warm = Arc::new(Semaphore::new(0));
    for mut worker in workers {
        let (phase, ready, warm) = (phase.clone(), ready.clone(), warm.clone());
        crew.spawn(async move {
            let mut latency = histogram();
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
                    MEASURING => record(&mut latency, started),
                    _ => return Ok(latency),
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
    length: Duration,
) -> Result<Duration, Error> {
    let ready = Arc::new(Barrier::new(workers.len() + 1));
    let (signal, _) = watch::channel(None::<Instant>);
    for mut worker in workers {
        let (mut signal, ready) = (signal.subscribe(), ready.clone());
        crew.spawn(async move {
            let mut latency = histogram();
            worker.step().await?;
            loop {
                ready.wait().await;
                // An error means that the measurement was dropped.
                let Ok(()) = signal.changed().await else {
                    return Ok(latency);
                };
                let Some(started) = *signal.borrow_and_update() else {
                    return Ok(latency);
                };
                worker.step().await?;
                record(&mut latency, started);
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

fn outcome(
    ended: Result<Result<Histogram<u32>, Error>, tokio::task::JoinError>,
) -> Result<Histogram<u32>, Error> {
    ended.unwrap_or_else(|died| std::panic::resume_unwind(died.into_panic()))
}

/// Returns an empty histogram of nanoseconds, exact to three digits. It grows as it has to.
fn histogram() -> Histogram<u32> {
    let mut histogram = Histogram::new(3).expect("a valid precision");
    histogram.auto(true);
    histogram
}

fn record(latency: &mut Histogram<u32>, started: Instant) {
    let nanos = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
    latency.record(nanos).expect("it grows as it has to");
}
