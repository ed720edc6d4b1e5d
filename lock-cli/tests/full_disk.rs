//! Tests a coordinator whose disk is full or read-only. This needs root, to mount a disk of its own.

mod support;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use support::{Home, Running, code, eventually, program, signal, text};
use tonic::Code;
use turnlock::etcd::{Config, EtcdBackend};
use turnlock::{Options, Release, State};

/// The time to live of the holder. The disk is full for longer.
const TTL: Duration = Duration::from_secs(3);

/// Returns a shell that mounts with this command, and then executes `turnlock serve` there.
fn serve_on(home: &Home, mount: &str) -> Command {
    assert!(rustix::process::geteuid().is_root(), "run this as root");
    let script = format!("{mount} && exec \"$0\" serve --data data --listen unix:s");
    let mut shell = Command::new(program("unshare", "util-linux"));
    shell
        .args(["--mount", "sh", "-c", &script])
        .arg(env!("CARGO_BIN_EXE_turnlock"))
        .current_dir(home.path())
        .env_remove("TURNLOCK_BACKEND")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    shell
}

/// A coordinator on a small disk that nobody else sees.
struct SmallDisk {
    home: Home,
    server: Running,
}

impl SmallDisk {
    fn new() -> Self {
        let home = Home::new();
        let mount = "mkdir -m 700 data && mount -t tmpfs -o size=16m,mode=700 none data";
        let server = serve_on(&home, mount).spawn();
        let server = Running::of(server.expect("unshare starts"));
        eventually("it serves", || UnixStream::connect(home.file("s")).is_ok());
        SmallDisk { home, server }
    }

    /// Returns the path of a file on the disk.
    fn file(&self, name: &str) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.server.id()));
        let data = self.home.file("data");
        root.join(data.strip_prefix("/").expect("absolute"))
            .join(name)
    }

    fn fill(&self) {
        let filler = File::options()
            .create(true)
            .append(true)
            .open(self.file("filler"));
        let mut filler = filler.expect("a file");
        while filler.write_all(&[7; 4096]).is_ok() {}
    }

    fn free(&self) {
        fs::remove_file(self.file("filler")).expect("there");
    }

    /// Returns what the readiness probe answers.
    fn ask_ready(&self) -> String {
        let mut stream = UnixStream::connect(self.file("metrics.sock")).expect("it listens");
        let probe = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n";
        stream.write_all(probe).expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    }
}

/// Checks that a request was refused for want of space, and says when to try again.
fn is_refused_for_now<T: std::fmt::Debug>(result: Result<T, etcd_client::Error>) {
    let Err(etcd_client::Error::GRpcStatus(status)) = result else {
        panic!("not refused: {result:?}");
    };
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert_eq!(
        status.message(),
        "etcdserver: mvcc: database space exceeded"
    );
    let pushback = status.metadata().get("grpc-retry-pushback-ms");
    let pushback = pushback.and_then(|value| value.to_str().ok()?.parse().ok());
    assert!(pushback >= Some(1000), "{pushback:?}");
    assert!(!status.details().is_empty(), "the same as RetryInfo");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_full_disk_holders_stay_and_release_and_writes_wait_for_space() {
    let disk = SmallDisk::new();
    let socket = disk.home.file("s");
    let url = format!("etcd+unix://{}", socket.display());
    let options = Options::default().with_ttl(TTL);
    let locks = turnlock::connect_with(&url, options).expect("a valid URL");
    let mutex = |name: &str| locks.mutex(name).expect("a name");
    let (kept, given_back) = (
        mutex("kept").acquire().await.expect("free"),
        mutex("given-back").acquire().await.expect("free"),
    );
    let backend: Arc<EtcdBackend> = EtcdBackend::new(Config::unix(&socket)).expect("a valid path");
    let mut client = backend.client().await.expect("it serves");
    disk.fill();
    // What was set aside ahead is used up first. A store that gives some of it back takes small
    // writes again, until that is used up, too.
    let begun = Instant::now();
    let (mut number, mut refused) = (0, 0);
    while begun.elapsed() < 2 * TTL || refused == 0 {
        assert!(begun.elapsed() < support::PATIENCE, "the disk is not full");
        let put = client.put(format!("fill/{number}"), vec![7; 50_000], None);
        match put.await {
            Ok(_) => number += 1,
            refusal => {
                refused += 1;
                is_refused_for_now(refusal);
            }
        }
        disk.fill();
        assert!(
            !matches!(kept.state(), State::Lost(_)),
            "{:?}",
            kept.state()
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let released = given_back.release().await.expect("releases are served");
    assert_eq!(released, Release::Released);
    let queue = locks.queue(mutex("given-back").name()).await;
    assert!(queue.expect("reads are served").entries.is_empty());

    disk.free();
    // A command waits for space.
    let output = disk
        .home
        .run(&["--backend", &url, "run", "given-back", "--", "true"]);
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    assert!(disk.ask_ready().starts_with("HTTP/1.1 200"));
    assert_eq!(kept.release().await.expect("released"), Release::Released);
    signal(disk.server.id(), Signal::TERM);
    let output = disk.server.wait();
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
}

#[test]
fn a_folder_on_a_read_only_disk_is_refused_with_its_path() {
    let home = Home::new();
    let serve = |mount: &str| -> Output {
        let output = serve_on(&home, mount).output();
        output.expect("unshare starts")
    };
    let first = serve_on(&home, "true").spawn();
    let first = Running::of(first.expect("unshare starts"));
    eventually("it serves", || UnixStream::connect(home.file("s")).is_ok());
    signal(first.id(), Signal::TERM);
    assert_eq!(code(&first.wait()), 0);
    let output = serve("mount --bind data data && mount -o remount,ro,bind data");
    let said = text(&output.stderr);
    assert_eq!(code(&output), 78, "{said}");
    assert!(said.contains("data/LOCK: Read-only file system"), "{said}");
}
