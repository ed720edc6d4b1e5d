//! The server over all its lives: a coordinator on a disk, and what it did.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use backend_embedded::machine::op::{KeyRange, KeyValue, Range};
use backend_embedded::server::{Connection, Server as GrpcServer};
use backend_embedded::simulated::Disk;
use backend_embedded::{Coordinator, Error, Limits};
use lock_core::surroundings::simulated;
use testkit::chaos::servers::ledger::{Change, Ledger};
use testkit::history::journal::CommonClock;
use tokio::sync::mpsc;

use crate::network::{Host, Link, Socket};
use crate::process::{End, Process};
use crate::setup::Latency;
use crate::world::{World, lock};

/// The keys of all queues.
const PREFIX: &str = "turnlock/";
/// The ids of the server's processes, of which none is a contender's.
const FIRST_ID: u32 = 1_000_000;

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
    pub fn new(world: &World, rate: u64, commit: Latency) -> Self {
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
        }
    }

    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Starts a process on what the last one left on the disk.
    ///
    /// # Errors
    /// If the store cannot be opened.
    pub async fn start(&mut self) -> Result<(), Error> {
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

    /// Returns the process and the coordinator, if the server runs.
    pub fn life(&self) -> Option<(&Arc<Process>, &Coordinator)> {
        let life = self.life.as_ref()?;
        Some((&life.process, &life.coordinator))
    }

    /// Ends the process.
    pub fn end(&mut self, end: End) {
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

    /// Returns whether the coordinator has stopped by itself.
    pub fn has_stopped(&self) -> bool {
        let closed = self.life.as_ref().map(|life| life.coordinator.closed());
        let closed = closed.and_then(futures_util::FutureExt::now_or_never);
        closed.is_some()
    }

    pub fn disk(&self) -> Disk {
        lock(&self.shared.disk).clone()
    }

    /// Makes each commit take this long, or as long as usual.
    pub fn set_commit_time(&self, time: Option<Duration>) {
        *lock(&self.shared.slow) = time;
    }

    pub fn set_wall_clock(&mut self, seconds: i64) {
        self.wall_clock_seconds = seconds;
        if let Some(life) = &self.life {
            life.process.set_wall_clock(seconds);
        }
    }

    /// Returns the history of the queues.
    pub fn account(&self) -> testkit::chaos::servers::Account {
        lock(&self.shared.ledger).account()
    }

    /// Returns whether all queues are empty.
    pub fn queues_are_empty(&self) -> bool {
        let Some(life) = &self.life else {
            return false;
        };
        let entries = lock(&self.shared.ledger).account().entries;
        let is_empty = entries.iter().all(|entry| entry.deleted.is_some());
        is_empty && !life.process.has_ended()
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
