//! Every command in surroundings that lack something: a status of the table and a message that names
//! what is lacking, or it works all the same. And what a coordinator takes over from the command that
//! started it.

mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;

use rustix::process::Signal;
use support::{Home, alive, eventually, program, signal, text};
use tempfile::TempDir;

/// The commands, each as a shell would have it; FILE is a file in the home.
const COMMANDS: &[&str] = &[
    "run a -- true",
    "run -n a -c true",
    "hold -w 5 a",
    "write a FILE",
    "append a FILE",
    "edit a FILE -- cat",
    "fence check FILE",
    "ls",
    "queue a",
    "status",
    "floor",
    "bench --workload raw --seconds 0.1 --workers 1",
    "conformance --list",
    "serve --idle 0.1",
    "system show",
    "stop",
];

/// What is to come of a command: a status, and a word of the message.
type Expected = (u8, &'static str);

/// Surroundings, and what comes of commands in them. The first row that a command begins with counts.
struct Surroundings {
    name: &'static str,
    /// Executes "$@" in them; `HOME` and `TURNLOCK` are set.
    script: &'static str,
    /// Whether `TURNLOCK_HOME` is set.
    home: bool,
    /// Whether it takes root.
    root: bool,
    expected: &'static [(&'static str, Expected)],
}

/// What ends with 0 in all surroundings; those that wait for a signal get one after a second.
const WORKS: Expected = (0, "");
/// Without a coordinator.
const NONE_RUNS: Expected = (69, "none runs");

