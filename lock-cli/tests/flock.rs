//! Tests the ten commonest uses of flock, as docs/coming-from-flock.md shows them, beside the real
//! flock: which process gets in when, and with which status each ends. Each use runs once with a
//! holder that ends by itself, and once with a holder that is killed.

mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use support::{Home, eventually, lines, program};

/// The work under the lock. The first process stays until the test lets it go on.
const BODY: &str = r#"
echo "$WHO in" >>seen
if [ "$WHO" = first ]; then read _ <go; fi
echo "$WHO out" >>seen
"#;

/// A script that runs itself anew under a lock of its own.
const SELF_LOCKING: &str = r#"#!/bin/bash
[ "$LOCKED" != "$0" ] && exec env LOCKED="$0" $LOCK -en "$0" "$0" "$@"
. ./body
"#;

/// One use, written for each of the two programs. `$LOCK` is `flock` or `turnlock run`.
struct Use {
    flock: &'static str,
    turnlock: &'static str,
    /// The file that is locked.
    file: &'static str,
    second: Second,
    /// Only the process itself is killed, and not the other processes that it has started.
    alone: bool,
}

/// The result of a second process that comes while the first one holds the lock.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Second {
    Waits,
    /// The second process ends with this status.
    Conflicts(&'static str),
    Shares,
}

impl Use {
    /// Makes a use that both programs write alike.
    const fn same(script: &'static str, second: Second) -> Use {
        Use {
            flock: script,
            turnlock: script,
            file: "lock",
            second,
            alone: false,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Flock,
    Turnlock,
}

/// A folder in which one of the two programs runs one use.
struct Stage<'a> {
    home: Home,
    side: Side,
    played: &'a Use,
}

impl Stage<'_> {
    fn new(side: Side, played: &Use) -> Stage<'_> {
        let home = Home::new();
        fs::write(home.file("body"), BODY).expect("writable");
        fs::write(home.file("job"), SELF_LOCKING).expect("writable");
        let executable = fs::Permissions::from_mode(0o755);
        fs::set_permissions(home.file("job"), executable).expect("ours");
        let made = Command::new("mkfifo").arg(home.file("go")).status();
        assert!(made.expect("mkfifo starts").success());
        Stage { home, side, played }
    }

    /// Starts a process in a process group of its own.
    fn start(&self, who: &str) -> Child {
        let turnlock = env!("CARGO_BIN_EXE_turnlock");
        let (script, lock) = match self.side {
            Side::Flock => (self.played.flock, "flock".to_owned()),
            Side::Turnlock => (self.played.turnlock, format!("{turnlock} run")),
        };
        Command::new(program("bash", "bash"))
            .args(["-c", script])
            .env("LOCK", lock)
            .env("TURNLOCK", turnlock)
            .env("WHO", who)
            .env("SHELL", program("bash", "bash"))
            .env("TURNLOCK_HOME", self.home.path())
            .env_remove("TURNLOCK_BACKEND")
            .current_dir(self.home.path())
            .process_group(0)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("bash starts")
    }

    /// Returns the number of processes that hold the lock or wait for it.
    fn contenders(&self) -> usize {
        match self.side {
            Side::Flock => flocks(&self.home.file(self.played.file)),
            Side::Turnlock => self.home.queue(&format!("./{}", self.played.file)).len(),
        }
    }

    fn seen(&self, line: &str) -> bool {
        lines(&self.home.file("seen"))
            .iter()
            .any(|seen| seen == line)
    }

    /// Returns the status as a shell shows it, and a conflict by that word.
    fn status(&self, status: ExitStatus) -> String {
        let conflict = match self.side {
            Side::Flock => 1,
            Side::Turnlock => 75,
        };
        match (status.code(), status.signal()) {
            (Some(code), _) if code == conflict => "conflict".to_owned(),
            (code, signal) => code.or(signal.map(|s| 128 + s)).unwrap_or(-1).to_string(),
        }
    }

    fn kill(&self, child: &Child) {
        let pid = Pid::from_raw(child.id().try_into().expect("a process id")).expect("not zero");
        // Under flock the command has the lock, too. Under turnlock, turnlock ends the command.
        match self.side {
            Side::Flock if !self.played.alone => kill_process_group(pid, Signal::KILL),
            _ => kill_process(pid, Signal::KILL),
        }
        .expect("ours");
    }

    /// Runs the use. Returns which process came in when, and how each ended.
    fn play(&self, killed: bool) -> Vec<String> {
        let mut first = self.start("first");
        eventually("the first is in", || self.seen("first in"));
        let mut told = vec![];
        let mut second = self.start("second");
        match self.played.second {
            Second::Waits => eventually("the second waits", || self.contenders() == 2),
            Second::Conflicts(_) | Second::Shares => {
                let ended = second.wait().expect("a child of ours");
                told.push(format!("second: {}", self.status(ended)));
            }
        }
        if killed {
            self.kill(&first);
        } else {
            fs::write(self.home.file("go"), "\n").expect("it reads");
        }
        let ended = first.wait().expect("a child of ours");
        told.push(format!("first: {}", self.status(ended)));
        if self.played.second == Second::Waits {
            let ended = second.wait().expect("a child of ours");
            told.push(format!("second: {}", self.status(ended)));
        }
        eventually("all have left", || self.contenders() == 0);
        let ended = self.start("third").wait().expect("a child of ours");
        told.push(format!("third: {}", self.status(ended)));
        told.extend(lines(&self.home.file("seen")));
        told
    }
}

