//! The workloads: what one worker does over and over.

use std::fmt;
use std::str::FromStr;

use fastrand::Rng;
use serde::Serialize;
use turnlock::{AnyGuard, Error, ErrorKind, Locks, Mutex, Release, RwLock};

use crate::raw::Raw;
use crate::target::Target;

/// In the workload `readers`, one turn in this many is a writer's.
const WRITER_SHARE: u32 = 10;
/// The seed of all random choices, so that every run makes the same ones.
const SEED: u64 = 20_260_000;

/// What the workers do over and over. Each worker has a session of its own, and ends one operation
/// before it begins the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Workload {
    /// Each worker creates and deletes an entry, without any lock: the baseline.
    Raw,
    /// Each worker takes a lock of its own.
    Uncontended,
    /// All workers take the same lock.
    Contended,
    /// All workers queue on one lock at once, and each takes it once. When all have had it, the
    /// next round starts. An operation lasts from the common start of its round.
    Drain,
    /// All workers take the same read/write lock. One turn in ten is a writer's, drawn with a fixed
    /// seed.
    Readers,
    /// Each worker takes a lock of another name each time.
    Churn,
}

/// The error for a text that names no workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownWorkload(String);

impl std::error::Error for UnknownWorkload {}

impl fmt::Display for UnknownWorkload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = Workload::ALL.map(Workload::name).join(", ");
        write!(f, "there is no workload {:?}: give one of {known}", self.0)
    }
}

impl Workload {
    /// All workloads, the baseline first.
    pub const ALL: [Workload; 6] = [
        Workload::Raw,
        Workload::Uncontended,
        Workload::Contended,
        Workload::Drain,
        Workload::Readers,
        Workload::Churn,
    ];

    /// Returns the name in reports and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Workload::Raw => "raw",
            Workload::Uncontended => "uncontended",
            Workload::Contended => "contended",
            Workload::Drain => "drain",
            Workload::Readers => "readers",
            Workload::Churn => "churn",
        }
    }

    /// Returns the number of workers of the baseline that this workload with `workers` is compared
    /// with: one where the lock goes from hand to hand, `workers` where they run side by side.
    pub fn baseline(self, workers: usize) -> usize {
        match self {
            Workload::Contended | Workload::Drain => 1,
            Workload::Raw | Workload::Uncontended | Workload::Readers | Workload::Churn => workers,
        }
    }

    pub(crate) async fn worker(self, target: &Target, number: usize) -> Result<Worker, Error> {
        let turns = |name: String| {
            target
                .session()?
                .mutex(target.lock(&name))
                .map(Worker::Turns)
        };
        match self {
            Workload::Raw => match target.raw(number).await? {
                Some(raw) => Ok(Worker::Bare(raw)),
                None => Err(Error::new(
                    ErrorKind::Unsupported,
                    format!("the bare requests of {} are not known", target.name()),
                )),
            },
            Workload::Uncontended => turns(format!("own-{number}")),
            Workload::Contended => turns("shared".into()),
            Workload::Drain => turns("drained".into()),
            Workload::Readers => Ok(Worker::Readers {
                lock: target.session()?.rwlock(target.lock("read"))?,
                random: Rng::with_seed(SEED + number as u64),
            }),
            Workload::Churn => Ok(Worker::Churn {
                locks: target.session()?,
                prefix: target.lock(&format!("churn-{number}")),
                next: 0,
            }),
        }
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Workload {
    type Err = UnknownWorkload;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let named = Workload::ALL.into_iter().find(|w| w.name() == text);
        named.ok_or_else(|| UnknownWorkload(text.to_owned()))
    }
}

/// One worker. This is no trait, because the boxed future of each operation would be measured too.
pub(crate) enum Worker {
    Bare(Box<dyn Raw>),
    Turns(Mutex),
    Readers {
        lock: RwLock,
        random: Rng,
    },
    Churn {
        locks: Locks,
        prefix: String,
        next: u64,
    },
}

impl Worker {
    /// Runs one operation: a lock is acquired and released, or, for the baseline, an entry created
    /// and deleted.
    pub(crate) async fn step(&mut self) -> Result<(), Error> {
        let guard: AnyGuard = match self {
            Worker::Bare(raw) => return raw.pair().await,
            Worker::Turns(lock) => lock.acquire().await?.into(),
            Worker::Readers { lock, random } => match random.u32(..WRITER_SHARE) {
                0 => lock.write().await?.into(),
                _ => lock.read().await?.into(),
            },
            Worker::Churn {
                locks,
                prefix,
                next,
            } => {
                let name = format!("{prefix}/{next}");
                *next += 1;
                locks.mutex(name)?.acquire().await?.into()
            }
        };
        check_released(guard.release().await?)
    }
}

/// Returns an error if a lock was not released, which would spoil the measurement.
fn check_released(release: Release) -> Result<(), Error> {
    match release {
        Release::Released => Ok(()),
        other => Err(Error::new(
            ErrorKind::Unreachable,
            format!("a release was not carried out: {other:?}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workloads_are_named_as_they_are_reported() {
        for workload in Workload::ALL {
            assert_eq!(workload.name().parse(), Ok(workload));
            let reported = serde_json::to_value(workload).expect("a name");
            assert_eq!(reported, workload.name());
        }
        let unknown = "fast".parse::<Workload>().expect_err("no such workload");
        assert!(
            unknown
                .to_string()
                .contains("\"fast\": give one of raw, uncontended")
        );
    }
}
