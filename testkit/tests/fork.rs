//! A process that uses locks forks, as one that turns into a daemon does. The child is told so,
//! whatever it tries, and what it drops stays the parent's.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use conformance::{Deployment, Fixture};
use fork::Fork;
use libtest_mimic::{Arguments, Trial};
use lock_core::{Error, ErrorKind, Guard, LockName, Locks, Mutex, Options, Release, State};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use testkit::fixtures::{Durable, Etcd, Memory, Zk};

/// For all that the child does; on an idle machine it takes milliseconds.
const LIMIT: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // One at a time, and on this thread: a child has no other.
    arguments.test_threads = Some(1);
    let fixtures: [Box<dyn Fixture>; 4] = [
        Box::new(Memory),
        Box::new(Durable),
        Box::new(Etcd::single()),
        Box::new(Zk::single()),
    ];
    let trials = fixtures.map(|fixture| {
        Trial::test(fixture.name(), move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            let deployment = fixture.start();
            runtime.block_on(fork_while_holding(&*deployment));
            Ok(())
        })
    });
    libtest_mimic::run(&arguments, trials.into()).exit_code()
}

async fn fork_while_holding(deployment: &dyn Deployment) {
    let locks = Locks::new(deployment.backend(), Options::default()).expect("valid");
    let held = locks.mutex("held").expect("valid");
    let guard = held.acquire().await.expect("free");
    let others = [(); 2].map(|()| locks.mutex("given").expect("valid"));
    let given = others[0].acquire().await.expect("free");
    let session = locks.session_id();

    match fork::fork().expect("the system forks") {
        Fork::Child => {
            // A runtime is the parent's, too.
            let told = futures_executor::block_on(as_child(locks, held, guard, given));
            drop(others);
            std::process::exit(match told {
                Ok(()) => 0,
                Err(what) => {
                    eprintln!("in the child: {what}");
                    1
                }
            });
        }
        Fork::Parent(child) => {
            ends_well(child);
            assert_eq!(locks.session_id(), session, "the session is still open");
            assert_eq!(guard.state(), State::Held);
            let queue = locks.queue(held.name()).await.expect("answered");
            assert_eq!(queue.entries.len(), 1, "the entry is still there");
            assert_eq!(given.release().await.expect("an answer"), Release::Released);
            assert_eq!(guard.release().await.expect("an answer"), Release::Released);
            let again = held.acquire().await.expect("free again");
            assert_eq!(again.release().await.expect("an answer"), Release::Released);
            locks.close().await.expect("closed");
        }
    }
}

/// Everything that the child may try with what it has of its parent's, and anew.
async fn as_child(locks: Locks, held: Mutex, guard: Guard, given: Guard) -> Result<(), String> {
    let name = LockName::new("held").expect("valid");
    refused("acquire", held.acquire().await)?;
    refused("try", held.try_acquire().await)?;
    let limit = Duration::from_secs(2);
    refused("timeout", held.acquire_timeout(limit).await)?;
    refused("queue", locks.queue(&name).await)?;
    refused("list", locks.list("", None, 10).await)?;
    refused("get", locks.get("key").await)?;
    refused("put", guard.put("key", "value").await)?;
    refused("close", locks.close().await)?;
    let _ = guard.lost().await;
    refused("release", given.release().await)?;
    drop(guard);
    drop((held, locks));

    let anew = backend_embedded::EmbeddedBackend::open("embedded:memory").await;
    let anew = anew.map_err(|error| format!("a new backend: {error}"))?;
    let anew = Locks::new(Arc::clone(&anew) as _, Options::default()).expect("valid");
    refused("anew", anew.mutex("x").expect("valid").acquire().await)
}

fn refused<T>(what: &str, outcome: Result<T, Error>) -> Result<(), String> {
    match outcome {
        Err(error) if error.kind() == ErrorKind::Forked => Ok(()),
        Err(error) => Err(format!("{what}: {error:?}")),
        Ok(_) => Err(format!("{what}: no error")),
    }
}

/// Waits for the child; one that hangs is killed and fails the test.
fn ends_well(child: i32) {
    let child = Pid::from_raw(child).expect("a process");
    let started = Instant::now();
    let status = loop {
        let ended = waitpid(Some(child), WaitOptions::NOHANG).expect("our child");
        if let Some((_, status)) = ended {
            break status;
        }
        if started.elapsed() > LIMIT {
            kill_process(child, Signal::KILL).expect("our child");
            panic!("the child hangs");
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    assert_eq!(status.exit_status(), Some(0), "{status:?}");
}