const TABLE: &[Surroundings] = &[
    Surroundings {
        name: "umask 177",
        script: r#"umask 177; exec "$@""#,
        home: true,
        root: false,
        expected: &[("status", NONE_RUNS), ("", WORKS)],
    },
    Surroundings {
        name: "umask 777",
        script: r#"umask 777; exec "$@""#,
        home: true,
        root: false,
        expected: &[("status", NONE_RUNS), ("", WORKS)],
    },
    Surroundings {
        name: "six descriptors",
        script: r#"ulimit -n 6; exec "$@""#,
        home: true,
        root: false,
        expected: &[("", (78, "ulimit -n"))],
    },
    Surroundings {
        name: "sixteen descriptors",
        script: r#"ulimit -n 16; exec "$@""#,
        home: true,
        root: false,
        expected: &[("", (78, "ulimit -n"))],
    },
    Surroundings {
        name: "no /proc",
        script: r#"exec unshare --mount sh -c 'mount -t tmpfs none /proc && exec "$@"' sh "$@""#,
        home: true,
        root: true,
        expected: &[
            ("run ", (78, "/proc is not mounted")),
            ("edit ", (78, "/proc is not mounted")),
            ("status", NONE_RUNS),
            ("", WORKS),
        ],
    },
    Surroundings {
        name: "no /proc, and called by a bare name",
        script: r#"PATH=$(dirname "$TURNLOCK"):$PATH; while [ "$1" != "$TURNLOCK" ]; do shift; done; shift
            exec unshare --mount sh -c 'mount -t tmpfs none /proc && exec turnlock "$@"' sh "$@""#,
        home: true,
        root: true,
        expected: &[
            ("run ", (78, "/proc is not mounted")),
            ("edit ", (78, "/proc is not mounted")),
            ("hold ", (78, "/proc is not mounted")),
            ("write ", (78, "/proc is not mounted")),
            ("append ", (78, "/proc is not mounted")),
            ("floor", (78, "/proc is not mounted")),
            ("bench ", (78, "/proc is not mounted")),
            ("status", NONE_RUNS),
            ("", WORKS),
        ],
    },
    Surroundings {
        name: "root with the HOME of another user",
        script: r#"mkdir user && chown 65534:65534 user
            exec unshare --mount sh -c 'mount -t tmpfs -o mode=700 none /root && export HOME="$PWD/user"
                "$@"; status=$?; "$TURNLOCK" stop 2>/dev/null
                [ -z "$(ls -A user)" ] || exit 99; exit $status' sh "$@""#,
        home: false,
        root: true,
        expected: &[("status", NONE_RUNS), ("", WORKS)],
    },
    Surroundings {
        name: "a plain user with the HOME of another one and none of his own",
        script: r#"mkdir user && chown 12345:12345 user && chmod 755 user . && export HOME="$PWD/user"
            exec setpriv --reuid=65534 --regid=65534 --clear-groups -- "$@""#,
        home: false,
        root: true,
        expected: &[
            ("fence ", (74, "ermission denied")),
            ("ls", WORKS),
            ("queue ", WORKS),
            ("status", NONE_RUNS),
            ("conformance", WORKS),
            ("system", WORKS),
            ("stop", WORKS),
            ("", (78, "set TURNLOCK_HOME")),
        ],
    },
    Surroundings {
        name: "no HOME",
        script: r#"unset HOME XDG_STATE_HOME; exec "$@""#,
        home: false,
        root: false,
        expected: &[
            ("fence ", WORKS),
            ("conformance", WORKS),
            ("system", WORKS),
            ("", (78, "HOME is not set")),
        ],
    },
    Surroundings {
        name: "a folder whose name is too long for a socket",
        script: r#"TURNLOCK_HOME=$TURNLOCK_HOME/$(printf 'x%.0s' $(seq 110)); export TURNLOCK_HOME; exec "$@""#,
        home: true,
        root: false,
        expected: &[
            ("fence ", WORKS),
            ("conformance", WORKS),
            ("system", WORKS),
            ("", (78, "the system allows 107")),
        ],
    },
    Surroundings {
        name: "a read-only folder",
        script: r#"mkdir -m 700 ro; exec unshare --mount sh -c 'mount -t tmpfs -o ro,mode=700 none ro
            export TURNLOCK_HOME="$PWD/ro"; exec "$@"' sh "$@""#,
        home: true,
        root: true,
        expected: &[
            ("fence ", WORKS),
            ("ls", WORKS),
            ("queue ", WORKS),
            ("status", NONE_RUNS),
            ("conformance", WORKS),
            ("system", WORKS),
            ("stop", WORKS),
            ("", (78, "Read-only file system")),
        ],
    },
    Surroundings {
        name: "a full disk",
        script: r#"mkdir -m 700 full; exec unshare --mount sh -c 'mount -t tmpfs -o size=64k,mode=700 none full
            cat /dev/zero >full/filler 2>/dev/null
            export TURNLOCK_HOME="$PWD/full"; exec "$@"' sh "$@""#,
        home: true,
        root: true,
        expected: &[
            ("fence ", WORKS),
            ("ls", WORKS),
            ("queue ", WORKS),
            ("status", NONE_RUNS),
            ("conformance", WORKS),
            ("system", WORKS),
            ("stop", WORKS),
            ("", (78, "No space left")),
        ],
    },
    Surroundings {
        name: "a file in the place of the folder",
        script: r#"touch file; TURNLOCK_HOME=$PWD/file; export TURNLOCK_HOME; exec "$@""#,
        home: true,
        root: false,
        expected: &[
            ("fence ", WORKS),
            ("conformance", WORKS),
            ("system", WORKS),
            ("", (78, "file")),
        ],
    },
    Surroundings {
        name: "a parent that everybody can change",
        script: r#"mkdir -p -m 777 open && chmod 777 open; TURNLOCK_HOME=$PWD/open/home
            export TURNLOCK_HOME; exec "$@""#,
        home: true,
        root: false,
        expected: &[
            ("fence ", WORKS),
            ("conformance", WORKS),
            ("system", WORKS),
            ("", (78, "open can be changed by everybody")),
        ],
    },
    Surroundings {
        name: "a store that is damaged",
        script: r#"mkdir -m 700 damaged; TURNLOCK_HOME=$PWD/damaged; export TURNLOCK_HOME
            : >damaged/store.redb; : >damaged/ACKED; exec "$@""#,
        home: true,
        root: false,
        expected: &[
            ("fence ", WORKS),
            ("ls", WORKS),
            ("queue ", WORKS),
            ("status", NONE_RUNS),
            ("conformance", WORKS),
            ("system", WORKS),
            ("stop", WORKS),
            ("", (78, "the file is empty")),
        ],
    },
];

/// The program where other users can execute it.
fn turnlock() -> &'static Path {
    static COPY: LazyLock<(TempDir, PathBuf)> = LazyLock::new(|| {
        let folder = tempfile::Builder::new()
            .permissions(PermissionsExt::from_mode(0o755))
            .tempdir()
            .expect("a temporary folder");
        let path = folder.path().join("turnlock");
        fs::copy(env!("CARGO_BIN_EXE_turnlock"), &path).expect("copied");
        (folder, path)
    });
    &COPY.1
}

