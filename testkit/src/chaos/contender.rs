//! Implements a contender: a process whose tasks acquire locks, work under them, give up, and
//! record all that they do and see.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use fastrand::Rng;
use futures_util::future::try_join_all;
use lock_core::guard_mode::GuardMode;
use lock_core::{
    AcquireOptions, Backend, Error, Guard, Locks, Mode, Options, Raised, State, Sticky,
};
use serde::{Deserialize, Serialize};
use tokio::time::{sleep, timeout};

use super::data::Data;
use super::recorder::{Recorder, within, within_turn};
use super::resource::{Client, Reply, Request, Values};
use crate::checker::{IDLE, OVERTIME};
use crate::history::journal::Journal;
use crate::history::{Event, OpId, Role};

/// The settings that a contender gets at its start.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Orders {
    /// The number of the contender.
    pub contender: u32,
    /// The number of its process.
    pub life: u32,
    /// The URL by which it reaches the coordinator.
    pub url: String,
    /// The time to live of its sessions.
    pub ttl: Duration,
    /// The number of its tasks, which share a session.
    pub tasks: u32,
    /// The longest pause of a task between two acquires.
    pub pause: Duration,
    /// The usual limit of the work under a lock.
    pub work: Duration,
    /// How many holds of a hundred may last as long as two times to live.
    pub long_holds: u8,
    /// The locks.
    pub locks: Vec<String>,
    /// How many of a hundred exclusive acquires are those of a sticky lock.
    #[serde(default)]
    pub sticky: u8,
    /// Whether tasks raise the token offset.
    pub raises: bool,
    /// The seed of its random choices. They depend on nothing else, except for the faults that hit
    /// it.
    pub seed: u64,
    /// The folder of the run.
    pub folder: PathBuf,
}

impl Orders {
    /// Returns the file to which it writes its records.
    pub fn journal(&self) -> PathBuf {
        let Orders {
            contender, life, ..
        } = self;
        self.folder.join(format!("{contender}.{life}.journal"))
    }

    /// Returns the socket of the resource.
    pub fn resource(&self) -> PathBuf {
        self.folder.join("resource")
    }

    /// Returns the file whose existence stops tasks from beginning anything new.
    pub fn stop(&self) -> PathBuf {
        self.folder.join("stop")
    }
}

/// What the tasks of a contender share with the rest of a run.
#[async_trait]
pub trait Shared: Send + Sync {
    /// Returns whether tasks have to stop.
    fn is_over(&self) -> bool;

    /// Sends a request to the resource, and returns its reply.
    async fn ask(&self, request: Request) -> io::Result<Reply>;
}

/// A run whose resource is another process.
#[async_trait]
impl Shared for Orders {
    fn is_over(&self) -> bool {
        self.stop().exists()
    }

    async fn ask(&self, request: Request) -> io::Result<Reply> {
        // Each request has a connection of its own, because a task that stops in the middle leaves a
        // reply unread.
        Client::connect(self.resource()).await?.ask(&request).await
    }
}

/// Runs a contender until its stop file exists.
pub fn main(orders: Orders) -> Result<(), Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let journal = Journal::create(&orders.journal())?;
    let backend = backend(&orders.url)?;
    let shared = Arc::new(orders.clone());
    runtime.block_on(contend(orders, backend, journal, shared))?;
    Ok(())
}

/// Runs the tasks of a contender until the run is over.
///
/// # Errors
/// If the resource cannot be reached.
pub async fn contend(
    orders: Orders,
    backend: Arc<dyn Backend>,
    journal: Journal,
    shared: Arc<dyn Shared>,
) -> io::Result<()> {
    let options = Options::default()
        .with_ttl(orders.ttl)
        .with_owner(format!("contender {}", orders.contender));
    let recorder = Recorder::new(backend, journal.clone());
    let locks = Locks::new(recorder, options).map_err(io::Error::other)?;
    let mut rng = Rng::with_seed(orders.seed);
    let next = Arc::new(AtomicU32::new(1));
    let sticky = (orders.sticky > 0).then(|| draw_sticky(&mut rng));
    let tasks = (0..orders.tasks).map(|_| {
        let task = Task {
            orders: orders.clone(),
            locks: locks.clone(),
            journal: journal.clone(),
            shared: shared.clone(),
            rng: rng.fork(),
            next: next.clone(),
            offset: 0,
            sticky,
        };
        task.run()
    });
    try_join_all(tasks.collect::<Vec<_>>()).await?;
    // If the coordinator cannot be reached, the session ends with its time to live.
    let _ = locks.close().await;
    Ok(())
}

