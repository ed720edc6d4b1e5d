//! A coordinator whose folder is no longer the one at its path stops at once. Only then can another
//! one start there, and it gives out no token a second time.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use backend_embedded::machine::op::Put;
use backend_embedded::{Config, Coordinator, EmbeddedBackend, Error};
use futures_util::FutureExt;
use lock_core::{Guard, Locks, LossReason, Options, State};
use rustix::process::{Pid, Signal, kill_process};

/// The folder in which a process that this test starts plays its role.
const FOLDER: &str = "TURNLOCK_DISPLACED_FOLDER";
/// Bounds a wait for something that happens at once on an idle machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Within this, a coordinator without requests has to notice. It includes a second for a busy
/// machine.
const NOTICE_LIMIT: Duration = Duration::from_millis(1250);

fn open(folder: &Path) -> Coordinator {
    Coordinator::open(Config::new(folder)).expect("the folder opens")
}

fn locks(coordinator: &Coordinator) -> Locks {
    let options = Options::default()
        // Where the store stays the same, the next holder has to wait for the end of the former
        // one.
        .with_ttl(Duration::from_secs(3));
    Locks::new(EmbeddedBackend::new(coordinator.clone()), options).expect("valid")
}

async fn acquire(coordinator: &Coordinator) -> Guard {
    let mutex = locks(coordinator).mutex("a").expect("valid");
    mutex.acquire().await.expect("granted")
}

fn put() -> Put {
    Put {
        key: "k".into(),
        value: Some("v".into()),
        lease: Some(0),
        prev_kv: false,
    }
}

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .unwrap_or_else(|_| panic!("waited in vain for: {what}"))
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").args([from, to]).status();
    assert!(copied.expect("cp runs").success());
}

