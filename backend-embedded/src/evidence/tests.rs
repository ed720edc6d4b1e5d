//! The evidence that is left behind, and what the next coordinator makes of it.

use std::process::{Child, Command, Stdio};

use super::previous_run::{EndReason, PreviousRecord};
use super::*;
use crate::config::Config;
use crate::coordinator::Coordinator;

const TTL: Duration = Duration::from_secs(60);
const LEASE: LeaseId = 7;

fn clock() -> Clock {
    let clock = Clock::manual();
    clock.advance(Duration::from_secs(1000));
    clock
}

/// Begins a coordinator's evidence in this folder, by this clock.
fn begin_in(folder: &Path, clock: &Clock) -> Evidence {
    let lock = File::create(folder.join("LOCK")).unwrap();
    let lock_stamp = LockStamp::read(&lock).unwrap();
    let host = Host::current().unwrap();
    let mut evidence = Evidence::begin(folder, lock_stamp, &host, &HashMap::new()).unwrap();
    let life = evidence.0.as_mut().unwrap();
    life.clock = clock.clone();
    life.until.store(clock.now().as_nanos(), Ordering::Release);
    evidence
}

fn last(folder: &Path) -> PreviousRecord {
    let (header, processes) = file::read(folder).unwrap();
    PreviousRecord { header, processes }
}

fn child() -> Child {
    let sleep = Command::new("sleep")
        .arg("1000")
        .stdin(Stdio::null())
        .spawn();
    sleep.expect("sleep starts")
}

#[test]
fn the_file_is_ahead_of_whatever_is_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let clock = clock();
    let evidence = begin_in(folder.path(), &clock);
    for pause in [0, 1, 900, 1_100, 1_999, 2_001, 60_000] {
        clock.advance(Duration::from_millis(pause));
        let asked = clock.now();
        evidence.extend_before_ack().unwrap();
        let until = BootInstant::from_nanos(last(folder.path()).header.until);
        assert!(until >= asked, "after {pause} ms: {until:?} and {asked:?}");
        assert!(until <= asked + AHEAD, "after {pause} ms");
    }
}

#[test]
fn the_file_is_moved_on_before_anybody_has_to_wait_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let clock = clock();
    let evidence = begin_in(folder.path(), &clock);
    assert!(evidence.is_refresh_due());
    evidence.refresh().unwrap();
    assert!(!evidence.is_refresh_due());
    clock.advance(AHEAD / 2 + Duration::from_millis(1));
    assert!(evidence.is_refresh_due());
    let before = last(folder.path()).header.until;
    evidence.refresh().unwrap();
    assert!(last(folder.path()).header.until > before);
}

#[test]
fn a_file_that_cannot_be_written_says_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let clock = clock();
    let mut evidence = begin_in(folder.path(), &clock);
    // The file can be neither written nor emptied, as on a file system that has become read-only.
    let life = evidence.0.as_mut().unwrap();
    let read_only = File::open(folder.path().join(file::NAME)).unwrap();
    life.file = read_only;
    assert!(
        evidence.extend_before_ack().is_err(),
        "nothing may be acknowledged"
    );
    assert!(evidence.0.as_ref().unwrap().remaining().is_zero());
}

#[test]
fn time_is_over_only_when_nobody_can_count_on_it() {
    let folder = tempfile::tempdir().unwrap();
    let clock = clock();
    let evidence = begin_in(folder.path(), &clock);
    evidence.extend_before_ack().unwrap();
    let acknowledged = clock.now();
    let last = last(folder.path());
    let host = Host::current().unwrap();
    let judge = |host: &Host, after| last.find_end_reason(host, acknowledged + after, LEASE, TTL);
    assert_eq!(judge(&host, TTL), None);
    assert_eq!(judge(&host, TTL + AHEAD), None);
    let long = TTL + AHEAD + Duration::from_nanos(1);
    assert_eq!(judge(&host, long), Some(EndReason::OutOfTime));
    let other_clock = Host {
        clock_offset: 1,
        ..host
    };
    assert_eq!(judge(&other_clock, 10 * long), None);
    let other_boot = Host { boot: 1, ..host };
    assert_eq!(
        judge(&other_boot, 10 * long),
        None,
        "whose it is is not known"
    );
}

