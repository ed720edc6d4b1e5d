//! Makes one run, from the start of the servers to the verdict.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fastrand::Rng;
use lock_core::clock::{BootInstant, Clock};
use tempfile::TempDir;
use tokio::time::Instant;

use super::contender::{Orders, backend};
use super::fleet::Contender;
use super::network::Links;
use super::plan::{self, Hit, Mishap, Outage, Planned, Scope};
use super::report::Report;
use super::resource::Resource;
use super::servers::Cluster;
use super::{Backend, Settings};
use crate::checker;
use crate::history::assemble::assemble;
use crate::history::journal::{self, Journal};
use crate::history::{End, History};

const CONTENDERS: u32 = 6;
/// The tasks of a contender, which share a session.
const TASKS: u32 = 2;
const LOCKS: u32 = 3;
/// The longest pause of a task between two acquires.
const PAUSE: Duration = Duration::from_millis(100);
/// The usual limit of the work under a lock.
const WORK: Duration = Duration::from_millis(300);
/// How many holds of a hundred may last longer than that.
const LONG_HOLDS: u8 = 3;
/// How many of a hundred exclusive acquires are those of a sticky lock.
const STICKY: u8 = 20;
/// The time to live on which the faults depend. Contenders have from 2 to 5 s.
const TTL: Duration = Duration::from_secs(3);
const LONGEST_TTL: Duration = Duration::from_secs(5);
/// The time between two reports of the progress.
const PROGRESS: Duration = Duration::from_secs(5);
/// The time that a busy machine may add to the limits of the end.
const SLACK: Duration = Duration::from_secs(10);

