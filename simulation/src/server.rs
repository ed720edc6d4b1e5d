//! The server over all its lives: a coordinator on a disk, and what it did.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use backend_embedded::machine::op::{KeyRange, KeyValue, Range};
use backend_embedded::server::{Connection, Server as GrpcServer};
use backend_embedded::simulated::Disk;
use backend_embedded::{Coordinator, Error, Limits};
use lock_core::surroundings::simulated;
use testkit::chaos::servers::Account;
use testkit::chaos::servers::ledger::{Change, Ledger};
use testkit::history::journal::CommonClock;
use tokio::sync::mpsc;

use crate::faults::Outage;
use crate::fleet::Access;
use crate::network::{Host, Link, Socket};
use crate::process::{End, Process};
use crate::service::Service;
use crate::setup::Latency;
use crate::world::{World, lock};

/// The keys of all queues.
const PREFIX: &str = "turnlock/";
/// The ids of the server's processes, of which none is a contender's.
pub const FIRST_ID: u32 = 1_000_000;

type Listener = mpsc::UnboundedSender<std::io::Result<Box<dyn Connection>>>;

/// A server.
pub struct Server {
    world: World,
    rate: u64,
    commit: Latency,
    shared: Arc<Shared>,
    lives: u32,
    life: Option<Life>,
    wall_clock_seconds: i64,
    is_disk_broken: bool,
    /// Whether contenders are in its processes.
    is_embedded: bool,
}

/// What outlives the server's processes.
pub struct Shared {
    pub host: Arc<Host>,
    disk: Mutex<Disk>,
    ledger: Mutex<Ledger>,
    progress: Mutex<u64>,
    listener: Mutex<Option<(Listener, Arc<Process>)>>,
    slow: Mutex<Option<Duration>>,
}

struct Life {
    process: Arc<Process>,
    coordinator: Coordinator,
}

impl Shared {
    /// Opens a connection of a process to the server.
    pub async fn connect(
        &self,
        link: &Arc<Link>,
        client: &Arc<Process>,
    ) -> std::io::Result<Socket> {
        link.open().await?;
        let listener = lock(&self.listener).clone();
        let (listener, server) = listener.ok_or(std::io::ErrorKind::ConnectionRefused)?;
        let [client_end, server_end] = link.connect([client, &server]);
        // If the server ends meanwhile, the connection does, too.
        let _ = listener.send(Ok(Box::new(server_end)));
        Ok(client_end)
    }

    fn commit_time(&self, world: &World, usual: Latency) -> Duration {
        let slow = *lock(&self.slow);
        slow.unwrap_or_else(|| world.draw(|rng| usual.draw(rng)))
    }

    fn record<'a>(&self, world: &World, changes: impl Iterator<Item = (&'a KeyValue, bool)>) {
        let mut ledger = lock(&self.ledger);
        let mut progress = lock(&self.progress);
        for (kv, is_put) in changes {
            world.trace("change", kv.mod_revision, u64::from(is_put));
            *progress = (*progress).max(kv.mod_revision);
            ledger.record(to_change(kv, is_put), world.now());
        }
    }
}

impl Server {
    pub fn new(world: &World, rate: u64, commit: Latency, is_embedded: bool) -> Self {
        // The ids of the store are drawn by the process that creates it.
        let creator = Process::start(world, FIRST_ID - 1, rate);
        let disk = simulated::enter(&creator.as_simulated(), Disk::new);
        Server {
            world: world.clone(),
            rate,
            commit,
            shared: Arc::new(Shared {
                host: Arc::default(),
                disk: Mutex::new(disk),
                ledger: Mutex::default(),
                progress: Mutex::default(),
                listener: Mutex::default(),
                slow: Mutex::default(),
            }),
            lives: 0,
            life: None,
            wall_clock_seconds: 0,
            is_disk_broken: false,
            is_embedded,
        }
    }

    async fn try_start(&mut self) -> Result<(), Error> {
        let process = Process::start(&self.world, FIRST_ID + self.lives, self.rate);
        process.set_wall_clock(self.wall_clock_seconds);
        let disk = lock(&self.shared.disk).clone();
        let commit_time = {
            let (shared, world, usual) = (self.shared.clone(), self.world.clone(), self.commit);
            move || shared.commit_time(&world, usual)
        };
        let opened = simulated::enter(&process.as_simulated(), || {
            Coordinator::simulate(&disk, Limits::default(), commit_time)
        });
        let coordinator = match opened {
            Ok(coordinator) => coordinator,
            Err(error) => {
                process.end(End::Kill);
                return Err(error);
            }
        };
        self.observe(&coordinator).await?;
        let (listener, mut accepted) = mpsc::unbounded_channel();
        let connections = futures_util::stream::poll_fn(move |context| accepted.poll_recv(context));
        let server = GrpcServer::with_connections(coordinator.clone(), connections);
        simulated::spawn(&process.as_simulated(), async move {
            // It ends with the coordinator, or with its process.
            let _ = server.serve(std::future::pending()).await;
        });
        *lock(&self.shared.listener) = Some((listener, process.clone()));
        self.shared.host.set(None);
        self.lives += 1;
        self.life = Some(Life {
            process,
            coordinator,
        });
        Ok(())
    }

