//! A store that follows the contract of a backend, and nothing more: it answers in any order, late or
//! never, and leaves callers in doubt, as the seed draws it.

mod backend;
mod state;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use lock_core::surroundings::simulated;
use lock_core::{Effect, Error, ErrorKind};
use testkit::chaos::servers::Account;
use testkit::history::journal::CommonClock;
use tokio::sync::{oneshot, watch};
use tokio::time::{sleep, timeout};

pub use backend::StoreBackend;

use crate::faults::Outage;
use crate::fleet::Access;
use crate::network::{CLIENT, Host, Link, SERVER};
use crate::process::{End, Process};
use crate::server::FIRST_ID;
use crate::service::Service;
use crate::setup::Latency;
use crate::world::{World, lock};
use state::{Now, State};

/// How long an attempt waits for its answer.
const ATTEMPT: Duration = Duration::from_secs(2);
/// How much later than others a request arrives that is late. Most of these are given up before.
const LATE: Duration = Duration::from_secs(4);
/// The time between two looks for sessions whose time is over.
const STEP: Duration = Duration::from_millis(100);

/// A store over all its lives.
pub struct Store {
    shared: Arc<Shared>,
    rate: u64,
    lives: u32,
}

/// What outlives the store's processes.
pub struct Shared {
    world: World,
    host: Arc<Host>,
    commit: Latency,
    /// How many of a hundred requests have each kind of trouble.
    trouble: u32,
    /// When all trouble is over.
    healed: Duration,
    state: Mutex<State>,
    process: Mutex<Option<Arc<Process>>>,
    disk: Mutex<Disk>,
    /// Is told of each change, and of each end of a process.
    changed: watch::Sender<()>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Disk {
    is_full: bool,
    is_broken: bool,
    slow: Option<Duration>,
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Arrives,
    IsLate,
    IsLost,
    /// It is carried out, and the answer is lost.
    Unanswered,
    /// It cannot be sent.
    Unsent,
}

impl Store {
    pub fn new(world: &World, rate: u64, commit: Latency, healed: Duration) -> Self {
        let shared = Shared {
            world: world.clone(),
            host: Arc::default(),
            commit,
            trouble: world.draw(|rng| rng.u32(0..=5)),
            healed,
            state: Mutex::default(),
            process: Mutex::default(),
            disk: Mutex::default(),
            changed: watch::Sender::new(()),
        };
        Store {
            shared: Arc::new(shared),
            rate,
            lives: 0,
        }
    }
}

impl Shared {
    /// Draws which of the kinds of trouble a request has, if any.
    fn draw_trouble(&self) -> Option<u32> {
        let number = self.world.draw(|rng| rng.u32(0..100));
        let is_over = self.world.elapsed() >= self.healed;
        number.checked_div(self.trouble).filter(|_| !is_over)
    }

    /// Runs a watch, which resolves with its event: or before, or in vain, or not at all.
    async fn watch(
        &self,
        link: &Link,
        watching: impl Future<Output = Result<(), Error>>,
    ) -> Result<(), Error> {
        let trouble = self.draw_trouble();
        match trouble {
            Some(0) => return Err(in_doubt()),
            // It reports something for no reason.
            Some(1) => return Ok(()),
            _ => {}
        }
        watching.await?;
        // An event is lost when it happens. After the trouble, none is.
        if trouble == Some(2) && self.world.elapsed() < self.healed {
            return std::future::pending().await;
        }
        link.pass(SERVER).await;
        Ok(())
    }

    fn draw_fate(&self) -> Fate {
        match self.draw_trouble() {
            Some(0) => Fate::IsLate,
            Some(1) => Fate::IsLost,
            Some(2) => Fate::Unanswered,
            Some(3) => Fate::Unsent,
            _ => Fate::Arrives,
        }
    }

