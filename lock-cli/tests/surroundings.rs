//! Tests every command in surroundings that lack something. A command works, or ends with a status
//! of the table and a message that names the lack.

mod support;

use std::fs;
use std::process::{Command, Output, Stdio};

use support::{Home, program, readable_turnlock, text};

/// The command lines. FILE is a file in the home.
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
    "token-offset",
    "bench --workload raw --seconds 0.1 --workers 1",
    "conformance --list",
    "serve --idle 0.1",
    "system show",
    "stop",
];

/// The expected result of a command: a status, and a word of the message.
type Expected = (u8, &'static str);

/// The result of a command that ends with 0. A command that waits for a signal gets one after a
/// second.
const WORKS: Expected = (0, "");
/// The result of a command that needs `/proc` where it is not mounted.
const NO_PROC: Expected = (78, "/proc is not mounted");

/// Expected results, each of the commands whose text begins with the first member.
type Expectations = &'static [(&'static str, Expected)];

/// What `status` reports where no coordinator runs.
const NONE_RUNS: Expectations = &[("status", (69, "none runs"))];
/// The commands that use no folder of a coordinator work.
const NEED_NO_FOLDER: Expectations =
    &[("fence ", WORKS), ("conformance", WORKS), ("system", WORKS)];
/// The commands that ask a coordinator, but start none, work.
const START_NOTHING: Expectations = &[("ls", WORKS), ("queue ", WORKS), ("stop", WORKS)];

/// Surroundings, and the results of commands in them.
struct Surroundings {
    name: &'static str,
    /// Executes "$@" in the surroundings. `HOME` and `TURNLOCK` are set.
    script: &'static str,
    /// Whether `TURNLOCK_HOME` is set.
    home: bool,
    /// Whether the script needs root.
    root: bool,
    expected: Expected,
    /// The results of the commands that are not as `expected`. The first one that fits counts.
    exceptions: &'static [Expectations],
}

impl Surroundings {
    /// Makes surroundings in which every command works.
    const fn new(name: &'static str, script: &'static str) -> Self {
        Surroundings {
            name,
            script,
            home: true,
            root: false,
            expected: WORKS,
            exceptions: &[],
        }
    }

    const fn without_home(self) -> Self {
        Surroundings {
            home: false,
            ..self
        }
    }

    const fn with_root(self) -> Self {
        Surroundings { root: true, ..self }
    }

    const fn expect(self, status: u8, word: &'static str) -> Self {
        Surroundings {
            expected: (status, word),
            ..self
        }
    }

    const fn except(self, exceptions: &'static [Expectations]) -> Self {
        Surroundings { exceptions, ..self }
    }

    /// Returns the result that a command must have.
    fn expected_of(&self, command: &str) -> Expected {
        let mut exceptions = self.exceptions.iter().copied().flatten();
        let found = exceptions.find(|(prefix, _)| command.starts_with(prefix));
        found.map_or(self.expected, |(_, expected)| *expected)
    }
}

