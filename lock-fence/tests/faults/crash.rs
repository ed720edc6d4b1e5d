//! Every system call of an operation in turn: the process is killed before it, or the call fails.

use std::fs;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use libtest_mimic::Trial;
use lock_core::Token;
use lock_fence::{Fence, FencedFile, read};
use tempfile::TempDir;

use crate::helper::{OPERATIONS, arguments, change, program, token};

const OLD: &[u8] = b"old\n";
const INPUT: &[u8] = b"new\n";

/// What the file is like before the operation.
#[derive(Debug, Clone, Copy)]
enum Before {
    /// There is none, and no mark.
    Absent,
    /// It was written with token 5.
    Fenced,
    /// The same, and then an append with token 5 died in the middle of its record.
    Torn,
}

/// A system call of the operation: the `ordinal`th of that name in the life of the process.
#[derive(Debug, Clone)]
struct Call {
    name: String,
    ordinal: usize,
}

#[derive(Debug, Clone, Copy)]
enum Fault {
    Kill,
    Error(&'static str),
}

pub fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for operation in OPERATIONS {
        for before in [Before::Absent, Before::Fenced, Before::Torn] {
            let name = format!("{operation}_on_{before:?}_is_whole_or_not_at_all").to_lowercase();
            trials.push(Trial::test(name, move || {
                every_call(operation, before);
                Ok(())
            }));
        }
    }
    trials.push(Trial::test(
        "a_record_cut_in_the_middle_is_not_read_and_is_cut_off",
        || {
            torn_record();
            Ok(())
        },
    ));
    trials
}

struct Scene {
    _dir: TempDir,
    path: PathBuf,
    old: Option<&'static [u8]>,
}

fn scene(before: Before) -> Scene {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a temporary folder");
    let path = dir.path().join("ledger");
    let old = match before {
        Before::Absent => None,
        Before::Fenced | Before::Torn => {
            FencedFile::new(&path, token(5))
                .replace(OLD)
                .expect("admitted");
            Some(OLD)
        }
    };
    if matches!(before, Before::Torn) {
        tear(&path);
    }
    Scene {
        _dir: dir,
        path,
        old,
    }
}

/// Has an append die in the middle: the system ends a process that writes past the limit of a
/// file's size, after it has written up to there.
fn tear(path: &Path) {
    let record = [b'x'; 4000];
    let limited = program("prlimit", "util-linux")
        .args(["--fsize=2000", "--core=0"])
        .args(arguments("append", path, 5))
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let output = fed(limited.expect("prlimit starts"), &record);
    assert_eq!(
        output.status.signal(),
        Some(25),
        "ended by SIGXFSZ: {output:?}"
    );
    assert_eq!(
        fs::metadata(path).expect("there").len(),
        2000,
        "a torn record"
    );
}

fn fed(mut child: std::process::Child, input: &[u8]) -> Output {
    // A process that is killed at its start does not read.
    let _ = child.stdin.take().expect("piped").write_all(input);
    child.wait_with_output().expect("a child of ours")
}

fn traced(operation: &str, path: &Path, inject: Option<(&Call, Fault)>) -> (Output, String) {
    let log = path.with_file_name("trace");
    let mut strace = program("strace", "strace");
    strace.args(["-f", "-qq", "-o"]).arg(&log);
    if let Some((Call { name, ordinal }, fault)) = inject {
        let fault = match fault {
            Fault::Kill => "signal=KILL".to_owned(),
            Fault::Error(error) => format!("error={error}"),
        };
        strace.args(["-e", &format!("inject={name}:{fault}:when={ordinal}")]);
    }
    let child = strace
        .args(arguments(operation, path, 7))
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("strace starts");
    let output = fed(child, INPUT);
    let trace = fs::read_to_string(&log).expect("a trace");
    fs::remove_file(log).expect("removable");
    (output, trace)
}

/// Returns the calls between the two marks that the helper makes in its trace.
fn calls(trace: &str) -> Vec<Call> {
    let mut counts = std::collections::HashMap::new();
    let mut calls = Vec::new();
    let mut marks = 0;
    for line in trace.lines() {
        let rest = line
            .trim_start_matches(|c: char| c.is_ascii_digit())
            .trim_start();
        let Some((name, _)) = rest.split_once('(') else {
            continue;
        };
        let ordinal = counts.entry(name.to_owned()).or_insert(0);
        *ordinal += 1;
        match name {
            "getppid" => marks += 1,
            _ if marks == 1 => calls.push(Call {
                name: name.to_owned(),
                ordinal: *ordinal,
            }),
            _ => {}
        }
    }
    assert_eq!(marks, 2, "the trace has both marks: {trace}");
    calls
}

