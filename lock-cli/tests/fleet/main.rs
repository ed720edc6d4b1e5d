//! Tests a fleet of processes that edit one JSON file or one table. One of them surely comes too
//! late, and some are paused or killed all the time.
//!
//! The tests make a few hundred edits. `TURNLOCK_FLEET_EDITS=10000` is the full form: it takes
//! minutes.

mod checker;
mod server;
mod store;
mod worker;

#[path = "../support/mod.rs"]
mod support;

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Trial};
use rustix::process::Signal;
use server::Postgres;
use store::Store;
use support::{Home, Running, Server, eventually, signal, stopped};
use turnlock::fence::FencingToken;
use turnlock::{LockName, Token};
use worker::Note;

/// The share of the processes that each round of faults hits, on average.
const SHARE: f64 = 0.3;
/// The time to live of their sessions. Pauses are up to twice as long.
const TTL: Duration = Duration::from_secs(2);
/// The time limit of the test. An edit takes milliseconds; a fault that hits the holder costs the
/// time to live.
const LIMIT: Duration = Duration::from_secs(60 * 60);

fn main() -> ExitCode {
    if let Some(ended) = worker::main(TTL) {
        return ended;
    }
    let trials = [
        Trial::test("eight_processes_edit_a_file", || {
            play(8, edits(400), |home| {
                format!("file:{}", home.file("ledger.json").display())
            });
            Ok(())
        }),
        Trial::test("four_processes_write_to_sqlite", || {
            play(4, edits(100), |home| {
                format!("sqlite:{}", home.file("ledger.db").display())
            });
            Ok(())
        }),
        Trial::test("four_processes_write_to_postgresql", || {
            let server = Postgres::start();
            play(4, edits(100), |_| format!("postgres:{}", server.address()));
            Ok(())
        }),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials.into()).exit_code()
}

fn edits(short: usize) -> usize {
    std::env::var("TURNLOCK_FLEET_EDITS").map_or(short, |n| n.parse().expect("a number"))
}

fn play(processes: usize, edits: usize, store: impl FnOnce(&Home) -> String) {
    let home = Home::new();
    let server = Server::start(&home);
    let url = store(&home);
    let mut store = Store::open(&url).expect("it opens");
    let over = AtomicBool::new(false);
    let started = Instant::now();
    let mut faults = Faults::default();
    let reads = std::thread::scope(|scope| {
        let reader = scope.spawn(|| checker::read_all_the_time(&url, &over));
        let mut lives = 0;
        let mut spawn = || {
            lives += 1;
            worker::spawn(&home, &server.url(), &url, lives, edits)
        };
        let mut workers: Vec<Running> = (0..processes).map(|_| spawn()).collect();
        let first = workers.first().expect("there are some");
        oversleep(&home, &mut store, first.id());
        let mut done = || store.length().expect("it reads") >= edits;
        while !done() {
            assert!(started.elapsed() < LIMIT, "not done within {LIMIT:?}");
            assert!(!reader.is_finished(), "the reader has found a fault");
            for worker in &mut workers {
                if worker.ended() && !done() {
                    let ended = std::mem::replace(worker, spawn());
                    checker::must_have_been_killed(ended);
                    faults.killed += 1;
                }
            }
            faults.round(&workers);
        }
        for worker in workers {
            signal(worker.id(), Signal::CONT);
            checker::must_be_done_or_killed(worker);
        }
        over.store(true, Ordering::Relaxed);
        reader
            .join()
            .expect("every read parses and goes on from the one before")
    });
    let tally = checker::judge(&home, &mut store);
    assert!(tally.in_store >= edits);
    assert!(tally.stale > 0, "at least one came too late");
    // The very first process wakes only now.
    let [first, ..] = store.entries().expect("it reads")[..] else {
        panic!("there are entries");
    };
    let lock = LockName::new("ledger").expect("valid");
    let late = FencingToken::new(lock, Token(first[0]));
    let admitted = store.add(&late, first, || {}).expect("an answer");
    assert!(
        !admitted,
        "a stale token is refused by what it would damage"
    );
    assert_eq!(store.length().expect("it reads"), tally.in_store);
    println!(
        "{} edits in {:?}: {} acknowledged, {} refused as stale, {} by processes that were killed \
         before the answer; {} pauses, {} kills, {reads} reads",
        tally.in_store,
        started.elapsed(),
        tally.acknowledged,
        tally.stale,
        tally.in_store - tally.acknowledged,
        faults.paused,
        faults.killed,
    );
}

/// Wakes the first process, which has the lock and stands still, when another process has written.
/// The write of the first process must be refused.
fn oversleep(home: &Home, store: &mut Store, sleeper: u32) {
    eventually("the first has the lock and stands still", || {
        stopped(sleeper)
    });
    let before = store.length().expect("it reads");
    eventually("another gets the lock, and writes", || {
        store.length().expect("it reads") > before
    });
    signal(sleeper, Signal::CONT);
    eventually("the late write is refused", || {
        checker::notes(home, Note::Stale).any(|(life, _)| life == worker::SLEEPER)
    });
}

#[derive(Default)]
struct Faults {
    paused: usize,
    killed: usize,
}

impl Faults {
    /// Hits some of the processes at random moments, and returns when all paused ones have been
    /// continued.
    fn round(&mut self, workers: &[Running]) {
        let mut asleep = Vec::new();
        for worker in workers.iter().filter(|_| fastrand::f64() < SHARE) {
            std::thread::sleep(Duration::from_millis(fastrand::u64(0..40)));
            if fastrand::f64() < 0.3 {
                signal(worker.id(), Signal::KILL);
            } else {
                signal(worker.id(), Signal::STOP);
                self.paused += 1;
                // Most pauses are short, and some are longer than the lock lasts.
                let pause = (TTL * 2).mul_f64(fastrand::f64().powi(3));
                asleep.push((Instant::now() + pause, worker.id()));
            }
        }
        asleep.sort_unstable();
        for (until, pid) in asleep {
            std::thread::sleep(until.saturating_duration_since(Instant::now()));
            signal(pid, Signal::CONT);
        }
        // As much time passes without faults, so that the lock also changes hands without them.
        std::thread::sleep(Duration::from_millis(fastrand::u64(0..1000)));
    }
}
