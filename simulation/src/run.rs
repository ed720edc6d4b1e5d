//! One run, from the start of the server to the verdict.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fastrand::Rng;
use lock_core::clock::BootInstant;
use testkit::chaos::contender::Orders;
use testkit::chaos::plan::{self, Planned, Scope};
use testkit::chaos::resource::Resource;
use testkit::checker::{self, Blame};
use testkit::history::assemble::assemble;
use testkit::history::journal::{CommonClock, Journal};
use testkit::history::{End as RunEnd, History, Record, Store};
use tokio::runtime::{Builder, RngSeed};
use tokio::time::{Instant, sleep, sleep_until};

use crate::faults::{Fault, Outage, Simulated};
use crate::fleet::{Contender, Stage};
use crate::network::Link;
use crate::process::End;
use crate::server::Server;
use crate::service::Service;
use crate::setup::{Cast, Setup, Tier};
use crate::store;
use crate::summary::Outcome;
use crate::world::World;

/// Contenders have times to live from 2 to 5 s.
const LONGEST_TTL: Duration = Duration::from_secs(5);
/// The time between two looks at what has ended.
const STEP: Duration = Duration::from_millis(100);
/// What is waited for in addition to the limits of the checker.
const SLACK: Duration = Duration::from_secs(10);

/// Makes a run and judges it.
pub fn run(setup: Setup, is_printed: bool) -> Outcome {
    fastrand::seed(setup.seed);
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .rng_seed(RngSeed::from_bytes(&setup.seed.to_le_bytes()))
        .build()
        .expect("a runtime without I/O");
    runtime.block_on(async {
        let mut run = Run::start(setup, is_printed).await;
        run.make_faults().await;
        run.finish().await
    })
}

/// Makes the service of a run, in which all trouble is over after this time.
fn serve(tier: Tier, world: &World, cast: &Cast, healed: Duration) -> Box<dyn Service> {
    let (rate, commit) = (cast.server_rate, cast.commit);
    match tier {
        Tier::Grpc => Box::new(Server::new(world, rate, commit, false)),
        Tier::Embedded => Box::new(Server::new(world, rate, commit, true)),
        Tier::Core => Box::new(store::Store::new(world, rate, commit, healed)),
    }
}

struct Run {
    setup: Setup,
    world: World,
    stage: Arc<Stage>,
    journal: Journal,
    service: Box<dyn Service>,
    contenders: Vec<Contender>,
    faults: Vec<Planned<Fault>>,
    /// What the rules know of the store.
    store: Store,
}

impl Run {
    async fn start(setup: Setup, is_printed: bool) -> Self {
        let world = World::new(setup.seed, is_printed);
        let mut rng = Rng::with_seed(setup.seed);
        let cast = Cast::draw(&mut rng, setup.profile);
        let scope = Scope {
            length: Duration::from_secs(setup.seconds),
            ttl: setup.profile.rhythm(),
            contenders: match setup.tier {
                Tier::Grpc | Tier::Core => cast.contenders,
                // In one process, all faults are those of the coordinator.
                Tier::Embedded => 0,
            },
            members: 1,
            isolates: false,
        };
        let simulated = Simulated {
            has_connections: setup.tier != Tier::Core,
        };
        let faults = plan::plan(&mut rng, scope, &simulated);
        let journal = Journal::in_memory(Arc::new(world.clone()));
        let stage = Arc::new(Stage {
            world: world.clone(),
            latency: cast.latency,
            resource: Arc::new(Resource::in_memory(journal.clone())),
            is_over: AtomicBool::new(false),
        });
        let service = serve(setup.tier, &world, &cast, scope.length);
        let store = Store {
            ours: true,
            recovery: service.recovery(),
            ttl: LONGEST_TTL,
            // The store of the core loses events, without any fault of the plan.
            handoff: (setup.tier != Tier::Core).then(|| cast.handoff_time()),
        };
        let contenders = (0..cast.contenders).map(|contender| {
            let orders = Orders {
                contender,
                life: 0,
                url: String::new(),
                ttl: Duration::from_millis(rng.u64(2000..=5000)),
                tasks: cast.tasks,
                pause: cast.pause,
                work: cast.work,
                long_holds: cast.long_holds,
                locks: (0..cast.locks).map(lock_name).collect(),
                sticky: setup.profile.sticky(),
                raises: true,
                seed: rng.u64(0..u64::MAX / 2),
                folder: PathBuf::new(),
            };
            let link = Link::new(&world, cast.latency, &service.host());
            let rate = cast.draw_rate(&mut rng);
            Contender::new(&stage, &journal, orders, link, rate)
        });
        let mut run = Run {
            setup,
            contenders: contenders.collect(),
            world,
            stage,
            journal,
            service,
            faults,
            store,
        };
        run.start_service().await;
        if setup.tier != Tier::Embedded {
            let access = run.service.access();
            for contender in &mut run.contenders {
                contender.start(&access);
            }
        }
        run
    }