    /// Sends a request, which is under way whatever becomes of its sender, and waits for the answer.
    async fn call<T: Send + 'static>(
        self: &Arc<Self>,
        link: &Arc<Link>,
        request: impl FnOnce(&mut State, Now) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let fate = self.draw_fate();
        let process = lock(&self.process).clone();
        let is_refused = self.host.ended().is_some() || link.refuses();
        let Some(process) = process.filter(|_| fate != Fate::Unsent && !is_refused) else {
            return Err(Error::new(ErrorKind::Unreachable, "nothing listens"));
        };
        let (answer, answered) = oneshot::channel();
        let (shared, link) = (self.clone(), link.clone());
        let own = process.clone();
        // A task of the store: it stands still and ends with the store's process.
        simulated::spawn(&process.as_simulated(), async move {
            link.pass(CLIENT).await;
            match fate {
                Fate::IsLate => {
                    let by = shared.world.draw(|rng| LATE.mul_f64(rng.f64()));
                    sleep(by).await;
                }
                Fate::IsLost => return sleep(ATTEMPT).await,
                Fate::Arrives | Fate::Unanswered | Fate::Unsent => {}
            }
            let done = shared.carry_out(&own, request).await;
            link.pass(SERVER).await;
            if fate == Fate::Unanswered {
                return sleep(ATTEMPT).await;
            }
            // The sender may have gone.
            let _ = answer.send(done);
        });
        match timeout(ATTEMPT, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => Err(in_doubt()),
        }
    }

    async fn carry_out<T>(
        &self,
        process: &Arc<Process>,
        request: impl FnOnce(&mut State, Now) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let disk = *lock(&self.disk);
        let usual = || self.world.draw(|rng| self.commit.draw(rng));
        sleep(disk.slow.unwrap_or_else(usual)).await;
        if disk.is_broken {
            return Err(in_doubt());
        }
        if disk.is_full {
            return Err(Error::new(ErrorKind::Exhausted, "the disk is full"));
        }
        let now = self.now(process);
        let done = {
            let mut state = lock(&self.state);
            state.expire(now);
            let done = request(&mut state, now);
            self.world
                .trace("step", state.revision(), u64::from(done.is_ok()));
            done
        };
        self.changed.send_replace(());
        done
    }

    fn now(&self, process: &Arc<Process>) -> Now {
        Now {
            own: process.as_simulated().running_time(),
            world: self.world.now(),
        }
    }
}

fn in_doubt() -> Error {
    Error::new(ErrorKind::Unreachable, "no answer").with_effect(Effect::Unknown)
}

#[async_trait(?Send)]
impl Service for Store {
    fn host(&self) -> Arc<Host> {
        self.shared.host.clone()
    }

    /// A waiter whose event was lost looks by itself after up to 10 s.
    fn recovery(&self) -> Duration {
        Duration::from_secs(2 + 10)
    }

    async fn start(&mut self) {
        let shared = self.shared.clone();
        let process = Process::start(&shared.world, FIRST_ID + self.lives, self.rate);
        self.lives += 1;
        lock(&shared.state).extend(shared.now(&process));
        *lock(&shared.process) = Some(process.clone());
        shared.host.set(None);
        simulated::spawn(&process.clone().as_simulated(), async move {
            loop {
                sleep(STEP).await;
                lock(&shared.state).expire(shared.now(&process));
                shared.changed.send_replace(());
            }
        });
    }

    fn end(&mut self, end: End) {
        if let Some(process) = lock(&self.shared.process).take() {
            self.shared.host.set(Some(end));
            process.end(end);
            self.shared.changed.send_replace(());
        }
    }

    fn process(&self) -> Option<Arc<Process>> {
        lock(&self.shared.process).clone()
    }

    fn access(&self) -> Access {
        Access::Store(self.shared.clone())
    }

    fn begin(&mut self, outage: Outage) {
        let mut disk = lock(&self.shared.disk);
        match outage {
            Outage::FullDisk => disk.is_full = true,
            Outage::BrokenDisk => disk.is_broken = true,
            Outage::SlowDisk(time) => disk.slow = Some(time),
            // It has no use for the wall clock, and the others end or stop its process.
            _ => {}
        }
    }

    fn mend(&mut self, _: Outage) {
        *lock(&self.shared.disk) = Disk::default();
    }

    fn has_stopped(&self) -> bool {
        false
    }

    fn account(&self) -> Account {
        lock(&self.shared.state).account().clone()
    }

    fn digest(&self) -> u32 {
        let kept = format!("{:?}", lock(&self.shared.state));
        crc32fast::hash(kept.as_bytes())
    }
}
