//! Helpers that the tests of the command share: a coordinator in a folder for each test, and
//! waiting for conditions.

#![allow(dead_code)] // Each test file uses its part.

pub mod python;
pub mod release;
mod signals;
pub mod turns;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use tempfile::{NamedTempFile, TempDir};

/// The limit for a condition that comes true within a second on an idle machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A fresh home with a coordinator that stops when the test ends.
pub struct Home {
    dir: TempDir,
}

impl Home {
    pub fn new() -> Self {
        signals::undo_ignored();
        // A coordinator refuses a folder that other users can enter.
        let private = PermissionsExt::from_mode(0o700);
        let dir = tempfile::Builder::new()
            .prefix("tl")
            .permissions(private)
            .tempdir();
        Home {
            dir: dir.expect("a temporary folder"),
        }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Makes a command with this home and no other variable of our environment that turnlock reads.
    pub fn turnlock(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_turnlock"));
        command
            .args(args)
            .env("TURNLOCK_HOME", self.path())
            .env_remove("TURNLOCK_BACKEND")
            .env_remove("TURNLOCK_LOG")
            .env_remove("TURNLOCK_LOG_FORMAT")
            .env_remove("TURNLOCK_CORRELATION_ID")
            .env_remove("TURNLOCK_TENANT")
            .env_remove("TRACEPARENT")
            .env_remove("TRACESTATE")
            .env_remove("OTEL_EXPORTER_OTLP_ENDPOINT")
            .env_remove("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT");
        command.current_dir(self.path()).stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    pub fn run(&self, args: &[&str]) -> Output {
        self.turnlock(args).output().expect("turnlock starts")
    }

    /// Starts a command in the background.
    pub fn spawn(&self, args: &[&str]) -> Running {
        let child = self
            .turnlock(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        Running(Some(child.expect("turnlock starts")))
    }

    /// Returns the entries in a lock's queue.
    pub fn queue(&self, name: &str) -> Vec<serde_json::Value> {
        self.parse_queue(&["queue", "--json", name])
    }

    /// Returns the entries in a lock's queue at the coordinator with this URL.
    pub fn queue_at(&self, url: &str, name: &str) -> Vec<serde_json::Value> {
        self.parse_queue(&["queue", "--json", "--backend", url, name])
    }

    fn parse_queue(&self, args: &[&str]) -> Vec<serde_json::Value> {
        let output = self.run(args);
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect()
    }

    /// Returns the process that serves the socket, if there is one.
    pub fn coordinator(&self) -> Option<u32> {
        let stream = std::os::unix::net::UnixStream::connect(self.file("turnlock.sock")).ok()?;
        let peer = rustix::net::sockopt::socket_peercred(&stream).expect("a Unix socket");
        u32::try_from(peer.pid.as_raw_nonzero().get()).ok()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // The coordinator is ended as `stop` does it, which also waits until the parent has reaped
        // it.
        let found = self.coordinator().and_then(|pid| i32::try_from(pid).ok());
        if let Some(pid) = found.and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            let started = Instant::now();
            while found.is_some_and(|pid| alive(pid.unsigned_abs())) && started.elapsed() < PATIENCE
            {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

/// Starts a process that holds the lock, and waits until it does.
pub fn holder(home: &Home, args: &[&str]) -> Running {
    let before = home.queue(args.last().expect("a name")).len();
    let holder = home.spawn(&[&["hold"], args].concat());
    eventually("it holds", || {
        home.queue(args.last().expect("a name")).len() > before
    });
    holder
}

/// Returns the program in a place where other users can execute it. All tests of a build share the
/// copy: it has a hundred megabytes, and nothing would remove those of processes that have ended.
pub fn readable_turnlock() -> &'static Path {
    static COPY: LazyLock<PathBuf> = LazyLock::new(|| {
        let program = Path::new(env!("CARGO_BIN_EXE_turnlock"));
        let built = fs::metadata(program).expect("it is built");
        let build = format!("{}-{}-{}", built.uid(), built.ino(), built.mtime_nsec());
        let folder = std::env::temp_dir().join(format!("turnlock-test-{build}"));
        fs::create_dir_all(&folder).expect("a temporary folder");
        fs::set_permissions(&folder, PermissionsExt::from_mode(0o755)).expect("ours");
        let path = folder.join("turnlock");
        if !path.exists() {
            // Others may do the same now.
            let copy = folder.join(std::process::id().to_string());
            fs::copy(program, &copy).expect("copied");
            fs::rename(&copy, &path).expect("in one folder");
        }
        path
    });
    &COPY
}

/// A child process that does not outlive the test.
pub struct Running(Option<Child>);

impl Running {
    pub fn of(child: Child) -> Self {
        Running(Some(child))
    }

    pub fn id(&self) -> u32 {
        self.0.as_ref().expect("not waited for yet").id()
    }

    pub fn wait(mut self) -> Output {
        self.0
            .take()
            .expect("not waited for yet")
            .wait_with_output()
            .expect("a child of ours")
    }

    pub fn ended(&mut self) -> bool {
        let child = self.0.as_mut().expect("not waited for yet");
        child.try_wait().expect("a child of ours").is_some()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// `turnlock serve` on a TCP port of its own.
pub struct Server {
    running: Running,
    address: String,
    log: NamedTempFile,
}

impl Server {
    pub fn start(home: &Home) -> Self {
        Server::start_with(home, &[])
    }

    pub fn start_with(home: &Home, args: &[&str]) -> Self {
        Server::start_at(home, "127.0.0.1:0", args)
    }

    pub fn start_at(home: &Home, address: &str, args: &[&str]) -> Self {
        let log = NamedTempFile::new().expect("a file");
        let running = home
            .turnlock(&[&["serve", "--listen", address], args].concat())
            .stderr(log.reopen().expect("the same file"))
            .spawn()
            .expect("turnlock starts");
        let mut running = Running(Some(running));
        let said = wait_for("it says where it listens", || {
            let said = fs::read_to_string(&log).expect("a log");
            let is_complete = said.contains('\n') || running.ended();
            is_complete.then_some(said)
        });
        let line = said.lines().next().unwrap_or_default();
        let address = line.rsplit(' ').next().expect("an address").to_owned();
        Server {
            running,
            address,
            log,
        }
    }

    /// Returns what the server has said on stderr.
    pub fn said(&self) -> String {
        fs::read_to_string(&self.log).expect("a log")
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    pub fn url(&self) -> String {
        format!("etcd://{}", self.address)
    }

    pub fn id(&self) -> u32 {
        self.running.id()
    }

    /// Ends the server as a service manager does.
    pub fn stop(self) -> Output {
        signal(self.running.id(), rustix::process::Signal::TERM);
        self.wait()
    }

    /// Waits for the end of the server.
    pub fn wait(self) -> Output {
        self.running.wait()
    }
}

/// Returns the exit status of a command that ended by itself.
pub fn code(output: &Output) -> i32 {
    output.status.code().expect("turnlock ends by itself")
}

/// Returns the output of a command as text.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Waits until a condition is true.
pub fn eventually(what: &str, is_so: impl FnMut() -> bool) {
    within(PATIENCE, what, is_so);
}

/// Waits until `find` returns a value.
pub fn wait_for<T>(what: &str, mut find: impl FnMut() -> Option<T>) -> T {
    let mut found = None;
    eventually(what, || {
        found = find();
        found.is_some()
    });
    found.expect("the condition is true")
}

/// Waits until a condition is true, and fails if it is not within the limit. Returns the time that
/// it took.
pub fn within(limit: Duration, what: &str, mut is_so: impl FnMut() -> bool) -> Duration {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
    started.elapsed()
}

/// Returns the lines of a file that may not exist yet.
pub fn lines(path: &Path) -> Vec<String> {
    fs::read_to_string(path)
        .unwrap_or_default()
        .lines()
        .map(str::to_owned)
        .collect()
}

/// Sends a signal to a child process.
pub fn signal(pid: u32, signal: rustix::process::Signal) {
    let pid =
        rustix::process::Pid::from_raw(pid.try_into().expect("a process id")).expect("not zero");
    rustix::process::kill_process(pid, signal).expect("our process");
}

/// Returns whether a process runs. A zombie does not.
pub fn alive(pid: u32) -> bool {
    state(pid).is_some_and(|state| state != 'Z')
}

/// Returns whether a process has been stopped by a signal.
pub fn stopped(pid: u32) -> bool {
    state(pid) == Some('T')
}

/// Returns the state of a process, if it exists.
fn state(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_the_name) = stat.rsplit_once(") ")?;
    after_the_name.chars().next()
}

/// Finds a Debian program. A missing one fails the test.
pub fn program(name: &str, package: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
        .unwrap_or_else(|| panic!("{name} is not installed: apt-get install {package}"))
}