    /// Starts the service on what it has kept.
    async fn start_service(&mut self) {
        self.service.start().await;
        if self.setup.tier == Tier::Embedded && !self.stage.is_over.load(Ordering::Relaxed) {
            let access = self.service.access();
            for contender in &mut self.contenders {
                contender.start(&access);
            }
        }
    }

    /// Starts the service again if it has stopped by itself, as a supervisor does.
    async fn supervise(&mut self) {
        if self.service.has_stopped() {
            self.end_service(End::Kill);
            self.start_service().await;
        }
    }

    /// Supervises the service up to this instant. It may stop some time after its disk has failed.
    async fn supervise_until(&mut self, end: Instant) {
        while Instant::now() < end {
            sleep_until(end.min(Instant::now() + STEP)).await;
            self.supervise().await;
        }
        self.supervise().await;
    }

    fn end_service(&mut self, end: End) {
        self.service.end(end);
        if self.setup.tier == Tier::Embedded {
            for contender in &mut self.contenders {
                contender.end_with_the_server();
            }
        }
    }

    /// Carries out the plan. At its end all faults are over.
    async fn make_faults(&mut self) {
        let start = Instant::now();
        let faults = self.faults.clone();
        let mut began: Vec<Option<BootInstant>> = vec![None; faults.len()];
        for action in plan::agenda(&faults) {
            self.supervise_until(start + action.at).await;
            let fault = faults[action.fault].hit;
            if action.begins {
                began[action.fault] = Some(self.journal.now());
                self.begin(fault);
            } else if let Some(from) = began[action.fault] {
                self.end(fault).await;
                self.journal.write_fault(from, fault.target(), fault.name());
            }
        }
        let end = start + Duration::from_secs(self.setup.seconds);
        self.supervise_until(end).await;
    }

    fn begin(&mut self, fault: Fault) {
        let process = self.service.process();
        match (fault, process) {
            (Fault::Contender(n, mishap), _) => self.contenders[n as usize].begin(mishap),
            (Fault::Server(Outage::Kill), _) => self.end_service(End::Kill),
            (Fault::Server(Outage::PowerCut), _) => self.end_service(End::PowerCut),
            (Fault::Server(Outage::Pause), Some(process)) => process.pause(),
            (Fault::Server(Outage::Suspend), Some(process)) => process.suspend(),
            (Fault::Server(outage), _) => self.service.begin(outage),
        }
    }

    async fn end(&mut self, fault: Fault) {
        let process = self.service.process();
        match (fault, process) {
            (Fault::Contender(n, mishap), _) => {
                let access = self.service.access();
                self.contenders[n as usize].end(mishap, &access);
            }
            (Fault::Server(Outage::Kill | Outage::PowerCut), _) => self.start_service().await,
            (Fault::Server(Outage::Pause | Outage::Suspend), Some(process)) => process.resume(),
            (Fault::Server(outage), _) => {
                self.service.mend(outage);
                self.supervise().await;
            }
        }
    }

    /// Waits for the tasks that wait, and judges.
    async fn finish(mut self) -> Outcome {
        let healed = self.world.now();
        self.stage.is_over.store(true, Ordering::Relaxed);
        let limit = self.store.ttl + self.store.recovery + SLACK;
        let deadline = Instant::now() + limit;
        while !self.contenders.iter_mut().all(Contender::has_ended) && Instant::now() < deadline {
            sleep(STEP).await;
            self.supervise().await;
        }
        // A client that could not close its session leaves the session to its time to live.
        let deadline = Instant::now() + limit;
        while !self.service.queues_are_empty() && Instant::now() < deadline {
            sleep(STEP).await;
            self.supervise().await;
        }
        let end = RunEnd {
            healed: Some(healed),
            over: Some(self.world.now()),
        };
        let records = self.journal.take_records();
        self.trace(&records);
        let history = self.to_history(records, end);
        let violations = checker::check(&history);
        let ours = violations.iter().filter(|found| found.blame == Blame::Ours);
        let ours: Vec<_> = ours.collect();
        let (trace, events) = self.world.trace_hash();
        Outcome::new(
            self.setup,
            self.world.elapsed(),
            (trace, events),
            &history,
            &ours,
        )
    }

    /// Adds what the parties recorded, and what was written to the disk.
    fn trace(&self, records: &[Record]) {
        for record in records {
            let text = serde_json::to_vec(record).expect("records serialise");
            let checksum = crc32fast::hash(&text);
            self.world.trace("record", record.at, u64::from(checksum));
        }
        let digest = u64::from(self.service.digest());
        self.world.trace("disk", digest, 0);
    }

    fn to_history(&self, records: Vec<Record>, end: RunEnd) -> History {
        let mut history = assemble(records).expect("every acquire was called");
        let account = self.service.account();
        history.entries = account.entries;
        history.offsets = account.offsets;
        history.seen = account.seen;
        history.gaps = account.gaps;
        history.store = self.store.clone();
        history.end = end;
        history
    }
}

/// Returns the name of a lock. Every second one lies below the one before it, and is another lock all
/// the same.
fn lock_name(number: u32) -> String {
    match number % 2 {
        0 => format!("counter-{number}"),
        _ => format!("counter-{}/below", number - 1),
    }
}