/// Makes the backend of a URL.
pub fn backend(url: &str) -> Result<Arc<dyn Backend>, Error> {
    match url.split_once(':') {
        #[cfg(any(feature = "etcd", feature = "embedded"))]
        Some(("etcd", _)) => {
            let config = backend_etcd::Config::from_url(url)?;
            Ok(backend_etcd::EtcdBackend::new(config)?)
        }
        #[cfg(feature = "zk")]
        Some(("zk", _)) => {
            let config = backend_zk::Config::from_url(url)?;
            Ok(backend_zk::ZkBackend::new(config)?)
        }
        _ => Err(Error::new(
            lock_core::ErrorKind::Configuration,
            format!("contenders have no backend for {url:?}"),
        )),
    }
}

/// The ways in which a task asks for a lock.
#[derive(Debug, Clone, Copy)]
enum Wish {
    Wait,
    WaitFor(Duration),
    Try,
    CancelAfter(Duration),
}

struct Task {
    orders: Orders,
    locks: Locks,
    journal: Journal,
    shared: Arc<dyn Shared>,
    rng: Rng,
    next: Arc<AtomicU32>,
    /// The token offset, as far as the task was told.
    offset: u64,
    /// How sticky locks are kept, if there are any.
    sticky: Option<Sticky>,
}

/// Draws how a contender keeps its sticky locks.
fn draw_sticky(rng: &mut Rng) -> Sticky {
    Sticky::default()
        .with_idle(IDLE.mul_f64([0.0, 0.02, 0.2, 1.0][rng.usize(0..4)]))
        .with_turns([1, 3, 8][rng.usize(0..3)])
        .with_overtime(OVERTIME.mul_f64(rng.f64()))
        .with_cool_down(Duration::from_millis([0, 20, 500][rng.usize(0..3)]))
}

impl Task {
    async fn run(mut self) -> io::Result<()> {
        while !self.shared.is_over() {
            let op = OpId {
                contender: self.orders.contender,
                life: self.orders.life,
                number: self.next.fetch_add(1, Ordering::Relaxed),
            };
            match self.orders.raises && self.rng.u8(0..100) < 3 {
                true => self.raise(op).await,
                false => self.contend(op).await?,
            }
            sleep(self.orders.pause.mul_f64(self.rng.f64())).await;
        }
        Ok(())
    }

    /// Performs one acquire and the work that follows from it.
    async fn contend(&mut self, op: OpId) -> io::Result<()> {
        let lock = self.orders.locks[self.rng.usize(0..self.orders.locks.len())].clone();
        let rwlock = self.locks.rwlock(&*lock).expect("a valid name");
        if self.rng.u8(0..100) < 15 {
            let (wish, options) = self.wish(AcquireOptions::new().shared());
            let acquiring = within(op, rwlock.acquire_with(options));
            let call = (&*lock, Mode::Shared, Role::Contender);
            return self.acquire(op, call, wish, acquiring, |_| None).await;
        }
        let sticky = self
            .sticky
            .filter(|_| self.rng.u8(0..100) < self.orders.sticky);
        let (wish, options) = self.wish(AcquireOptions::new());
        let Some(sticky) = sticky else {
            let acquiring = within(op, rwlock.acquire_with(options));
            let call = (&*lock, Mode::Exclusive, Role::Contender);
            return self
                .acquire(op, call, wish, acquiring, |guard| Some(guard))
                .await;
        };
        let mutex = self.locks.mutex(&*lock).expect("a valid name");
        let mutex = mutex.sticky(sticky).expect("within bounds");
        let acquiring = within_turn(op, self.next.clone(), mutex.acquire_with(options));
        let call = (&*lock, Mode::Exclusive, Role::Turn);
        self.acquire(op, call, wish, acquiring, |guard| Some(guard))
            .await
    }

    /// Acquires a lock in this mode, and works under it: as a writer, if it is one.
    async fn acquire<M: GuardMode>(
        &mut self,
        op: OpId,
        (lock, mode, role): (&str, Mode, Role),
        wish: Wish,
        acquired: impl Future<Output = Result<Option<Guard<M>>, Error>>,
        to_writer: fn(&Guard<M>) -> Option<&Guard>,
    ) -> io::Result<()> {
        self.journal.write(Event::Acquire {
            op,
            lock: lock.to_owned(),
            mode,
            role,
        });
        let acquired = match wish {
            Wish::CancelAfter(limit) => timeout(limit, acquired).await,
            Wish::Wait | Wish::WaitFor(_) | Wish::Try => Ok(acquired.await),
        };
        match acquired {
            Ok(Ok(Some(guard))) => self.hold(op, lock, guard, to_writer).await?,
            Ok(Ok(None)) => {
                let why = "others have it".to_owned();
                self.journal.write(Event::Refused { op, why });
            }
            Ok(Err(error)) => {
                let why = format!("{:?}: {error}", error.kind());
                self.journal.write(Event::Refused { op, why });
            }
            Err(_) => self.journal.write(Event::Cancelled { op }),
        }
        Ok(())
    }