#[test]
fn another_boot_ends_the_sessions_of_earlier_processes() {
    let folder = tempfile::tempdir().unwrap();
    let clock = clock();
    let evidence = begin_in(folder.path(), &clock);
    evidence
        .record_holder(LEASE, false, Process::current())
        .unwrap();
    let mut last = last(folder.path());
    let host = Host {
        machine: 5,
        ..Host::current().unwrap()
    };
    last.header.host = Host { boot: 1, ..host };
    let judge = |host: &Host, id| last.find_end_reason(host, clock.now(), id, TTL);
    assert_eq!(judge(&host, LEASE), Some(EndReason::OtherBoot));
    assert_eq!(judge(&host, LEASE + 1), None, "over TCP");
    for machine in [0, 6] {
        let host = Host { machine, ..host };
        assert_eq!(judge(&host, LEASE), None, "its process may run elsewhere");
    }
    last.header.host.machine = 0;
    let nameless = Host { machine: 0, ..host };
    assert_eq!(
        last.find_end_reason(&nameless, clock.now(), LEASE, TTL),
        None
    );
}

#[test]
fn a_process_is_dead_when_it_has_ended_and_not_before() {
    let folder = tempfile::tempdir().unwrap();
    let clock = clock();
    let evidence = begin_in(folder.path(), &clock);
    let mut child = child();
    let process = Process::of_child(&child);
    evidence.record_holder(LEASE, false, Some(process)).unwrap();
    let last = last(folder.path());
    let host = Host::current().unwrap();
    let judge = |host: &Host| last.find_end_reason(host, clock.now(), LEASE, TTL);
    assert_eq!(judge(&host), None);
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    assert_eq!(judge(&host), None, "stopped");

    child.kill().unwrap();
    while !process.is_dead() {
        std::thread::yield_now(); // It ends by itself. Its status is not collected yet.
    }
    assert_eq!(judge(&host), Some(EndReason::ProcessEnded));
    child.wait().unwrap();
    assert_eq!(judge(&host), Some(EndReason::ProcessEnded));
    let other_namespace = Host {
        namespace: 1,
        ..host
    };
    assert_eq!(judge(&other_namespace), None);

    // A process id that is used again.
    let mut own = Process::current().unwrap();
    assert!(!own.is_dead());
    own.start += 1;
    assert!(own.is_dead());
}

impl Process {
    fn of_child(child: &Child) -> Process {
        let own = lock_core::process::ProcessName::ours().unwrap();
        let name = lock_core::process::ProcessName {
            pid: child.id(),
            ..own
        };
        Process::from_peer(child.id(), &name.to_string()).unwrap()
    }
}

#[test]
fn a_peer_is_believed_only_if_the_kernel_agrees() {
    let own = lock_core::process::ProcessName::ours().unwrap();
    let user_agent = own.to_string();
    assert_eq!(Process::from_peer(own.pid, &user_agent), Process::current());
    // A forwarder on this machine passes on the name of another process, which may run anywhere.
    assert_eq!(Process::from_peer(1, &user_agent), None);
    let elsewhere = lock_core::process::ProcessName {
        boot: own.boot ^ 1,
        ..own
    };
    assert_eq!(Process::from_peer(own.pid, &elsewhere.to_string()), None);
    let contained = lock_core::process::ProcessName {
        namespace: own.namespace ^ 1,
        ..own
    };
    assert_eq!(Process::from_peer(own.pid, &contained.to_string()), None);
    assert_eq!(Process::from_peer(own.pid, "grpc-go/1.26.0"), None);
}

