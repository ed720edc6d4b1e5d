//! The contenders: their processes, their links, and the faults that hit them.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use backend_embedded::{Coordinator, EmbeddedBackend};
use backend_etcd::{Config, Connecting, Connection, Connector, EtcdBackend};
use lock_core::Backend;
use lock_core::surroundings::simulated;
use testkit::chaos::Trouble;
use testkit::chaos::contender::{self, Orders, contend};
use testkit::chaos::resource::{Reply, Request, Resource};
use testkit::history::Event;
use testkit::history::journal::Journal;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::faults::Mishap;
use crate::network::{CLIENT, Link, SERVER};
use crate::process::{End, Process, ProcessClock};
use crate::server::Shared;
use crate::setup::Latency;
use crate::store::{Shared as StoreShared, StoreBackend};
use crate::world::World;

/// The address of the server, which stands for no machine.
const ADDRESS: &str = "localhost:2379";

/// What the tasks of all contenders share.
pub struct Stage {
    pub world: World,
    pub latency: Latency,
    pub resource: Arc<Resource>,
    pub is_over: AtomicBool,
}

/// What one contender's tasks see of it.
struct Seat(Arc<Stage>);

#[async_trait]
impl contender::Shared for Seat {
    fn is_over(&self) -> bool {
        self.0.is_over.load(Ordering::Relaxed)
    }

    async fn ask(&self, request: Request) -> io::Result<Reply> {
        let stage = self.0.clone();
        let delay = move || {
            let stage = &self.0;
            stage.world.draw(|rng| stage.latency.draw(rng))
        };
        let arrives = delay();
        // The request is under way whatever becomes of the contender.
        let served = tokio::spawn(async move {
            sleep(arrives).await;
            stage.resource.serve(request).await
        });
        let reply = served.await.map_err(io::Error::other)?;
        sleep(delay()).await;
        reply
    }
}

/// Opens the connections of one process.
struct Dial {
    link: Arc<Link>,
    process: Arc<Process>,
    server: Arc<Shared>,
}

impl Connector for Dial {
    fn connect(&self, _address: &str) -> Connecting {
        let (link, process) = (self.link.clone(), self.process.clone());
        let server = self.server.clone();
        Box::pin(async move {
            let socket = server.connect(&link, &process).await?;
            Ok(Box::new(socket) as Box<dyn Connection>)
        })
    }
}

/// How contenders reach the coordinator.
pub enum Access {
    /// Over the network, from processes of their own.
    Network(Arc<Shared>),
    /// In the coordinator's process.
    InProcess(Arc<Process>, Coordinator),
    /// By requests to a store, from processes of their own.
    Store(Arc<StoreShared>),
}

/// A contender over all its lives.
pub struct Contender {
    stage: Arc<Stage>,
    journal: Journal,
    orders: Orders,
    link: Arc<Link>,
    rate: u64,
    life: Option<Life>,
}

struct Life {
    process: Arc<Process>,
    contending: JoinHandle<io::Result<()>>,
}

impl Contender {
    /// Makes a contender, without a process.
    pub fn new(
        stage: &Arc<Stage>,
        journal: &Journal,
        orders: Orders,
        link: Arc<Link>,
        rate: u64,
    ) -> Self {
        Contender {
            stage: stage.clone(),
            journal: journal.clone(),
            orders,
            link,
            rate,
            life: None,
        }
    }

    /// Starts the contender's next life.
    pub fn start(&mut self, access: &Access) {
        self.orders.life += 1;
        self.orders.seed += 1;
        let process = match access {
            Access::Network(_) | Access::Store(_) => {
                let id = self.orders.contender * 1_000 + self.orders.life;
                Process::start(&self.stage.world, id, self.rate)
            }
            Access::InProcess(process, _) => process.clone(),
        };
        let clock = Arc::new(ProcessClock(process.clone()));
        let journal = self.journal.with_clock(clock);
        let orders = self.orders.clone();
        let seat = Arc::new(Seat(self.stage.clone()));
        let own = process.as_simulated();
        let backend = simulated::enter(&own, || self.backend(access, &process));
        let contending = simulated::spawn(&own, contend(orders, backend, journal, seat));
        self.life = Some(Life {
            process,
            contending,
        });
    }

