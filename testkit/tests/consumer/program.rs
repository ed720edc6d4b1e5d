//! A program outside of the workspace. It takes a lock, runs a part of the suite, and measures a
//! load on the coordinator whose URL is its argument.

use std::collections::HashMap;
use std::error::Error;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use conformance::{Live, Outcome};
use load::{Plan, Target, Workload};
use turnlock::Backend;

/// The groups of cases that are run.
const GROUPS: [&str; 4] = ["exclusion::", "order::", "sharing::", "tokens::"];
const TIME_LIMIT: Duration = Duration::from_secs(60);

fn main() -> Result<(), Box<dyn Error>> {
    let url = std::env::args().nth(1).ok_or("give a URL")?;
    let runtime = load::runtime()?;
    runtime.block_on(take_lock(&url))?;
    let live = Live::new(connect_namespaces(&url));
    run_suite(&live);
    runtime.block_on(live.clean())?;
    runtime.block_on(measure(&url))?;
    Ok(())
}

async fn take_lock(url: &str) -> Result<(), turnlock::Error> {
    let locks = turnlock::connect(url)?;
    let guard = locks.mutex("stranger")?.acquire().await?;
    println!("token {}", guard.token());
    drop(guard);
    locks.close().await
}

/// Returns a function that connects a client to a namespace. All namespaces of a coordinator in
/// memory are the same one.
fn connect_namespaces(
    url: &str,
) -> impl Fn(u64) -> Result<Arc<dyn Backend>, turnlock::Error> + Send + Sync + use<> {
    let url = url.to_owned();
    let in_memory = Mutex::new(HashMap::new());
    move |number| {
        if !url.starts_with("embedded:") {
            return turnlock::backend(&format!("{url}?namespace=stranger/{number}"));
        }
        let mut in_memory = in_memory.lock().expect("no case panics while it holds this mutex");
        if let Some(backend) = in_memory.get(&number) {
            return Ok(Arc::clone(backend));
        }
        let backend = turnlock::backend(&url)?;
        in_memory.insert(number, backend.clone());
        Ok(backend)
    }
}

fn run_suite(live: &Live) {
    let (mut passed, mut skipped) = (0, 0);
    let is_chosen = |name: &str| GROUPS.iter().any(|group| name.starts_with(group));
    for case in conformance::cases() {
        if !is_chosen(case.name()) {
            continue;
        }
        match case.run(live, TIME_LIMIT) {
            Outcome::Passed => passed += 1,
            Outcome::Skipped(_) => skipped += 1,
            Outcome::Failed(message) => panic!("{}: {message}", case.name()),
        }
    }
    println!("suite {passed} passed, {skipped} skipped");
}

async fn measure(url: &str) -> Result<(), turnlock::Error> {
    let target = Target::connect(url).await?;
    let plan = Plan {
        workload: Workload::Contended,
        workers: 4,
        length: Duration::from_millis(200),
    };
    let measured = load::measure(&target, plan).await?;
    println!("bench {} operations", measured.ops);
    Ok(())
}