/// Runs a command in the surroundings, in a home of its own.
fn run_in(surroundings: &Surroundings, command: &str) -> Output {
    let home = Home::new();
    let file = home.file("file-to-change");
    fs::write(&file, "old\n").expect("writable");
    let words = command.split(' ').map(|word| match word {
        "FILE" => file.to_str().expect("text"),
        word => word,
    });
    let mut shell = Command::new("sh");
    shell.args(["-c", surroundings.script, "sh"]);
    if command.starts_with("hold") {
        shell.args(["timeout", "--preserve-status", "--signal=INT", "1"]);
    }
    let state = home.file("state");
    let output = shell
        .arg(turnlock())
        .args(words)
        .current_dir(home.path())
        .env("TURNLOCK", turnlock())
        // For `fence check`: of another lock than `write` is to use.
        .env("TURNLOCK_FENCING_TOKEN", "v1:exclusive:999999::b")
        .env_remove("TURNLOCK_BACKEND")
        .env_remove("XDG_STATE_HOME")
        .env_remove("TURNLOCK_HOME")
        .envs(surroundings.home.then_some(("TURNLOCK_HOME", &state)))
        .stdin(Stdio::null())
        .output()
        .expect("sh starts");
    let stop = home
        .turnlock(&["stop"])
        .env("TURNLOCK_HOME", &state)
        .output();
    stop.expect("turnlock starts");
    output
}

/// Runs all commands in the surroundings of this name.
fn every_command_in(name: &str) {
    let surroundings = TABLE.iter().find(|row| row.name == name).expect("a row");
    if surroundings.root {
        assert!(rustix::process::geteuid().is_root(), "run this as root");
        program("unshare", "util-linux");
        program("setpriv", "util-linux");
    }
    let mut wrong = Vec::new();
    for command in COMMANDS {
        let expected = surroundings.expected.iter();
        let &(_, (status, word)) = expected
            .clone()
            .find(|(prefix, _)| command.starts_with(prefix))
            .expect("the last row is for all");
        let output = run_in(surroundings, command);
        let said = text(&output.stdout) + &text(&output.stderr);
        if output.status.code() != Some(i32::from(status)) || !said.contains(word) {
            wrong.push(format!(
                "{command}: {}, not {status} with {word:?}: {said}",
                output.status
            ));
        }
    }
    assert!(wrong.is_empty(), "{name}:\n{}", wrong.join("\n"));
}

macro_rules! surroundings {
    ($($test:ident: $name:literal,)*) => {
        $(#[test]
        fn $test() {
            every_command_in($name);
        })*

        #[test]
        fn every_row_of_the_table_is_a_test() {
            let tested = [$($name),*];
            let rows: Vec<&str> = TABLE.iter().map(|row| row.name).collect();
            assert_eq!(rows, tested);
        }
    };
}

surroundings! {
    umask_177: "umask 177",
    umask_777: "umask 777",
    six_descriptors: "six descriptors",
    sixteen_descriptors: "sixteen descriptors",
    no_proc: "no /proc",
    no_proc_and_no_path: "no /proc, and called by a bare name",
    roots_with_the_home_of_another: "root with the HOME of another user",
    a_plain_users_with_the_home_of_another:
        "a plain user with the HOME of another one and none of his own",
    no_home: "no HOME",
    a_long_name: "a folder whose name is too long for a socket",
    a_read_only_folder: "a read-only folder",
    a_full_disk: "a full disk",
    a_file_in_its_place: "a file in the place of the folder",
    an_open_parent: "a parent that everybody can change",
    a_damaged_store: "a store that is damaged",
}

#[test]
fn folders_made_under_umask_177_can_be_used_by_everything_of_the_users() {
    let home = Home::new();
    let script = r#"umask 177; exec "$0" run a -- true"#;
    let output = Command::new("sh")
        .args(["-c", script])
        .arg(turnlock())
        .env("HOME", home.path())
        .env_remove("TURNLOCK_HOME")
        .env_remove("XDG_STATE_HOME")
        .env_remove("TURNLOCK_BACKEND")
        .output()
        .expect("sh starts");
    assert!(output.status.success(), "{}", text(&output.stderr));
    for made in [".local", ".local/state", ".local/state/turnlock"] {
        let mode = fs::metadata(home.file(made)).expect("made").mode() & 0o777;
        assert_eq!(mode, 0o700, "{made}");
    }
    let stopped = home
        .turnlock(&["stop"])
        .env("TURNLOCK_HOME", home.file(".local/state/turnlock"))
        .output()
        .expect("turnlock starts");
    assert!(stopped.status.success(), "{}", text(&stopped.stderr));
}