    /// Records what a new coordinator holds, and all that it will do.
    async fn observe(&self, coordinator: &Coordinator) -> Result<(), Error> {
        let range = Range::all(KeyRange::prefix(PREFIX));
        let present = coordinator.range(range).await?;
        let is_first = self.lives == 0;
        if !is_first {
            let first = *lock(&self.shared.progress) + 1;
            let keys = present.result.kvs.iter().map(|kv| to_change(kv, true));
            let mut ledger = lock(&self.shared.ledger);
            ledger.record_gap(first, present.revision, keys, self.world.now());
        }
        *lock(&self.shared.progress) = present.revision;
        let keys = KeyRange::prefix(PREFIX);
        let mut changes = coordinator.watch(keys, Some(present.revision + 1))?;
        let (shared, world) = (self.shared.clone(), self.world.clone());
        tokio::spawn(async move {
            while let Ok(batch) = changes.next().await {
                let events = batch
                    .events
                    .iter()
                    .map(|event| (&*event.kv, !event.deleted));
                shared.record(&world, events);
            }
        });
        Ok(())
    }

    fn disk(&self) -> Disk {
        lock(&self.shared.disk).clone()
    }

    /// Makes each commit take this long, or as long as usual.
    fn set_commit_time(&self, time: Option<Duration>) {
        *lock(&self.shared.slow) = time;
    }

    fn set_disk_broken(&mut self, is_broken: bool) {
        self.is_disk_broken = is_broken;
        self.disk().set_broken(is_broken);
    }

    fn set_wall_clock(&mut self, seconds: i64) {
        self.wall_clock_seconds = seconds;
        if let Some(life) = &self.life {
            life.process.set_wall_clock(seconds);
        }
    }
}

#[async_trait(?Send)]
impl Service for Server {
    fn host(&self) -> Arc<Host> {
        self.shared.host.clone()
    }

    /// As that of the embedded coordinator in chaos runs.
    fn recovery(&self) -> Duration {
        Duration::from_secs(2)
    }

    async fn start(&mut self) {
        if let Err(error) = self.try_start().await {
            panic!("the store cannot be opened: {error}");
        }
    }

    fn end(&mut self, end: End) {
        let Some(life) = self.life.take() else {
            return;
        };
        self.shared.host.set(Some(end));
        *lock(&self.shared.listener) = None;
        life.process.end(end);
        let mut disk = lock(&self.shared.disk);
        *disk = self.world.draw(|rng| match end {
            End::Kill => disk.after_kill(rng),
            End::PowerCut => disk.after_cut(rng),
        });
    }

    fn process(&self) -> Option<Arc<Process>> {
        self.life.as_ref().map(|life| life.process.clone())
    }

    fn access(&self) -> Access {
        match &self.life {
            Some(life) if self.is_embedded => {
                Access::InProcess(life.process.clone(), life.coordinator.clone())
            }
            _ => Access::Network(self.shared.clone()),
        }
    }

    fn begin(&mut self, outage: Outage) {
        match outage {
            Outage::FullDisk => self.disk().set_full(true),
            Outage::BrokenDisk => self.set_disk_broken(true),
            Outage::SlowDisk(time) => self.set_commit_time(Some(time)),
            Outage::WallClock(seconds) => self.set_wall_clock(seconds),
            Outage::Pause | Outage::Suspend | Outage::Kill | Outage::PowerCut => {}
        }
    }

    fn mend(&mut self, outage: Outage) {
        match outage {
            Outage::FullDisk => self.disk().set_full(false),
            Outage::BrokenDisk => self.set_disk_broken(false),
            Outage::SlowDisk(_) => self.set_commit_time(None),
            Outage::WallClock(_) => self.set_wall_clock(0),
            Outage::Pause | Outage::Suspend | Outage::Kill | Outage::PowerCut => {}
        }
    }

    /// A coordinator stops because its disk failed. It may do so after the disk is mended: when the
    /// commit is over.
    fn has_stopped(&self) -> bool {
        let closed = self.life.as_ref().map(|life| life.coordinator.closed());
        let closed = closed.and_then(futures_util::FutureExt::now_or_never);
        closed.is_some() && !self.is_disk_broken
    }

    fn account(&self) -> Account {
        lock(&self.shared.ledger).account()
    }

    fn digest(&self) -> u32 {
        self.disk().digest()
    }
}

fn to_change(kv: &KeyValue, is_put: bool) -> Change<'_> {
    Change {
        key: &kv.key,
        value: &kv.value,
        lease: kv.lease,
        created: kv.create_revision,
        revision: kv.mod_revision,
        is_put,
    }
}
