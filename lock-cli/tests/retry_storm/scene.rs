//! A coordinator, and twenty client processes that reach it through proxies.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use turnlock::{Guard, LockName, Locks, Options, Release};

use crate::process::{self, Journal, Note, SHARED, Tasks};
use crate::proxy::{Proxy, Trouble};
use crate::support::{Home, PATIENCE, Running, Server, eventually, signal, text};

pub const PROCESSES: usize = 20;

/// How long there is trouble.
pub const OUTAGE: Duration = Duration::from_secs(60);

/// The time to live of the test's own session, which does not go through a proxy.
const OWN_TTL: Duration = Duration::from_secs(600);

/// The test holds the shared lock. All tasks that wait for it have places in its queue.
pub struct Scene {
    runtime: Runtime,
    locks: Locks,
    shared: Option<Guard>,
    trouble: watch::Sender<Trouble>,
    proxies: Vec<Proxy>,
    processes: Vec<Running>,
    tasks: Tasks,
    server: Server,
    home: Home,
}

impl Scene {
    pub fn set(ttl: Duration, tasks: Tasks) -> Self {
        let home = Home::new();
        let server = Server::start(&home);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        let options = Options::default().with_ttl(OWN_TTL);
        let locks = turnlock::connect_with(&server.url(), options).expect("a valid URL");
        let shared = runtime.block_on(locks.mutex(SHARED).expect("valid").acquire());
        let (trouble, troubles) = watch::channel(Trouble::None);
        let start = |_| Proxy::start(server.address().to_owned(), troubles.clone());
        let proxies: Vec<Proxy> = (0..PROCESSES).map(|n| runtime.block_on(start(n))).collect();
        let spawn = |(number, proxy): (usize, &Proxy)| {
            process::spawn(&home, &proxy.url(), number, ttl, tasks)
        };
        let processes = proxies.iter().enumerate().map(spawn).collect();
        let scene = Scene {
            shared: Some(shared.expect("free")),
            runtime,
            locks,
            trouble,
            proxies,
            processes,
            tasks,
            server,
            home,
        };
        scene.wait_for_places();
        eventually("every process holds its own lock", || {
            scene.count(|note| note == Note::Held) == PROCESSES
        });
        scene
    }

    /// Waits until every task that waits has a place in the queue.
    pub fn wait_for_places(&self) {
        eventually("all have places", || {
            self.waiting_tokens().len() == PROCESSES * self.tasks.waiting
        });
    }

    /// Returns the tokens of the tasks that wait for the shared lock. That of the test, which is the first, is left out.
    pub fn waiting_tokens(&self) -> Vec<u64> {
        let name = LockName::new(SHARED).expect("valid");
        let queue = self.runtime.block_on(self.locks.queue(&name));
        let tokens = queue.expect("an answer").entries;
        tokens.iter().skip(1).map(|entry| entry.token.0).collect()
    }

    /// Makes trouble, or ends it.
    pub fn set_trouble(&self, trouble: Trouble) {
        self.trouble.send_replace(trouble);
    }

    /// Makes trouble, and ends it after [`OUTAGE`]. Returns when it began and ended.
    pub fn endure(&self, trouble: Trouble) -> Outage {
        let begun = Instant::now();
        self.set_trouble(trouble);
        if trouble == Trouble::RefusesEnqueues {
            self.journals().for_each(|journal| journal.begin_to_ask());
        }
        std::thread::sleep(OUTAGE);
        self.set_trouble(Trouble::None);
        let ended = Instant::now();
        let calls = self.proxies.iter().map(|proxy| {
            let mut calls = proxy.calls();
            calls.retain(|call| (begun..ended).contains(call));
            calls.iter().map(|call| *call - begun).collect()
        });
        Outage {
            ended,
            calls: calls.collect(),
        }
    }

    /// Waits for each process's own lock, until it is granted. Returns when, in nanoseconds since the
    /// machine started.
    pub fn take_own_locks(&self) -> Vec<u64> {
        let take = |number| {
            let lock = self.locks.mutex(process::own_lock(number)).expect("valid");
            self.runtime.spawn(async move {
                let guard = lock.acquire().await.expect("an answer");
                let now = lock_core::clock::Clock::system().now().as_nanos();
                let released = guard.release().await.expect("an answer");
                assert_eq!(released, Release::Released);
                now
            })
        };
        let taking: Vec<_> = (0..PROCESSES).map(take).collect();
        let taken = taking.into_iter();
        taken
            .map(|taking| self.runtime.block_on(taking).expect("no panic"))
            .collect()
    }