#[test]
fn a_coordinator_takes_over_nothing_from_who_started_it() {
    let home = Home::new();
    let script = r#"trap '' TERM HUP INT USR1; umask 0; ulimit -Sn 200; ulimit -Sf 100000
        exec nice -n 19 "$0" run a -- true"#;
    // Inherited by what this thread starts.
    let blocked = nix::sys::signal::SigSet::all();
    let before = blocked
        .thread_swap_mask(nix::sys::signal::SigmaskHow::SIG_BLOCK)
        .expect("blocked");
    let output = Command::new("sh")
        .args(["-c", script])
        .arg(turnlock())
        .env("TURNLOCK_HOME", home.path())
        .env("DB_PASSWORD", "canary")
        .env("TURNLOCK_ETCD_PASSWORD", "canary")
        .env("LC_ALL", "C.UTF-8")
        .env_remove("TURNLOCK_BACKEND")
        .output();
    before.thread_set_mask().expect("as before");
    let output = output.expect("sh starts");
    assert!(output.status.success(), "{}", text(&output.stderr));

    let pid = home.coordinator().expect("it runs");
    let read = |file: &str| {
        let bytes = fs::read(format!("/proc/{pid}/{file}")).expect("our process");
        text(&bytes)
    };
    let environ = read("environ");
    assert!(!environ.contains("canary"), "{environ}");
    assert!(environ.contains("LC_ALL=C.UTF-8"), "{environ}");
    let status = read("status");
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.expect(name).trim().to_owned()
    };
    assert_eq!(field("SigBlk:"), "0000000000000000");
    // SIGPIPE, by the standard library. The first 31: the C library keeps some of the rest to itself.
    let ignored = u64::from_str_radix(&field("SigIgn:"), 16).expect("a mask");
    assert_eq!(ignored & 0x7fff_ffff, 1 << 12, "{ignored:x}");
    assert_eq!(field("Umask:"), "0077");
    for limit in ["Max open files", "Max file size"] {
        let limits = read("limits");
        let line = limits.lines().find(|line| line.starts_with(limit));
        let numbers: Vec<&str> = line.expect(limit)[limit.len()..]
            .split_whitespace()
            .collect();
        assert_eq!(numbers[0], numbers[1], "{limit}");
    }
    if rustix::process::geteuid().is_root() {
        // The 19th field.
        let stat = read("stat");
        let (_, after_the_name) = stat.rsplit_once(") ").expect("a name");
        assert_eq!(after_the_name.split(' ').nth(16), Some("0"), "{stat}");
    }
    let cwd = fs::read_link(format!("/proc/{pid}/cwd")).expect("our process");
    assert_eq!(cwd, Path::new("/"));
    let stopped = home.run(&["stop"]);
    assert!(stopped.status.success(), "{}", text(&stopped.stderr));
    assert!(!alive(pid));
}

#[test]
fn a_limit_that_cannot_be_raised_is_in_the_log() {
    let home = Home::new();
    let script = r#"ulimit -n 100; ulimit -t 1000; exec "$0" run a -- true"#;
    let output = Command::new("sh")
        .args(["-c", script])
        .arg(turnlock())
        .env("TURNLOCK_HOME", home.path())
        .env_remove("TURNLOCK_BACKEND")
        .output()
        .expect("sh starts");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let log = || fs::read_to_string(home.file("coordinator.log")).expect("a log");
    eventually("it is said", || {
        log().contains("after 1000 s of processor time")
    });
    assert!(log().contains("at most 100 descriptors"), "{}", log());
}

#[test]
fn the_log_is_kept_over_a_start_and_has_times() {
    let home = Home::new();
    for _ in 0..2 {
        assert!(home.run(&["run", "a", "--", "true"]).status.success());
        assert!(home.run(&["stop"]).status.success());
    }
    let log = fs::read_to_string(home.file("coordinator.log")).expect("a log");
    let starts: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("serving"))
        .collect();
    assert_eq!(starts.len(), 2, "{log}");
    for line in starts {
        // As in 2026-01-31T12:00:00.000000Z.
        let (time, _) = line.split_once(' ').expect("a time");
        assert!(time.len() == 27 && time.ends_with('Z'), "{line}");
        assert_eq!(&time[10..11], "T");
    }
    let mode = fs::metadata(home.file("coordinator.log"))
        .expect("there")
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn who_only_looks_starts_no_coordinator_and_makes_nothing() {
    let home = Home::new();
    let state = home.file("state");
    for command in [&["ls"][..], &["queue", "a"], &["status"], &["stop"]] {
        let output = home
            .turnlock(command)
            .env("TURNLOCK_HOME", &state)
            .output()
            .expect("turnlock starts");
        let expected = if command == ["status"] { 69 } else { 0 };
        assert_eq!(
            output.status.code(),
            Some(expected),
            "{}",
            text(&output.stderr)
        );
        assert!(!state.exists(), "{command:?} made the folder");
    }
}

