//! Tests what a coordinator and a service manager say to each other, with systemd's own programs
//! where it has some.

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::Signal;
use support::{
    Home, PATIENCE, Running, code, eventually, program, readable_turnlock, signal, text,
};

/// Starts `turnlock` with sockets that systemd's program has opened. Returns once they are there.
fn activate(home: &Home, sockets: &[&Path], names: &str, args: &[&str]) -> Running {
    let mut command = Command::new(program("systemd-socket-activate", "systemd"));
    for socket in sockets {
        command.arg("-l").arg(socket);
    }
    // The program passes on only the variables that are named.
    let place = format!("TURNLOCK_HOME={}", home.path().display());
    let child = command
        .arg(format!("--fdname={names}"))
        .args(["-E", &place])
        .arg(env!("CARGO_BIN_EXE_turnlock"))
        .args(args)
        .current_dir(home.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let running = Running::of(child.expect("systemd's program starts"));
    for socket in sockets {
        eventually("systemd listens", || socket.exists());
        let private = fs::Permissions::from_mode(0o600);
        fs::set_permissions(socket, private).expect("ours");
    }
    running
}

#[test]
fn the_sockets_of_a_service_manager_are_served_and_stay() {
    let home = Home::new();
    let (locks, metrics) = (home.file("turnlock.sock"), home.file("m.sock"));
    let server = activate(&home, &[&locks, &metrics], "locks:metrics", &["serve"]);
    let inode = |path: &Path| fs::metadata(path).expect("there").ino();
    let before = inode(&locks);
    // The first connection starts the server. It is not lost.
    let output = home.run(&["run", "a", "--", "true"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    // To clients, the server is the coordinator and not whoever has made the socket.
    assert_eq!(home.coordinator(), Some(server.id()));
    let mut stream = UnixStream::connect(&metrics).expect("it listens");
    let probe = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    stream.write_all(probe).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");

    signal(server.id(), Signal::TERM);
    let output = server.wait();
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    let said = text(&output.stderr);
    assert!(
        said.contains(&format!("on unix:{}", locks.display())),
        "{said}"
    );
    for socket in [&locks, &metrics] {
        let kept = fs::symlink_metadata(socket).expect("the service manager's");
        assert!(kept.file_type().is_socket());
    }
    assert_eq!(inode(&locks), before);
}

/// A service manager that keeps a socket open while servers come and go.
struct Keeper {
    socket: PathBuf,
    listener: UnixListener,
}

impl Keeper {
    fn new(home: &Home) -> Self {
        let socket = home.file("turnlock.sock");
        let listener = UnixListener::bind(&socket).expect("bound");
        fs::set_permissions(&socket, fs::Permissions::from_mode(0o600)).expect("ours");
        // The shells that this process starts inherit it.
        fcntl_setfd(&listener, FdFlags::empty()).expect("ours");
        Keeper { socket, listener }
    }

    /// Starts a server with the socket.
    fn serve(&self, home: &Home) -> Running {
        let number = self.listener.as_raw_fd();
        let pass = format!("exec 3<&{number}; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" serve");
        // Other shells know descriptors of one digit only.
        let child = Command::new(program("bash", "bash"))
            .args(["-c", &pass])
            .arg(env!("CARGO_BIN_EXE_turnlock"))
            .env("TURNLOCK_HOME", home.path())
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        Running::of(child.expect("bash starts"))
    }
}

#[test]
fn clients_wait_at_the_socket_of_a_service_manager_until_the_next_server() {
    let home = Home::new();
    let keeper = Keeper::new(&home);
    let first = keeper.serve(&home);
    let holder = home.spawn(&["hold", "a"]);
    eventually("it holds", || home.queue("a").len() == 1);
    let before = home.queue("a");
    assert_eq!(home.coordinator(), Some(first.id()));
    signal(first.id(), Signal::TERM);
    let output = first.wait();
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));

    // The socket is there, so nobody starts a coordinator: the service manager will.
    let mut coming = home.spawn(&["run", "b", "--", "true"]);
    let deadline = Instant::now() + Duration::from_secs(1);
    while Instant::now() < deadline {
        assert!(!coming.ended(), "it waits");
        std::thread::sleep(Duration::from_millis(20));
    }
    let second = keeper.serve(&home);
    let output = coming.wait();
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    assert_eq!(home.queue("a"), before, "the same hold");
    assert_eq!(home.coordinator(), Some(second.id()));
    signal(holder.id(), Signal::TERM);
    let output = holder.wait();
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    signal(second.id(), Signal::TERM);
    assert_eq!(code(&second.wait()), 0);
    assert!(keeper.socket.exists(), "the service manager's");
}

/// Starts a server with a socket that this user should not be given, and returns how it ends.
fn refused(prepare: impl FnOnce(&Path)) -> String {
    let home = Home::new();
    let folder = home.file("run");
    fs::create_dir(&folder).expect("a folder");
    let socket = folder.join("s");
    let server = activate(&home, &[&socket], "locks", &["serve"]);
    prepare(&socket);
    // Any connection starts the server.
    let _connection = UnixStream::connect(&socket).expect("it listens");
    let output = server.wait();
    assert_eq!(code(&output), 78, "{}", text(&output.stderr));
    text(&output.stderr)
}

#[test]
fn a_socket_that_others_could_use_or_replace_is_refused() {
    let mode = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("ours");
    };
    let said = refused(|socket| mode(socket, 0o666));
    assert!(
        said.contains("mode 0666, so other users can use it"),
        "{said}"
    );
    assert!(said.contains("SocketMode=0660"), "{said}");
    let said = refused(|socket| mode(socket.parent().expect("a folder"), 0o777));
    assert!(said.contains("put another socket in its place"), "{said}");
}

#[test]
fn what_is_no_listening_socket_is_refused_with_its_name() {
    let home = Home::new();
    let serve = |variables: &str, redirect: &str| -> Output {
        let script = format!("{variables} exec \"$0\" serve {redirect}");
        let mut shell = Command::new("sh");
        shell
            .args(["-c", &script])
            .arg(env!("CARGO_BIN_EXE_turnlock"))
            .env("TURNLOCK_HOME", home.path())
            .stdin(Stdio::null());
        shell.output().expect("sh starts")
    };
    let output = serve(
        "LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=locks",
        "3</dev/null",
    );
    let said = text(&output.stderr);
    assert_eq!(code(&output), 78, "{said}");
    assert!(
        said.contains("the socket \"locks\" of the service manager"),
        "{said}"
    );
    let output = serve("LISTEN_PID=$$ LISTEN_FDS=99999999", "");
    let said = text(&output.stderr);
    assert_eq!(code(&output), 78, "{said}");
    assert!(said.contains("LISTEN_FDS=99999999"), "{said}");
}

/// A service manager that listens to what a server says.
struct Listener(UnixDatagram);

impl Listener {
    fn bind(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).expect("bound");
        socket.set_read_timeout(Some(PATIENCE)).expect("set");
        Listener(socket)
    }

    /// Waits for the next message that begins like this.
    fn wait_for(&self, beginning: &str) -> String {
        let mut buffer = [0; 4096];
        loop {
            let length = self.0.recv(&mut buffer).expect(beginning);
            let message = text(&buffer[..length]);
            if message.starts_with(beginning) {
                return message;
            }
            // What the watchdog is told comes in between.
            assert_eq!(message, "WATCHDOG=1", "while waiting for {beginning}");
        }
    }
}

