//! Tests a fork of a process that uses locks, such as that of a program that becomes a daemon. Each
//! operation of the child fails with [`ErrorKind::Forked`], and a drop in the child changes nothing
//! for the parent.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use conformance::{Deployment, Fixture};
use fork::Fork;
use libtest_mimic::{Arguments, Trial};
use lock_core::{Error, ErrorKind, Guard, LockName, Locks, Mutex, Options, Release, State, Sticky};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use testkit::fixtures::{Durable, Etcd, Memory, Zk};

/// The time limit of the child, which takes milliseconds on an idle machine.
const LIMIT: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // The tests run one by one on this thread, which is the only thread that a child has.
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
    let sticky = Sticky::default().with_idle(Duration::from_secs(3600));
    let [kept, used] = ["kept", "used"].map(|name| {
        let mutex = locks.mutex(name).expect("valid");
        mutex.sticky(sticky).expect("in bounds")
    });
    drop(kept.acquire().await.expect("free"));
    let using = used.acquire().await.expect("free");
    let session = locks.session_id();

    match fork::fork().expect("the system forks") {
        Fork::Child => {
            // The runtime belongs to the parent, so the child uses an executor of its own.
            let sticky = as_child_with_sticky_locks(&locks, kept, used, using);
            let sticky = futures_executor::block_on(sticky);
            let child = as_child(locks, held, guard, given);
            let outcome = sticky.and_then(|()| futures_executor::block_on(child));
            drop(others);
            std::process::exit(match outcome {
                Ok(()) => 0,
                Err(what) => {
                    eprintln!("in the child: {what}");
                    1
                }
            });
        }
        Fork::Parent(child) => {
            wait_for_child(child);
            assert_eq!(locks.session_id(), session, "the session is still open");
            assert_eq!(guard.state(), State::Held);
            let queue = locks.queue(held.name()).await.expect("answered");
            assert_eq!(queue.entries.len(), 1, "the entry is still there");
            let again = kept.acquire().await.expect("kept");
            assert_eq!(again.turn(), 1, "it is still kept");
            drop(again);
            assert_eq!(using.release().await.expect("kept"), Release::Kept);
            assert_eq!(given.release().await.expect("an answer"), Release::Released);
            assert_eq!(guard.release().await.expect("an answer"), Release::Released);
            let again = held.acquire().await.expect("free again");
            assert_eq!(again.release().await.expect("an answer"), Release::Released);
            locks.close().await.expect("closed");
        }
    }
}

/// Tries the operations on locks that the parent keeps: one that is in use, and one that is not.
async fn as_child_with_sticky_locks(
    locks: &Locks,
    kept: Mutex,
    used: Mutex,
    using: Guard,
) -> Result<(), String> {
    let limit = Duration::from_secs(2);
    for (what, mutex) in [("kept", kept), ("used", used)] {
        check_forked(what, mutex.acquire().await)?;
        check_forked(what, mutex.try_acquire().await)?;
        check_forked(what, mutex.acquire_timeout(limit).await)?;
        check_forked(what, mutex.give_up().await)?;
    }
    let another = locks.mutex("another").expect("valid");
    check_forked("sticky", another.sticky(Sticky::default()))?;
    check_forked("release", using.release().await)
}

/// Tries every operation of the child, on the locks of its parent and on new ones.
async fn as_child(locks: Locks, held: Mutex, guard: Guard, given: Guard) -> Result<(), String> {
    let name = LockName::new("held").expect("valid");
    check_forked("acquire", held.acquire().await)?;
    check_forked("try", held.try_acquire().await)?;
    let limit = Duration::from_secs(2);
    check_forked("timeout", held.acquire_timeout(limit).await)?;
    check_forked("queue", locks.queue(&name).await)?;
    check_forked("list", locks.list("", None, 10).await)?;
    check_forked("get", locks.get("key").await)?;
    check_forked("put", guard.put("key", "value").await)?;
    check_forked("close", locks.close().await)?;
    let _ = guard.lost().await;
    check_forked("release", given.release().await)?;
    drop(guard);
    drop((held, locks));

    let new = backend_embedded::EmbeddedBackend::open("embedded:memory").await;
    let new = new.map_err(|error| format!("a new backend: {error}"))?;
    let new = Locks::new(Arc::clone(&new) as _, Options::default()).expect("valid");
    check_forked("anew", new.mutex("x").expect("valid").acquire().await)
}

/// Checks that an operation failed because the process was forked.
fn check_forked<T>(what: &str, outcome: Result<T, Error>) -> Result<(), String> {
    match outcome {
        Err(error) if error.kind() == ErrorKind::Forked => Ok(()),
        Err(error) => Err(format!("{what}: {error:?}")),
        Ok(_) => Err(format!("{what}: no error")),
    }
}

/// Waits until the child succeeds. Kills a child that hangs, and fails.
fn wait_for_child(child: i32) {
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