    fn backend(&self, access: &Access, process: &Arc<Process>) -> Arc<dyn Backend> {
        match access {
            Access::Network(server) => {
                let dial = Dial {
                    link: self.link.clone(),
                    process: process.clone(),
                    server: server.clone(),
                };
                let config = Config::tcp([ADDRESS]).expect("an address");
                let config = config.with_connector(Arc::new(dial));
                EtcdBackend::new(config).expect("no certificates")
            }
            Access::InProcess(_, coordinator) => EmbeddedBackend::new(coordinator.clone()),
            Access::Store(store) => StoreBackend::new(store.clone(), self.link.clone()),
        }
    }

    /// Kills the process.
    pub fn kill(&mut self) {
        if let Some(life) = self.life.take() {
            life.process.end(End::Kill);
            self.note_death();
        }
    }

    /// Notes that the process has ended with the coordinator.
    pub fn end_with_the_server(&mut self) {
        if self.life.take().is_some() {
            self.note_death();
        }
    }

    fn note_death(&self) {
        self.journal.write(Event::Died {
            contender: self.orders.contender,
            life: self.orders.life,
        });
    }

    /// Returns whether the contender has ended by itself.
    ///
    /// # Panics
    /// If it failed.
    pub fn has_ended(&mut self) -> bool {
        let Some(life) = &mut self.life else {
            return true;
        };
        if !life.contending.is_finished() {
            return false;
        }
        let life = self.life.take().expect("it is there");
        let ended = futures_util::FutureExt::now_or_never(life.contending);
        match ended {
            Some(Ok(Ok(()))) | None => true,
            Some(failed) => panic!("contender {} failed: {failed:?}", self.orders.contender),
        }
    }

    /// Begins a fault.
    pub fn begin(&mut self, mishap: Mishap) {
        let process = self.life.as_ref().map(|life| &life.process);
        match (mishap, process) {
            (Mishap::Pause, Some(process)) => process.pause(),
            (Mishap::WallClock(seconds), Some(process)) => process.set_wall_clock(seconds),
            (Mishap::Pause | Mishap::WallClock(_), None) => {}
            (Mishap::Kill, _) => self.kill(),
            (Mishap::Link(Trouble::Silence), _) => self.link.silence([true, true]),
            (Mishap::Link(Trouble::Delay(by)), _) => self.link.delay(by),
            (Mishap::Link(Trouble::Swallow), _) => self.link.swallow(),
            (Mishap::Link(Trouble::Cut), _) => self.link.cut(),
            (Mishap::SilentRequests, _) => self.link.silence(only(CLIENT)),
            (Mishap::SilentReplies, _) => self.link.silence(only(SERVER)),
            (Mishap::Refusal, _) => {
                self.link.refuse(true);
                self.link.cut();
            }
        }
    }

    /// Ends a fault. A contender that was killed lives again.
    pub fn end(&mut self, mishap: Mishap, access: &Access) {
        let process = self.life.as_ref().map(|life| &life.process);
        match (mishap, process) {
            (Mishap::Pause, Some(process)) => process.resume(),
            (Mishap::WallClock(_), Some(process)) => process.set_wall_clock(0),
            (Mishap::Pause | Mishap::WallClock(_), None) => {}
            (Mishap::Kill, _) => self.start(access),
            (Mishap::Link(Trouble::Delay(_)), _) => self.link.delay(Duration::ZERO),
            (Mishap::Link(Trouble::Swallow), _) => self.link.cut(),
            (Mishap::Link(Trouble::Cut), _) => {}
            (
                Mishap::Link(Trouble::Silence) | Mishap::SilentRequests | Mishap::SilentReplies,
                _,
            ) => {
                self.link.silence([false, false]);
            }
            (Mishap::Refusal, _) => self.link.refuse(false),
        }
    }
}

fn only(side: usize) -> [bool; 2] {
    [side == CLIENT, side == SERVER]
}