#[test]
fn a_service_manager_is_told_how_the_coordinator_is() {
    let home = Home::new();
    let notify = home.file("notify");
    let manager = Listener::bind(&notify);
    let child = home
        .turnlock(&["serve"])
        .env("NOTIFY_SOCKET", &notify)
        .env("WATCHDOG_USEC", "100000")
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.expect("turnlock starts");
    let stderr = BufReader::new(child.stderr.take().expect("piped"));
    let server = Running::of(child);
    let ready = manager.wait_for("READY=1\n");
    assert!(
        ready.contains(&format!("STATUS=serving {}", home.path().display())),
        "{ready}"
    );
    assert!(
        home.coordinator().is_some(),
        "whoever hears that can connect"
    );
    manager.wait_for("WATCHDOG=1");
    // It has no files to read again, and must not end.
    signal(server.id(), Signal::HUP);
    let reloading = manager.wait_for("RELOADING=1\n");
    assert!(reloading.contains("MONOTONIC_USEC="), "{reloading}");
    manager.wait_for("READY=1\n");
    signal(server.id(), Signal::TERM);
    let stopping = manager.wait_for("STOPPING=1\n");
    assert!(
        stopping.contains("EXTEND_TIMEOUT_USEC=20000000\n"),
        "{stopping}"
    );
    assert_eq!(code(&server.wait()), 0);
    let said: Vec<String> = stderr.lines().map(|line| line.expect("text")).collect();
    let drains = "turnlock: SIGTERM: no new sessions; answers under way have 5s; holders keep their \
                  locks; a second signal ends at once";
    assert_eq!(said.last().map(String::as_str), Some(drains), "{said:?}");
}