fn every_call(operation: &str, before: Before) {
    let Scene { path, old, _dir } = scene(before);
    let (output, trace) = traced(operation, &path, None);
    assert!(output.status.success(), "{output:?}");
    let new = read(&path).ok();
    let all = calls(&trace);
    let syncs = all.iter().filter(|call| call.name.contains("sync")).count();
    assert!(syncs >= 1 && all.len() >= 10, "{all:?}");

    let mut killed = 0;
    for call in &all {
        for fault in [
            Fault::Kill,
            Fault::Error("EIO"),
            Fault::Error("ENOSPC"),
            Fault::Error("EINTR"),
        ] {
            // A call that is made to fail is not done, but a real one closes whatever it answers.
            if call.name == "close" && !matches!(fault, Fault::Kill) {
                continue;
            }
            let Scene {
                path,
                old: same,
                _dir,
            } = scene(before);
            assert_eq!(same, old);
            let (output, _) = traced(operation, &path, Some((call, fault)));
            killed += usize::from(output.status.signal() == Some(9));
            let seen = format!("{operation} on {before:?}, {fault:?} at {call:?}: {output:?}");
            judge(
                operation,
                &path,
                old,
                new.as_deref(),
                output.status.success(),
                &seen,
            );
        }
    }
    assert_eq!(killed, all.len(), "every kill hit");
}

/// Checks the promises that hold after every crash.
fn judge(
    operation: &str,
    path: &Path,
    old: Option<&[u8]>,
    new: Option<&[u8]>,
    done: bool,
    seen: &str,
) {
    let fence = Fence::new(path);
    let highest = fence
        .highest()
        .unwrap_or_else(|error| panic!("{seen}: {error}"));
    let mark = highest.map(|highest| highest.token);
    let content = read(path).ok();
    let content = content.as_deref();
    assert!(content == old || content == new, "{seen}: {content:?}");
    if !seen.contains("Torn") {
        assert_eq!(
            fs::read(path).ok().as_deref(),
            content,
            "{seen}: any reader sees the same"
        );
    }
    let lowest = old.map(|_| Token(5));
    assert!(
        mark == lowest || mark == Some(Token(7)),
        "{seen}: the mark is {mark:?}"
    );
    if content != old || done {
        assert_eq!(
            mark,
            Some(Token(7)),
            "{seen}: the mark is raised before the change is seen"
        );
    }
    if done {
        assert_eq!(content, new, "{seen}");
    }

    // Life goes on: earlier holders are refused if the mark says so, a later one is admitted.
    let late = change(operation, path, token(6), b"late\n");
    match mark {
        Some(Token(7)) => assert!(late.expect_err(seen).is_stale(), "{seen}"),
        _ => assert!(late.is_ok(), "{seen}: {late:?}"),
    }
    let before = read(path).unwrap_or_default();
    FencedFile::new(path, token(8))
        .append(b"next\n")
        .unwrap_or_else(|error| panic!("{seen}: {error}"));
    let after = fs::read(path).expect("there");
    assert_eq!(after, [&before[..], b"next\n"].concat(), "{seen}");
}

fn torn_record() {
    let Scene { path, _dir, .. } = scene(Before::Torn);
    assert_eq!(read(&path).expect("readable"), OLD);
    // A check in between does not forget it.
    Fence::new(&path).admit(&token(6)).expect("admitted");
    assert_eq!(read(&path).expect("readable"), OLD);
    FencedFile::new(&path, token(7))
        .append(INPUT)
        .expect("admitted");
    assert_eq!(fs::read(&path).expect("readable"), [OLD, INPUT].concat());

    // What others made of the file meanwhile is not ours to cut.
    let Scene { path, _dir, .. } = scene(Before::Torn);
    let theirs = "y".repeat(3000);
    fs::remove_file(&path).expect("removable");
    fs::write(&path, &theirs).expect("writable");
    FencedFile::new(&path, token(7))
        .append(INPUT)
        .expect("admitted");
    let whole = fs::read_to_string(&path).expect("readable");
    assert!(whole == theirs + "new\n", "{} bytes are left", whole.len());
}