    /// Gives the shared lock to the tasks that wait for it.
    pub fn release(&mut self) {
        let shared = self.shared.take().expect("released once");
        let released = self.runtime.block_on(shared.release());
        assert_eq!(released.expect("an answer"), Release::Released);
    }

    /// Waits until all tasks have been served and all processes have ended well. Returns the tokens
    /// of the shared lock in the order in which the tasks had it, and the time since this instant at
    /// which the last task was served.
    pub fn finish(self, since: Instant) -> (Vec<u64>, Duration) {
        let served = |note| matches!(note, Note::Turn(_) | Note::Served);
        let all = PROCESSES * (self.tasks.waiting + self.tasks.asking);
        let begun = Instant::now();
        while self.count(served) < all {
            if begun.elapsed() > PATIENCE || self.count(|note| note == Note::Failed) > 0 {
                self.report(served);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let took = since.elapsed();
        let mut turns: Vec<(u64, u64)> = Vec::new();
        for journal in self.journals() {
            turns.extend(
                journal
                    .notes()
                    .into_iter()
                    .filter_map(|(at, note)| match note {
                        Note::Turn(token) => Some((at, token)),
                        _ => None,
                    }),
            );
        }
        turns.sort_unstable();
        for process in self.processes {
            let output = process.wait();
            assert!(output.status.success(), "{}", text(&output.stderr));
        }
        self.server.stop();
        let tokens: Vec<u64> = turns.into_iter().map(|(_, token)| token).collect();
        let different: HashSet<_> = tokens.iter().collect();
        assert_eq!(different.len(), tokens.len(), "a token for each");
        (tokens, took)
    }

    /// Fails, and says how far each process has come.
    fn report(self, served: impl Fn(Note) -> bool) -> ! {
        let queue = self.waiting_tokens();
        let next = queue.first();
        println!("{} wait, the first with {next:?}", queue.len());
        let journals: Vec<Journal> = self.journals().collect();
        for (journal, process) in journals.iter().zip(self.processes) {
            signal(process.id(), Signal::KILL);
            let said = text(&process.wait().stderr);
            let (done, lost) = (
                journal.count(&served),
                journal.count(|n| n == Note::SessionEnded),
            );
            println!("{done} served, {lost} sessions lost: {said}");
        }
        panic!("not all tasks are served");
    }

    pub fn count(&self, like: impl Fn(Note) -> bool) -> usize {
        self.journals().map(|journal| journal.count(&like)).sum()
    }

    pub fn journals(&self) -> impl Iterator<Item = Journal> {
        (0..PROCESSES).map(|number| Journal::of(&self.home, number))
    }
}

/// What the clients did while there was trouble.
pub struct Outage {
    pub ended: Instant,
    /// For each process, when its calls came, since the beginning.
    calls: Vec<Vec<Duration>>,
}

impl Outage {
    /// Returns how many calls came from a process on average, after this time.
    pub fn average(&self, after: Duration) -> f64 {
        let calls: usize = self
            .calls
            .iter()
            .map(|calls| later(calls, after).len())
            .sum();
        calls as f64 / PROCESSES as f64
    }

    /// Returns the most calls that came from one process within a second, after this time.
    pub fn most_in_a_second(&self, after: Duration) -> usize {
        let most = |calls: &[Duration]| {
            let within = |first: &Duration| {
                let end = *first + Duration::from_secs(1);
                calls.partition_point(|call| *call < end)
                    - calls.partition_point(|call| call < first)
            };
            calls.iter().map(within).max().unwrap_or_default()
        };
        let all = self.calls.iter().map(|calls| most(later(calls, after)));
        all.max().unwrap_or_default()
    }
}

fn later(calls: &[Duration], after: Duration) -> &[Duration] {
    &calls[calls.partition_point(|call| *call < after)..]
}
