//! A load generator for Turnlock's locks: workloads over any coordinator, and beside them the bare
//! requests that a lock cannot do without.
//!
//! `turnlock bench` is built on this crate.
//!
//! ```
//! # #[cfg(feature = "embedded")]
//! # load::runtime().unwrap().block_on(async {
//! use std::time::Duration;
//! use load::{Target, Plan, Workload};
//!
//! let target = Target::connect("embedded:memory").await?;
//! let plan = Plan {
//!     workload: Workload::Contended,
//!     workers: 4,
//!     length: Duration::from_millis(50),
//! };
//! let line = load::measure(&target, plan).await?;
//! assert!(line.ops > 0 && line.p50_us <= line.p99_us);
//! # Ok::<(), turnlock::Error>(())
//! # }).unwrap();
//! ```

mod bottleneck;
mod generator;
mod latencies;
mod limit;
mod measurement;
mod raw;
mod report;
mod survey;
mod target;
mod workload;

pub use bottleneck::Bottleneck;
pub use generator::{MAX_WORKERS, Plan, measure};
pub use limit::{Knee, find_limit};
pub use measurement::Measurement;
pub use raw::{Baseline, Place, Raw};
pub use report::{Machine, Report, Row};
pub use survey::{RUNS, survey};
pub use target::Target;
pub use workload::{UnknownWorkload, Workload};

/// The threads of the executor that figures are taken on.
const LOAD_THREADS: usize = 2;

/// Returns the executor that figures are taken on. It has two threads on any machine, so that the
/// workers do not wait for each other's code.
///
/// # Errors
/// If the operating system gives no threads.
pub fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(LOAD_THREADS)
        .enable_all()
        .build()
}