    /// Raises the token offset a little above the last that the task was told.
    async fn raise(&mut self, op: OpId) {
        let offset = self.offset + self.rng.u64(1..=1_000);
        self.journal.write(Event::Raise { op, offset });
        // In most cases the namespace is in use, and after an error the task knows nothing.
        if let Ok(Raised::To(offset)) = self.locks.raise_token_offset(offset).await {
            self.offset = offset.get();
            let offset = self.offset;
            self.journal.write(Event::Raised { op, offset });
        }
    }

    /// Draws how the task asks for the lock.
    fn wish<M: GuardMode>(&mut self, options: AcquireOptions<M>) -> (Wish, AcquireOptions<M>) {
        let wish = self.draw_wish();
        let options = match wish {
            Wish::Wait | Wish::CancelAfter(_) => options,
            Wish::WaitFor(limit) => options.timeout(limit),
            Wish::Try => options.no_wait(),
        };
        (wish, options)
    }

    fn draw_wish(&mut self) -> Wish {
        let limit = Duration::from_millis(self.rng.u64(0..2000));
        match self.rng.u8(0..100) {
            0..60 => Wish::Wait,
            60..75 => Wish::WaitFor(limit),
            75..85 => Wish::Try,
            _ => Wish::CancelAfter(limit),
        }
    }

    async fn hold<M: GuardMode>(
        &mut self,
        op: OpId,
        lock: &str,
        guard: Guard<M>,
        to_writer: fn(&Guard<M>) -> Option<&Guard>,
    ) -> io::Result<()> {
        let token = guard.token();
        self.journal.write(Event::Granted { op, token });
        let journal = self.journal.clone();
        // Some tasks stop when they learn of a loss, and others write on.
        let careless = self.rng.bool();
        let is_reported = AtomicBool::new(false);
        let loss = async {
            let why = guard.lost().await.to_string();
            journal.write(Event::Lost { op, why });
            is_reported.store(true, Ordering::Relaxed);
            if careless {
                std::future::pending::<()>().await;
            }
        };
        let worked = tokio::select! {
            biased;
            worked = self.work(op, lock, &guard, to_writer(&guard)) => worked,
            () = loss => Ok(()),
        };
        worked?;
        if !is_reported.into_inner() {
            self.journal.write(Event::Release { op });
            let _ = guard.release().await;
        }
        Ok(())
    }

    /// Reads both copies of the counter, pauses, and a writer writes both, increased by one. Some
    /// tasks use the value in the coordinator meanwhile.
    async fn work<M: GuardMode>(
        &mut self,
        op: OpId,
        lock: &str,
        guard: &Guard<M>,
        writer: Option<&Guard>,
    ) -> io::Result<()> {
        show(&self.journal, op, guard);
        let mut request = Request {
            op,
            lock: lock.to_owned(),
            token: guard.token(),
            write: None,
        };
        if writer.is_some() {
            let Values { fenced, bare } = self.shared.ask(request.clone()).await?.values;
            request.write = Some(Values {
                fenced: fenced + 1,
                bare: bare + 1,
            });
        }
        // When the run is over, those who still wait are to be served in time.
        let may_last = self.rng.u8(0..100) < self.orders.long_holds && !self.shared.is_over();
        let longest = match may_last {
            true => self.orders.ttl * 2,
            false => self.orders.work,
        };
        let steps = 4;
        let step = longest.mul_f64(self.rng.f64().powi(2)) / steps;
        let data = Data {
            op,
            key: lock,
            journal: &self.journal,
        };
        let uses_data = self.rng.u8(0..100) < 20;
        for number in 0..steps {
            sleep(step).await;
            show(&self.journal, op, guard);
            if uses_data {
                data.request(&mut self.rng, number, guard, writer).await;
            }
        }
        if writer.is_some() {
            self.shared.ask(request).await?;
            show(&self.journal, op, guard);
        }
        Ok(())
    }
}

/// Checks whether a hold is valid, and records the result.
fn show<M: GuardMode>(journal: &Journal, op: OpId, guard: &Guard<M>) {
    let asked = journal.now().as_nanos();
    let valid = !matches!(guard.state(), State::Lost(_));
    let until = guard.deadline();
    let until = until.map(|until| journal.to_common(until).as_nanos());
    journal.write(Event::Shown {
        op,
        asked,
        valid,
        until,
    });
}
