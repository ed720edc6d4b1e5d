//! The workloads: what one worker does over and over.

use std::fmt;
use std::str::FromStr;

use fastrand::Rng;
use serde::Serialize;
use turnlock::{AnyGuard, Error, ErrorKind, Locks, Mutex, Release, RwLock};

use crate::raw::Raw;
use crate::target::Target;

/// Of the readers' workload, one turn in so many is a writer's.
const WRITER_SHARE: u32 = 10;
/// What is drawn at random is the same in every run.
const SEED: u64 = 20_260_000;

/// What the workers do. Each of them has a session of its own, and ends one operation before it
/// begins the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Workload {
    /// Bare creates and deletes without any lock: the baseline.
    Raw,
    /// A lock for each.
    Uncontended,
    /// One lock for all.
    Contended,
    /// All queue on one lock at once, and each takes it once; over again when all have had it. An
    /// operation lasts from the common start.
    Drain,
    /// One read/write lock for all; one turn in ten is a writer's, as a fixed seed has it.
    Readers,
    /// Each time a lock of another name.
    Churn,
}

/// A text that names no workload.
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
    /// All of them, the baseline first.
    pub const ALL: [Workload; 6] = [
        Workload::Raw,
        Workload::Uncontended,
        Workload::Contended,
        Workload::Drain,
        Workload::Readers,
        Workload::Churn,
    ];

    /// Its name, as in reports and on the command line.
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

    /// How many workers make the baseline of this workload with so many: one where the lock goes from
    /// hand to hand, as many where they can go on side by side.
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

/// One worker. No trait: a future in a box for each operation would be a part of what is measured.
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
    /// One operation: for all but the baseline, a lock acquired and released.
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

/// A release that went wrong spoils the measurement.
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