const TABLE: &[Surroundings] = &[
    Surroundings::new("umask 177", r#"umask 177; exec "$@""#).except(&[NONE_RUNS]),
    Surroundings::new("umask 777", r#"umask 777; exec "$@""#).except(&[NONE_RUNS]),
    Surroundings::new("six descriptors", r#"ulimit -n 6; exec "$@""#).expect(78, "ulimit -n"),
    Surroundings::new("sixteen descriptors", r#"ulimit -n 16; exec "$@""#).expect(78, "ulimit -n"),
    Surroundings::new(
        "no /proc",
        r#"exec unshare --mount sh -c 'mount -t tmpfs none /proc && exec "$@"' sh "$@""#,
    )
    .with_root()
    .except(&[&[("run ", NO_PROC), ("edit ", NO_PROC)], NONE_RUNS]),
    Surroundings::new(
        "no /proc, and called by a bare name",
        r#"PATH=$(dirname "$TURNLOCK"):$PATH; while [ "$1" != "$TURNLOCK" ]; do shift; done; shift
            exec unshare --mount sh -c 'mount -t tmpfs none /proc && exec turnlock "$@"' sh "$@""#,
    )
    .with_root()
    .except(&[
        &[
            ("run ", NO_PROC),
            ("edit ", NO_PROC),
            ("hold ", NO_PROC),
            ("write ", NO_PROC),
            ("append ", NO_PROC),
            ("token-offset", NO_PROC),
            ("bench ", NO_PROC),
        ],
        NONE_RUNS,
    ]),
    Surroundings::new(
        "root with the HOME of another user",
        r#"mkdir user && chown 65534:65534 user
            exec unshare --mount sh -c 'mount -t tmpfs -o mode=700 none /root &&
                export HOME="$PWD/user"
                "$@"; status=$?; "$TURNLOCK" stop 2>/dev/null
                [ -z "$(ls -A user)" ] || exit 99; exit $status' sh "$@""#,
    )
    .without_home()
    .with_root()
    .except(&[NONE_RUNS]),
    Surroundings::new(
        "a plain user with the HOME of another one and none of his own",
        r#"mkdir user && chown 12345:12345 user && chmod 755 user . && export HOME="$PWD/user"
            exec setpriv --reuid=65534 --regid=65534 --clear-groups -- "$@""#,
    )
    .without_home()
    .with_root()
    .expect(78, "set TURNLOCK_HOME")
    .except(&[
        &[("fence ", (74, "ermission denied"))],
        START_NOTHING,
        NONE_RUNS,
        NEED_NO_FOLDER,
    ]),
    Surroundings::new("no HOME", r#"unset HOME XDG_STATE_HOME; exec "$@""#)
        .without_home()
        .expect(78, "HOME is not set")
        .except(&[NEED_NO_FOLDER]),
    Surroundings::new(
        "a folder whose name is too long for a socket",
        r#"TURNLOCK_HOME=$TURNLOCK_HOME/$(printf 'x%.0s' $(seq 110))
            export TURNLOCK_HOME; exec "$@""#,
    )
    .expect(78, "the system allows 107")
    .except(&[NEED_NO_FOLDER]),
    Surroundings::new(
        "a read-only folder",
        r#"mkdir -m 700 ro; exec unshare --mount sh -c 'mount -t tmpfs -o ro,mode=700 none ro
            export TURNLOCK_HOME="$PWD/ro"; exec "$@"' sh "$@""#,
    )
    .with_root()
    .expect(78, "Read-only file system")
    .except(&[START_NOTHING, NONE_RUNS, NEED_NO_FOLDER]),
    Surroundings::new(
        "a full disk",
        r#"mkdir -m 700 full
            exec unshare --mount sh -c 'mount -t tmpfs -o size=64k,mode=700 none full
            cat /dev/zero >full/filler 2>/dev/null
            export TURNLOCK_HOME="$PWD/full"; exec "$@"' sh "$@""#,
    )
    .with_root()
    .expect(78, "No space left")
    .except(&[START_NOTHING, NONE_RUNS, NEED_NO_FOLDER]),
    Surroundings::new(
        "a file in the place of the folder",
        r#"touch file; TURNLOCK_HOME=$PWD/file; export TURNLOCK_HOME; exec "$@""#,
    )
    .expect(78, "file")
    .except(&[NEED_NO_FOLDER]),
    Surroundings::new(
        "a parent that everybody can change",
        r#"mkdir -p -m 777 open && chmod 777 open; TURNLOCK_HOME=$PWD/open/home
            export TURNLOCK_HOME; exec "$@""#,
    )
    .expect(78, "open can be changed by everybody")
    .except(&[NEED_NO_FOLDER]),
    Surroundings::new(
        "a store that is damaged",
        r#"mkdir -m 700 damaged; TURNLOCK_HOME=$PWD/damaged; export TURNLOCK_HOME
            : >damaged/store.redb; : >damaged/ACKED; exec "$@""#,
    )
    .expect(78, "the file is empty")
    .except(&[START_NOTHING, NONE_RUNS, NEED_NO_FOLDER]),
];

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
        shell.args(["timeout", "--preserve-status", "--signal=TERM", "1"]);
    }
    let state = home.file("state");
    let output = shell
        .arg(readable_turnlock())
        .args(words)
        .current_dir(home.path())
        .env("TURNLOCK", readable_turnlock())
        // The token is for `fence check`. It belongs to another lock than the one that `write` is
        // to use.
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
fn check_every_command(name: &str) {
    let surroundings = TABLE.iter().find(|row| row.name == name).expect("a row");
    if surroundings.root {
        assert!(rustix::process::geteuid().is_root(), "run this as root");
        program("unshare", "util-linux");
        program("setpriv", "util-linux");
    }
    let mut wrong = Vec::new();
    for command in COMMANDS {
        let (status, word) = surroundings.expected_of(command);
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
            check_every_command($name);
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