#[test]
fn a_watchdog_that_is_for_another_process_is_not_fed() {
    let home = Home::new();
    let notify = home.file("notify");
    let manager = Listener::bind(&notify);
    let server = home
        .turnlock(&["serve"])
        .env("NOTIFY_SOCKET", &notify)
        .env("WATCHDOG_USEC", "1000")
        .env("WATCHDOG_PID", "1")
        .stderr(Stdio::null())
        .spawn();
    let server = Running::of(server.expect("turnlock starts"));
    manager.wait_for("READY=1\n");
    signal(server.id(), Signal::TERM);
    let mut buffer = [0; 4096];
    let length = manager.0.recv(&mut buffer).expect("a message");
    assert!(text(&buffer[..length]).starts_with("STOPPING=1\n"));
    assert_eq!(code(&server.wait()), 0);
}

#[test]
fn systemd_accepts_the_units_and_finds_them_hardened() {
    let analyze = program("systemd-analyze", "systemd");
    let home = Home::new();
    let mut units = Vec::new();
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../ops"));
    for entry in fs::read_dir(folder).expect("ops") {
        let path = entry.expect("a file").path();
        let name = path.file_name().expect("a name").to_owned();
        let ending = path.extension().and_then(|ending| ending.to_str());
        if !matches!(ending, Some("service" | "socket")) {
            continue;
        }
        // The program of a unit must exist.
        let text = fs::read_to_string(&path).expect("readable");
        let built = readable_turnlock().to_str().expect("UTF-8");
        let text = text.replace("/usr/bin/turnlock", built);
        fs::write(home.file(name.to_str().expect("UTF-8")), text).expect("writable");
        units.push(home.file(name.to_str().expect("UTF-8")));
    }
    assert_eq!(units.len(), 3, "{units:?}");
    let ask = |args: &[&str], units: &[&Path]| {
        let output = Command::new(&analyze).args(args).args(units).output();
        let output = output.expect("systemd-analyze starts");
        let said = text(&output.stdout) + &text(&output.stderr);
        assert!(output.status.success(), "{args:?}: {said}");
        said
    };
    let all: Vec<&Path> = units.iter().map(|unit| unit.as_path()).collect();
    assert_eq!(ask(&["verify", "--man=no"], &all), "");
    for unit in all {
        if unit.extension().is_some_and(|ending| ending == "service") {
            // From 0 to 10, in tenths: up to 2.0 is called OK.
            ask(&["security", "--offline=true", "--threshold=20"], &[unit]);
        }
    }
}

#[test]
fn a_service_manager_is_not_stopped_in_the_place_of_a_coordinator() {
    let home = Home::new();
    let socket = home.file("turnlock.sock");
    // This process listens, and has no coordinator's folder.
    let listener = UnixListener::bind(&socket).expect("bound");
    let output = home.run(&["stop"]);
    let said = text(&output.stderr);
    assert_eq!(code(&output), 77, "{said}");
    assert!(said.contains("is a service manager"), "{said}");
    assert!(said.contains("systemctl stop"), "{said}");
    drop(listener);
    fs::remove_file(&socket).expect("ours");
}