#[test]
fn status_says_which_coordinator_and_why() {
    let home = Home::new();
    assert!(home.run(&["run", "a", "--", "true"]).status.success());
    let output = home.run(&["status", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(said["kind"], "own");
    assert_eq!(said["decided_by"], "TURNLOCK_HOME");
    assert_eq!(said["place"], home.path().to_str().expect("text"));
    assert_eq!(said["pid"], home.coordinator().expect("it runs"));
    assert_eq!(
        said["version"],
        concat!("turnlock ", env!("CARGO_PKG_VERSION"))
    );
    assert_eq!(said["answers"], true);

    let url = format!("etcd+unix://{}", home.file("turnlock.sock").display());
    let output = home.run(&["--backend", &url, "status"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let shown = text(&output.stdout);
    assert!(
        shown.contains("--backend") && shown.contains(&url),
        "{shown}"
    );
    assert!(home.run(&["stop"]).status.success());
    let output = home.run(&["--backend", &url, "status"]);
    assert_eq!(output.status.code(), Some(69), "{}", text(&output.stderr));
}

#[test]
fn a_coordinator_in_another_process_namespace_is_not_called_none() {
    assert!(rustix::process::geteuid().is_root(), "run this as root");
    let home = Home::new();
    assert!(home.run(&["run", "a", "--", "true"]).status.success());
    let pid = home.coordinator().expect("it runs");
    let inside = |command: &str| {
        let output = Command::new(program("unshare", "util-linux"))
            .args(["--pid", "--fork", "--mount-proc"])
            .arg(turnlock())
            .arg(command)
            .env("TURNLOCK_HOME", home.path())
            .env_remove("TURNLOCK_BACKEND")
            .output();
        output.expect("unshare starts")
    };
    let output = inside("stop");
    assert_eq!(output.status.code(), Some(69), "{}", text(&output.stderr));
    let said = text(&output.stderr);
    assert!(said.contains("in another process namespace"), "{said}");
    assert!(alive(pid));
    assert_eq!(inside("status").status.code(), Some(0));
}

#[test]
fn stop_without_the_socket_never_says_that_none_runs_while_one_does() {
    let home = Home::new();
    assert!(home.run(&["run", "a", "--", "true"]).status.success());
    let pid = home.coordinator().expect("it runs");
    fs::remove_file(home.file("turnlock.sock")).expect("there");
    let output = home.run(&["stop"]);
    let said = text(&output.stderr);
    match output.status.code() {
        Some(0) => assert!(!alive(pid), "{said}"),
        status => {
            assert_eq!(status, Some(69), "{said}");
            assert!(said.contains(&format!("process {pid}")), "{said}");
            signal(pid, Signal::TERM);
            eventually("it has ended", || !alive(pid));
        }
    }
}

#[test]
fn a_socket_of_another_user_is_refused() {
    assert!(rustix::process::geteuid().is_root(), "run this as root");
    let home = Home::new();
    let theirs = home.file("theirs");
    fs::create_dir(&theirs).expect("made");
    fs::set_permissions(home.path(), PermissionsExt::from_mode(0o755)).expect("ours");
    fs::set_permissions(&theirs, PermissionsExt::from_mode(0o700)).expect("ours");
    std::os::unix::fs::chown(&theirs, Some(65534), Some(65534)).expect("root");
    let server = Command::new(program("setpriv", "util-linux"))
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"])
        .arg(turnlock())
        .args(["serve", "--data"])
        .arg(&theirs)
        .stdin(Stdio::null())
        .spawn();
    let server = support::Running::of(server.expect("setpriv starts"));
    let socket = theirs.join("turnlock.sock");
    eventually("it listens", || {
        std::os::unix::net::UnixStream::connect(&socket).is_ok()
    });
    let url = format!("etcd+unix://{}", socket.display());
    let output = home.run(&["--backend", &url, "run", "a", "--", "true"]);
    assert_eq!(output.status.code(), Some(78), "{}", text(&output.stderr));
    let said = text(&output.stderr);
    assert!(said.contains("is served by user 65534"), "{said}");
    let url = format!("{url}?server_uid=65534");
    let output = home.run(&["--backend", &url, "run", "a", "--", "true"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    drop(server);
}