/// Returns the number of processes that hold a `flock` of this file or wait for one, as the kernel
/// reports.
fn flocks(file: &Path) -> usize {
    let inode = fs::metadata(file).map_or(0, |metadata| metadata.ino());
    let locks = fs::read_to_string("/proc/locks").expect("Linux");
    let of_it = locks
        .lines()
        .filter(|line| line.contains("FLOCK") && line.contains(&format!(":{inode} ")));
    of_it.count()
}

fn expected(second: Second, killed: bool) -> Vec<String> {
    let first = if killed { "first: 137" } else { "first: 0" };
    let (second, seen): (_, &[&str]) = match second {
        Second::Waits => ("0", &["first in", "first out", "second in", "second out"]),
        Second::Conflicts(status) => (status, &["first in", "first out"]),
        Second::Shares => ("0", &["first in", "second in", "second out", "first out"]),
    };
    let mut told = vec![first.to_owned(), format!("second: {second}")];
    if !seen.starts_with(&["first in", "first out", "second in"]) {
        told.reverse();
    }
    told.push("third: 0".to_owned());
    let seen = seen.iter().filter(|line| !killed || **line != "first out");
    told.extend(
        seen.chain(&["third in", "third out"])
            .map(|&line| line.to_owned()),
    );
    told
}

fn alike(played: &Use) {
    for killed in [false, true] {
        let [flock, turnlock] =
            [Side::Flock, Side::Turnlock].map(|side| Stage::new(side, played).play(killed));
        assert_eq!(flock, turnlock, "flock, and turnlock; killed: {killed}");
        assert_eq!(flock, expected(played.second, killed), "killed: {killed}");
    }
}

#[test]
fn wait_for_our_turn() {
    alike(&Use::same("exec $LOCK ./lock sh ./body", Second::Waits));
}

#[test]
fn a_nightly_job_that_is_skipped_if_it_still_runs() {
    alike(&Use::same(
        "exec $LOCK -n ./lock sh ./body",
        Second::Conflicts("conflict"),
    ));
}

#[test]
fn wait_for_a_limited_time() {
    alike(&Use::same(
        "exec $LOCK -w 0.3 ./lock sh ./body",
        Second::Conflicts("conflict"),
    ));
}

#[test]
fn readers_share() {
    alike(&Use::same(
        "exec $LOCK --shared --timeout 20 ./lock sh ./body",
        Second::Shares,
    ));
}

#[test]
fn a_line_for_the_shell() {
    let line = r#"exec $LOCK -x ./lock -c '[ -n "$BASH_VERSION" ] && . ./body'"#;
    alike(&Use::same(line, Second::Waits));
}

#[test]
fn a_conflict_status_of_ones_own() {
    let script = "exec $LOCK --nonblock --conflict-exit-code 9 ./lock sh ./body";
    alike(&Use::same(script, Second::Conflicts("9")));
}

#[test]
fn a_script_that_locks_itself() {
    alike(&Use {
        file: "job",
        ..Use::same("exec ./job", Second::Conflicts("conflict"))
    });
}

#[test]
fn a_descriptor_that_is_held_for_the_rest_of_a_script() {
    alike(&Use {
        flock: "exec 9>./lock; flock 9; . ./body",
        turnlock: r#"coproc LOCKED { exec $TURNLOCK hold --while-open ./lock; }
            read -r token <&"${LOCKED[0]}" || exit 75
            . ./body"#,
        alone: true,
        ..Use::same("", Second::Waits)
    });
}

#[test]
fn a_part_of_a_script() {
    alike(&Use {
        flock: "( flock -n 9 || exit 1; . ./body ) 9>./lock",
        turnlock: "work() { . ./body; }; export -f work
            exec $TURNLOCK run -n ./lock bash -c work",
        ..Use::same("", Second::Conflicts("conflict"))
    });
}

#[test]
fn lines_of_a_log() {
    alike(&Use {
        file: "seen",
        ..Use::same("exec $LOCK ./seen -c '. ./body'", Second::Waits)
    });
}
