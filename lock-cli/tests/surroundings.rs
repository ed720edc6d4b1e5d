//! Tests every command in surroundings that lack something: it ends with a status of the table and
//! a message that names the lack, or it works all the same.

mod support;

use std::fs;
use std::process::{Command, Output, Stdio};

use support::{Home, program, readable_turnlock, text};

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
    "token-offset",
    "bench --workload raw --seconds 0.1 --workers 1",
    "conformance --list",
    "serve --idle 0.1",
    "system show",
    "stop",
];

/// The expected result of a command: a status, and a word of the message.
type Expected = (u8, &'static str);

/// Surroundings, and the results of commands in them. The first row whose text the command begins
/// with counts.
struct Surroundings {
    name: &'static str,
    /// Executes "$@" in the surroundings. `HOME` and `TURNLOCK` are set.
    script: &'static str,
    /// Whether `TURNLOCK_HOME` is set.
    home: bool,
    /// Whether the script needs root.
    root: bool,
    expected: &'static [(&'static str, Expected)],
}

/// The result of a command that ends with 0. A command that waits for a signal gets one after a
/// second.
const WORKS: Expected = (0, "");
/// The result of a command that finds no coordinator.
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
            ("token-offset", (78, "/proc is not mounted")),
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