/// A way in which the folder `up/data` disappears, below a root.
type Way = (&'static str, fn(&Path));

const WAYS: &[Way] = &[
    ("removed", |root| {
        fs::remove_dir_all(root.join("up/data")).expect("removed");
    }),
    ("renamed", |root| {
        fs::rename(root.join("up/data"), root.join("up/away")).expect("renamed");
    }),
    ("its parent renamed", |root| {
        fs::rename(root.join("up"), root.join("away")).expect("renamed");
    }),
    ("replaced by an empty one", |root| {
        fs::rename(root.join("up/data"), root.join("away")).expect("renamed");
        fs::create_dir(root.join("up/data")).expect("created");
    }),
    ("replaced by a file", |root| {
        fs::rename(root.join("up/data"), root.join("away")).expect("renamed");
        fs::write(root.join("up/data"), "").expect("written");
        // Nobody can start there, but the present owner has to notice.
    }),
    ("its lock removed", |root| {
        fs::remove_file(root.join("up/data/LOCK")).expect("removed");
    }),
    ("its store restored from a copy", |root| {
        fs::remove_file(root.join("up/data/store.redb")).expect("removed");
        copy(
            &root.join("backup/store.redb"),
            &root.join("up/data/store.redb"),
        );
        // Without the store, the next one would refuse it.
        for name in ["JOURNAL", "ACKED"] {
            copy(&root.join("backup").join(name), &root.join("up/data"));
        }
    }),
    ("restored from a copy", |root| {
        fs::remove_dir_all(root.join("up/data")).expect("removed");
        copy(&root.join("backup"), &root.join("up/data"));
    }),
];

#[tokio::test]
async fn a_coordinator_whose_folder_disappeared_stops_and_its_holders_lose() {
    for (way, go) in WAYS {
        let root = tempfile::tempdir().expect("a folder");
        let folder = root.path().join("up/data");
        // The backup holds a store that has been used.
        open(&folder).close().expect("closed");
        copy(&folder, &root.path().join("backup"));
        let coordinator = open(&folder);
        let guard = acquire(&coordinator).await;
        let token = guard.token();

        go(root.path());
        let gone = Instant::now();
        assert_eq!(
            soon(way, guard.lost()).await,
            LossReason::StoreGone,
            "{way}"
        );
        let took = gone.elapsed();
        assert!(
            took < NOTICE_LIMIT,
            "{way}: the holder was told after {took:?}"
        );
        let stopped = soon(way, coordinator.closed()).await;
        assert!(
            matches!(&stopped, Error::Displaced { path } if *path == folder),
            "{way}: {stopped}"
        );
        let refusal = coordinator.put(put()).await;
        assert!(matches!(refusal, Err(Error::Displaced { .. })), "{way}");
        let refusal = coordinator.close();
        assert!(matches!(refusal, Err(Error::Displaced { .. })), "{way}");

        if folder.is_file() {
            fs::remove_file(&folder).expect("removed");
        }
        let next = open(&folder);
        let later = acquire(&next).await;
        assert!(later.token() > token, "{way}");
        let _ = later.release().await;
    }
}

#[tokio::test]
async fn nothing_is_acknowledged_where_nobody_looks_for_it() {
    let root = tempfile::tempdir().expect("a folder");
    for round in 0..20 {
        let folder = root.path().join("data");
        let coordinator = open(&folder);
        coordinator.put(put()).await.expect("recorded");
        fs::rename(&folder, root.path().join(format!("away {round}"))).expect("renamed");
        let answer = coordinator.put(put()).await;
        assert!(
            matches!(answer, Err(Error::Displaced { .. })),
            "{round}: {answer:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_one_begins_only_when_the_former_has_stopped_and_its_holders_know() {
    let root = tempfile::tempdir().expect("a folder");
    for round in 0..10 {
        let folder = root.path().join("data");
        let former = open(&folder);
        let guard = acquire(&former).await;
        fs::rename(&folder, root.path().join(format!("away {round}"))).expect("renamed");
        let next = open(&folder);
        assert_eq!(
            guard.lost().now_or_never(),
            Some(LossReason::StoreGone),
            "{round}: two hold at once"
        );
        let later = acquire(&next).await;
        assert!(later.token() > guard.token(), "{round}");
        let _ = later.release().await;
        next.close().expect("it serves its folder");
        fs::remove_dir_all(&folder).expect("removed");
    }
}

#[tokio::test]
async fn a_link_that_leads_elsewhere_is_another_folder() {
    let root = tempfile::tempdir().expect("a folder");
    let at = |name: &str| root.path().join(name);
    fs::create_dir(at("one")).expect("created");
    fs::create_dir(at("two")).expect("created");
    symlink(at("one"), at("link")).expect("linked");
    let coordinator = open(&at("link"));
    coordinator.put(put()).await.expect("recorded");
    symlink(at("two"), at("new")).expect("linked");
    fs::rename(at("new"), at("link")).expect("renamed");
    let answer = coordinator.put(put()).await;
    assert!(matches!(answer, Err(Error::Displaced { .. })), "{answer:?}");
    let next = open(&at("link"));
    // A newcomer who does not use the link has to be noticed too.
    fs::rename(at("two"), at("three")).expect("renamed");
    symlink(at("three"), at("new")).expect("linked");
    fs::rename(at("new"), at("link")).expect("renamed");
    let answer = next.put(put()).await;
    assert!(matches!(answer, Err(Error::Displaced { .. })), "{answer:?}");
}

#[tokio::test]
async fn a_folder_that_stays_is_served_whatever_happens_beside_it() {
    let root = tempfile::tempdir().expect("a folder");
    let folder = root.path().join("data");
    let coordinator = open(&folder);
    let guard = acquire(&coordinator).await;
    let ask = || Coordinator::open(Config::new(&folder)).expect_err("it is in use");
    assert!(matches!(ask(), Error::AlreadyOpen { .. }));
    for _ in 0..20 {
        fs::write(folder.join("other"), "").expect("written");
        fs::remove_file(folder.join("other")).expect("removed");
        coordinator.put(put()).await.expect("recorded");
    }
    // Longer than the watchdog takes to check again.
    assert!(
        tokio::time::timeout(NOTICE_LIMIT, coordinator.closed())
            .await
            .is_err()
    );
    assert_eq!(guard.state(), State::Held);
}

/// A process of ours that serves a folder. It prints that it does, and when it has stopped.
struct Owner {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
}

impl Owner {
    fn start(folder: &Path) -> Owner {
        Owner::run(Command::new(exe()), "owner", folder)
    }

    /// Starts the process in its own mount namespace, as root.
    fn start_in_namespace(role: &str, folder: &Path) -> Owner {
        let mut unshare = Command::new("unshare");
        unshare
            .args(["--mount", "--propagation", "private"])
            .arg(exe());
        Owner::run(unshare, role, folder)
    }

    fn run(mut command: Command, role: &str, folder: &Path) -> Owner {
        let mut child = command
            .args([role, "--exact", "--ignored", "--nocapture", "--quiet"])
            .env(FOLDER, folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        Owner { child, output }
    }

    /// Waits until the process prints this.
    fn wait_for(&mut self, what: &str) {
        let mut line = String::new();
        loop {
            line.clear();
            let read = self.output.read_line(&mut line).expect("readable");
            assert!(read > 0, "it ended without saying {what:?}");
            if line.trim_end().ends_with(what) {
                return;
            }
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("our child");
    }

    fn ends_well(mut self) {
        // Closing it would end the process at once.
        let _stdin = self.child.stdin.take();
        let status = self.child.wait().expect("our child");
        assert!(status.success(), "{status}");
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn exe() -> PathBuf {
    std::env::current_exe().expect("this program")
}

/// Returns the folder in which a process started here plays its role, and makes the process end
/// with the test.
fn folder_of_role() -> Option<PathBuf> {
    let folder = std::env::var_os(FOLDER)?;
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(1);
    });
    Some(folder.into())
}

#[test]
#[ignore = "run by a test as a process of its own"]
fn owner() {
    let Some(folder) = folder_of_role() else {
        return;
    };
    let coordinator = open(&folder);
    println!("serving");
    let end = runtime().block_on(soon("its end", coordinator.closed()));
    assert!(matches!(end, Error::Displaced { .. }), "{end}");
    println!("stopped");
}

fn runtime() -> tokio::runtime::Runtime {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime")
}

#[test]
fn a_former_owner_that_stands_still_is_named_and_waited_for() {
    let root = tempfile::tempdir().expect("a folder");
    let folder = root.path().join("data");
    let mut owner = Owner::start(&folder);
    owner.wait_for("serving");
    owner.signal(Signal::STOP);
    fs::remove_dir_all(&folder).expect("removed");
    let refusal = Coordinator::open(Config::new(&folder)).expect_err("it may go on any moment");
    let Error::Lingering { path, pid } = &refusal else {
        panic!("{refusal}");
    };
    assert_eq!((path, *pid), (&folder, Some(owner.child.id())));
    assert!(refusal.to_string().contains(&owner.child.id().to_string()));

    let opening = std::thread::spawn({
        let folder = folder.clone();
        move || Coordinator::open(Config::new(folder))
    });
    owner.signal(Signal::CONT);
    owner.wait_for("stopped");
    opening.join().expect("no panic").expect("it is free now");
    owner.ends_well();
}

#[test]
fn a_former_owner_that_is_killed_is_not_waited_for() {
    let root = tempfile::tempdir().expect("a folder");
    let folder = root.path().join("data");
    let mut owner = Owner::start(&folder);
    owner.wait_for("serving");
    owner.signal(Signal::STOP);
    fs::remove_dir_all(&folder).expect("removed");
    owner.signal(Signal::KILL);
    open(&folder);
}

fn mount(what: &Path, at: &Path) {
    let mounted = Command::new("mount")
        .arg("--bind")
        .args([what, at])
        .status();
    assert!(
        mounted.expect("mount runs").success(),
        "run these tests as root"
    );
}

#[test]
#[ignore = "run by a test as a process of its own"]
fn covered() {
    let Some(folder) = folder_of_role() else {
        return;
    };
    let other = folder.with_file_name("other");
    fs::create_dir_all(&other).expect("created");
    let coordinator = open(&folder);
    mount(&other, &folder);
    let end = runtime().block_on(soon("its end", coordinator.closed()));
    assert!(matches!(end, Error::Displaced { .. }), "{end}");
    open(&folder).close().expect("it serves what is mounted");
    println!("covered");
}

#[test]
fn a_folder_that_something_was_mounted_over_is_gone() {
    let root = tempfile::tempdir().expect("a folder");
    let mut inside = Owner::start_in_namespace("covered", &root.path().join("data"));
    inside.wait_for("covered");
    inside.ends_well();
}

#[test]
#[ignore = "run by a test as a process of its own"]
fn apart() {
    let Some(folder) = folder_of_role() else {
        return;
    };
    let other = folder.with_file_name("other");
    fs::create_dir_all(&other).expect("created");
    mount(&other, &folder);
    let coordinator = open(&folder);
    runtime().block_on(async {
        coordinator.put(put()).await.expect("recorded");
        println!("both");
        // The coordinator checks a few times.
        let end = tokio::time::timeout(NOTICE_LIMIT, coordinator.closed()).await;
        assert!(end.is_err(), "{end:?}");
    });
    println!("apart");
}

#[tokio::test]
async fn two_views_of_one_path_are_two_folders() {
    let root = tempfile::tempdir().expect("a folder");
    let folder = root.path().join("data");
    let ours = Arc::new(open(&folder));
    let mut theirs = Owner::start_in_namespace("apart", &folder);
    // Nobody has to wait for the other.
    theirs.wait_for("both");
    ours.put(put()).await.expect("recorded");
    theirs.wait_for("apart");
    theirs.ends_well();
    ours.put(put()).await.expect("recorded");
}
