//! An acquire and a release in process, without an observer and with those that come with Turnlock.
//!
//! With `--instructions off`, or another of the names, makes a number of them and does nothing
//! else: for a counter of instructions, such as `valgrind --tool=callgrind`.

use std::sync::Arc;

use criterion::Criterion;
use load::runtime;
use turnlock::observe::Observer;
use turnlock::prometheus::{LockMetrics, collapse_ids};
use turnlock::{Mutex, Options};

/// How many acquires with their releases `--instructions` makes.
const COUNTED: u32 = 20_000;

const OBSERVERS: [&str; 3] = ["off", "prometheus", "prometheus, by lock"];

fn observer(name: &str) -> Option<Arc<dyn Observer>> {
    match name {
        "off" => None,
        "prometheus" => Some(LockMetrics::new().observer("embedded")),
        "prometheus, by lock" => {
            Some(LockMetrics::with_lock_label(collapse_ids).observer("embedded"))
        }
        other => panic!("no observer is called {other}"),
    }
}

fn lock(name: &str) -> Mutex {
    let mut options = Options::default();
    if let Some(observer) = observer(name) {
        options = options.with_observer(observer);
    }
    let locks = turnlock::connect_with("embedded:memory", options).expect("valid options");
    locks.mutex("a").expect("a valid name")
}

async fn acquire_and_release(lock: &Mutex) {
    let guard = lock.acquire().await.expect("the coordinator serves");
    let _ = guard.release().await.expect("an answer");
}

fn main() {
    let runtime = runtime().expect("the operating system gives threads");
    let arguments: Vec<_> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|it| it == "--instructions") {
        let name = arguments.get(at + 1).expect("--instructions NAME");
        let lock = lock(name);
        runtime.block_on(async {
            for _ in 0..COUNTED {
                acquire_and_release(&lock).await;
            }
        });
        return;
    }
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("observer");
    for name in OBSERVERS {
        let lock = lock(name);
        group.bench_function(name, |bencher| {
            bencher
                .to_async(&runtime)
                .iter(async || acquire_and_release(&lock).await);
        });
    }
    group.finish();
    criterion.final_summary();
}