/// Makes a run and judges it, with progress on stderr. Ends early, and stops all processes that it
/// started, once `interrupted` is set.
///
/// # Errors
/// Of kind `NotFound` if a server is not installed, with the command that installs it;
/// `Interrupted`; otherwise if a contender fails or a journal cannot be read or written.
///
/// # Panics
/// If a server does not start.
pub fn run(settings: Settings, interrupted: Arc<AtomicBool>) -> io::Result<Report> {
    if let Some(remedy) = settings.backend.missing() {
        let message = format!("{} is not installed: {remedy}", settings.backend.name());
        return Err(io::Error::new(io::ErrorKind::NotFound, message));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let folder = tempfile::Builder::new().prefix("chaos").tempdir()?;
    let mut run = runtime.block_on(Run::start(settings, folder, interrupted))?;
    runtime.block_on(run.make_faults())?;
    runtime.block_on(run.finish())
}

struct Run {
    settings: Settings,
    cluster: Box<dyn Cluster>,
    contenders: Vec<Contender>,
    resource: Resource,
    journal: Journal,
    faults: Vec<Planned>,
    locks: Vec<String>,
    folder: TempDir,
    interrupted: Arc<AtomicBool>,
}

async fn cluster(settings: Settings) -> Box<dyn Cluster> {
    match settings.backend {
        #[cfg(feature = "embedded")]
        Backend::Embedded => Box::new(super::servers::embedded::Embedded::start().await),
        #[cfg(feature = "etcd")]
        Backend::Etcd => Box::new(super::servers::etcd::Etcd::start(settings.nodes).await),
        #[cfg(feature = "zk")]
        Backend::Zk => Box::new(super::servers::zk::Zk::start(settings.nodes)),
    }
}

impl Run {
    async fn start(
        settings: Settings,
        folder: TempDir,
        interrupted: Arc<AtomicBool>,
    ) -> io::Result<Self> {
        let cluster = cluster(settings).await;
        let mut rng = Rng::with_seed(settings.seed);
        let scope = Scope {
            length: settings.length,
            ttl: TTL,
            contenders: CONTENDERS,
            members: u32::try_from(cluster.size()).expect("few"),
            isolates: cluster.isolates(),
        };
        let faults = plan::plan(&mut rng, scope, &scope);
        let orders = Orders {
            contender: 0,
            life: 0,
            url: String::new(),
            ttl: TTL,
            tasks: TASKS,
            pause: PAUSE,
            work: WORK,
            long_holds: LONG_HOLDS,
            locks: (0..LOCKS).map(|n| format!("counter-{n}")).collect(),
            // ZooKeeper allows it only while no session is open, and its log is read without it.
            sticky: STICKY,
            raises: settings.backend.name() != "zk",
            seed: 0,
            folder: folder.path().to_owned(),
        };
        let writes = |name| Journal::create(&folder.path().join(name));
        let resource = Resource::start(&orders.resource(), writes("resource.journal")?)?;
        let mut contenders = vec![];
        for contender in 0..CONTENDERS {
            let members = (0..cluster.size()).map(|member| cluster.address(member));
            let links = Links::to(members);
            let orders = Orders {
                contender,
                url: cluster.url(&links.addresses()),
                ttl: Duration::from_millis(rng.u64(2000..=5000)),
                seed: rng.u64(0..u64::MAX / 2),
                ..orders.clone()
            };
            contenders.push(Contender::start(orders, links)?);
        }
        Ok(Run {
            settings,
            cluster,
            contenders,
            resource,
            journal: writes("faults.journal")?,
            faults,
            locks: orders.locks,
            folder,
            interrupted,
        })
    }

    /// Carries out the plan. At its end all faults are over.
    async fn make_faults(&mut self) -> io::Result<()> {
        let started = Instant::now();
        let faults = self.faults.clone();
        let mut began: Vec<Option<BootInstant>> = vec![None; faults.len()];
        let mut last_report = Instant::now();
        for action in plan::agenda(&faults) {
            while started.elapsed() < action.at {
                let left = action.at.saturating_sub(started.elapsed());
                tokio::time::sleep(left.min(Duration::from_millis(200))).await;
                if last_report.elapsed() >= PROGRESS {
                    last_report = Instant::now();
                    self.tell(started.elapsed(), began.iter().flatten().count());
                }
                self.all_live()?;
            }
            let hit = faults[action.fault].hit;
            if action.begins {
                began[action.fault] = Some(self.journal.now());
                self.begin(hit);
            } else if let Some(from) = began[action.fault] {
                self.end(hit)?;
                self.journal.write_fault(from, hit.target(), hit.name());
            }
        }
        tokio::time::sleep(self.settings.length.saturating_sub(started.elapsed())).await;
        Ok(())
    }

    fn begin(&mut self, hit: Hit) {
        match hit {
            Hit::Contender(n, mishap) => {
                let contender = &mut self.contenders[n as usize];
                match mishap {
                    Mishap::Pause => contender.pause(),
                    Mishap::Kill => contender.kill(&self.journal),
                    Mishap::Link(member, trouble) => contender.links.begin(member, trouble),
                }
            }
            Hit::Member(n, Outage::Pause) => self.cluster.pause(n as usize),
            Hit::Member(n, Outage::Kill) => self.cluster.kill(n as usize),
            Hit::Member(n, Outage::Isolate) => self.cluster.isolate(n as usize),
        }
    }

    fn end(&mut self, hit: Hit) -> io::Result<()> {
        match hit {
            Hit::Contender(n, mishap) => {
                let contender = &mut self.contenders[n as usize];
                match mishap {
                    Mishap::Pause => contender.resume(),
                    Mishap::Kill => contender.restart()?,
                    Mishap::Link(member, trouble) => contender.links.end(member, trouble),
                }
            }
            Hit::Member(n, Outage::Pause) => self.cluster.resume(n as usize),
            Hit::Member(n, Outage::Kill) => self.cluster.start(n as usize),
            Hit::Member(n, Outage::Isolate) => self.cluster.rejoin(n as usize),
        }
        Ok(())
    }

    fn tell(&self, elapsed: Duration, faults: usize) {
        let tally = self.resource.tally();
        super::tell(format_args!(
            "{} of {} s: {faults} faults, {} writes accepted, {} refused as stale",
            elapsed.as_secs(),
            self.settings.length.as_secs(),
            tally.accepted,
            tally.rejected,
        ));
    }

    /// Fails if a contender has ended before it was ordered to.
    fn all_live(&mut self) -> io::Result<()> {
        if self.interrupted.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        for contender in &mut self.contenders {
            if contender.has_ended().map_err(io::Error::other)? {
                return Err(io::Error::other("a contender has ended before its time"));
            }
        }
        Ok(())
    }

    /// Waits for the tasks that wait, reads all journals, and judges.
    async fn finish(mut self) -> io::Result<Report> {
        let store = self.cluster.store(LONGEST_TTL);
        let healed = Clock::system().now();
        super::tell("no more faults: waiting for those who wait");
        fs::write(self.folder.path().join("stop"), "")?;
        let limit = store.ttl + store.recovery + SLACK;
        let deadline = Instant::now() + limit;
        let mut waiting = self.contenders.len();
        while waiting > 0 && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(50)).await;
            waiting = 0;
            for contender in &mut self.contenders {
                waiting += usize::from(!contender.has_ended().map_err(io::Error::other)?);
            }
        }
        // A client that could not close its session leaves the session to its time to live.
        self.queues_empty(Instant::now() + limit).await;
        let over = Clock::system().now();
        let account = self.cluster.account().await;
        self.contenders.clear();
        let mut history = read(self.folder.path())?;
        history.entries = account.entries;
        history.offsets = account.offsets;
        history.seen = account.seen;
        history.gaps = account.gaps;
        history.store = store;
        history.end = End {
            healed: Some(healed),
            over: Some(over),
        };
        let violations = checker::check(&history);
        Ok(Report::new(
            self.settings,
            &history,
            self.resource.tally(),
            violations,
        ))
    }

    /// Waits until all queues are empty, or until the deadline.
    async fn queues_empty(&self, deadline: Instant) {
        let members = (0..self.cluster.size()).map(|member| self.cluster.address(member));
        let url = self.cluster.url(&members.collect::<Vec<_>>());
        let backend = backend(&url).expect("a URL of ours");
        while Instant::now() < deadline {
            let queues = backend.locks("", None, self.locks.len() + 1).await;
            if queues.is_ok_and(|queues| queues.iter().all(|queue| queue.entries.is_empty())) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

fn read(folder: &Path) -> io::Result<History> {
    let mut records = vec![];
    for path in journal::all(folder)? {
        records.extend(journal::read(&path)?);
    }
    assemble(records).map_err(io::Error::other)
}
