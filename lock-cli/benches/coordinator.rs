//! Measures the coordinator, `turnlock serve`, against its promises: the time until it is ready,
//! and its memory while nobody uses it. Ends with 1 if a promise is missed.
//!
//! ```sh
//! cargo bench -p lock-cli --bench coordinator
//! ```

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

const ROUNDS: usize = 9;
const READY: Duration = Duration::from_millis(50);
const RESIDENT_KIB: u64 = 20 * 1024;
/// The time after which the work that follows the start is done.
const SETTLED: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let mut starts: Vec<(Duration, u64)> = (0..ROUNDS).map(|_| start()).collect();
    starts.sort();
    let (ready, _) = starts[ROUNDS / 2];
    let resident = starts.iter().map(|(_, kib)| *kib).max().unwrap_or(0);
    let verdict = |kept| if kept { "kept  " } else { "MISSED" };
    let (is_ready, is_small) = (ready <= READY, resident <= RESIDENT_KIB);
    println!(
        "{} ready after {ready:.1?}, at most {READY:?}",
        verdict(is_ready)
    );
    println!(
        "{} {resident} KiB resident while idle, at most {RESIDENT_KIB} KiB",
        verdict(is_small)
    );
    match is_ready && is_small {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// Starts a coordinator on an empty folder. Returns the time until it accepted a connection, and
/// its resident KiB.
fn start() -> (Duration, u64) {
    let private = std::fs::Permissions::from_mode(0o700);
    let folder = tempfile::Builder::new().permissions(private).tempdir();
    let folder = folder.expect("a temporary folder");
    let socket = folder.path().join("turnlock.sock");
    let started = Instant::now();
    let child = Command::new(env!("CARGO_BIN_EXE_turnlock"))
        .args(["serve", "--data"])
        .arg(folder.path())
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let mut coordinator = Coordinator(child.expect("turnlock starts"));
    while UnixStream::connect(&socket).is_err() {
        let ended = coordinator.0.try_wait().expect("a child of ours");
        assert!(ended.is_none(), "the coordinator ended: {ended:?}");
        std::thread::sleep(Duration::from_micros(200));
    }
    let ready = started.elapsed();
    std::thread::sleep(SETTLED);
    (ready, resident_kib(coordinator.0.id()))
}

fn resident_kib(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
    kib.expect("Linux tells")
}

/// A coordinator that is killed when dropped.
struct Coordinator(Child);

impl Drop for Coordinator {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