#[test]
fn an_id_that_a_client_picks_again_is_nobody_s_from_before() {
    let folder = tempfile::tempdir().unwrap();
    let evidence = begin_in(folder.path(), &clock());
    evidence
        .record_holder(LEASE, false, Process::current())
        .unwrap();
    assert!(evidence.is_unsynced());
    evidence.sync();
    assert!(!evidence.is_unsynced());
    assert_eq!(last(folder.path()).processes.len(), 1);
    evidence.forget(LEASE);
    evidence.record_holder(LEASE, true, None).unwrap();
    assert!(last(folder.path()).processes.is_empty());
}

/// Closes a coordinator, changes its file by `change`, and opens the folder again. Returns whether
/// two leases are still there: one of this process, and one whose process is unknown.
async fn reopened(change: impl FnOnce(&mut file::Header)) -> (bool, bool) {
    let folder = tempfile::tempdir().unwrap();
    let open = || Coordinator::open(Config::new(folder.path())).unwrap();
    let coordinator = open();
    let own = coordinator
        .grant_to(Process::current(), 0, TTL)
        .await
        .unwrap();
    let unknown = coordinator.grant(0, TTL).await.unwrap();
    coordinator.close().unwrap();
    let (mut header, _) = file::read(folder.path()).unwrap();
    change(&mut header);
    let path = folder.path().join(file::NAME);
    let life = File::options().write(true).open(path).unwrap();
    life.write_all_at(&header.encode(), 0).unwrap();
    let coordinator = open();
    let leases = coordinator.leases().await.unwrap();
    coordinator.close().unwrap();
    (leases.contains(&own.id), leases.contains(&unknown.id))
}

#[tokio::test]
async fn leases_end_by_the_times_in_the_file() {
    assert_eq!(reopened(|_| {}).await, (true, true), "nothing has happened");
    // Another boot proves nothing if the machine cannot be distinguished from others.
    let on_this_machine = Host::current().unwrap().machine == 0;
    let rebooted = reopened(|header| header.host.boot ^= 1).await;
    assert_eq!(rebooted, (on_this_machine, true));
    let long_ago = reopened(|header| header.until -= 100_000_000_000).await;
    assert_eq!(long_ago, (false, false));
    let a_while_ago = reopened(|header| header.until -= 10_000_000_000).await;
    assert_eq!(a_while_ago, (true, true));
    // Another owner without evidence had the folder in between.
    let in_between = reopened(|header| {
        header.lock_stamp.ctime.1 ^= 1;
        header.until = 0;
        header.host.boot ^= 1;
    });
    assert_eq!(in_between.await, (true, true));
}

#[tokio::test]
async fn a_grant_after_a_long_rest_is_known_of_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let open = || Coordinator::open(Config::new(folder.path())).unwrap();
    let ttl = Duration::from_secs(1);
    let coordinator = open();
    let (clock, opened) = (Clock::system(), Clock::system().now());
    while clock.now() <= opened + ttl {
        tokio::time::sleep(ttl / 20).await;
    }
    let granted = coordinator.grant(0, ttl).await.unwrap();
    coordinator.close().unwrap();
    let coordinator = open();
    let left = coordinator.time_to_live(granted.id, false).await;
    assert!(left.is_ok(), "{left:?}");
    coordinator.close().unwrap();
}

#[tokio::test]
async fn the_process_of_a_session_is_passed_on() {
    let folder = tempfile::tempdir().unwrap();
    let open = || Coordinator::open(Config::new(folder.path())).unwrap();
    let mut child = child();
    let coordinator = open();
    let holder = Process::of_child(&child);
    let granted = coordinator.grant_to(Some(holder), 0, TTL).await.unwrap();
    let mut ended_by = Vec::new();
    coordinator.close().unwrap();
    for _ in 0..3 {
        let coordinator = open();
        ended_by.push(coordinator.leases().await.unwrap());
        coordinator.close().unwrap();
    }
    assert_eq!(ended_by, vec![vec![granted.id]; 3], "its process lives");
    child.kill().unwrap();
    child.wait().unwrap();
    let coordinator = open();
    assert!(coordinator.leases().await.unwrap().is_empty());
    let live = *coordinator.live_leases().borrow();
    assert_eq!(live, 0);
    coordinator.close().unwrap();
}
