//! Tests the core's own promises when the coordinator is in trouble.

mod holds;
mod outage;
mod removals;
mod session;
mod sessions;
mod sticky;
mod values;
mod waits;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use lock_core::{Locks, Mutex};
use session::{Act, Script};

/// The limit for waits that normally take a second or two.
const PATIENCE: Duration = Duration::from_secs(30);
const HOUR: Duration = Duration::from_secs(3600);

/// How many times a request that cannot even be sent is tried while a caller waits for it.
const UNSENT_TRIES: usize = 6;

fn mutex(script: &Arc<Script>) -> Mutex {
    mutex_of(&script.locks(HOUR))
}

/// Returns the lock `a` of this session.
fn mutex_of(locks: &Locks) -> Mutex {
    locks.mutex("a").expect("a valid name")
}

/// Returns the script of a coordinator whose watches never report anything.
fn script() -> Arc<Script> {
    let script = Arc::<Script>::default();
    script.watch.will(Act::Hang);
    script
}

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .unwrap_or_else(|_| panic!("not in time: {what}"))
}

async fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let all = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    soon(what, all).await;
}
