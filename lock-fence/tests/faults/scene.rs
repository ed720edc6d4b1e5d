//! The file before an operation, the process that does the operation, and what must hold afterwards.

use std::fs;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Output, Stdio};

use lock_core::Token;
use lock_fence::{Fence, FencedFile, read};
use tempfile::TempDir;

use crate::helper::{arguments, change, program, token};

pub const OLD: &[u8] = b"old\n";

/// What the file is like before the operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    /// There is none, and no mark.
    Absent,
    /// It was written with token 5.
    Fenced,
    /// The same, and then an append with token 5 died in the middle of its record.
    Torn,
}

impl Before {
    pub const ALL: [Before; 3] = [Before::Absent, Before::Fenced, Before::Torn];
}

pub struct Scene {
    pub dir: TempDir,
    pub path: PathBuf,
    pub old: Option<&'static [u8]>,
}

/// Returns an empty folder.
pub fn folder() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a temporary folder")
}

pub fn scene(before: Before) -> Scene {
    let dir = folder();
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
    if before == Before::Torn {
        tear(&path);
    }
    Scene { dir, path, old }
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
    let output = feed(limited.expect("prlimit starts"), &record);
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

fn feed(mut child: Child, input: &[u8]) -> Output {
    // A process that is killed at its start does not read.
    let _ = child.stdin.take().expect("piped").write_all(input);
    child.wait_with_output().expect("a child of ours")
}

/// Has a process do an operation with token 7 under `strace`, with these further options. Returns its
/// output and its trace.
pub fn trace(operation: &str, path: &Path, input: &[u8], options: &[&str]) -> (Output, String) {
    let log = path.with_file_name("trace");
    let child = program("strace", "strace")
        .args(["-f", "-qq", "-o"])
        .arg(&log)
        .args(options)
        .args(arguments(operation, path, 7))
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("strace starts");
    let output = feed(child, input);
    let trace = fs::read_to_string(&log).expect("a trace");
    fs::remove_file(log).expect("removable");
    (output, trace)
}

/// What an operation with token 7 was to change, and whether it returned.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    pub operation: &'a str,
    pub old: Option<&'a [u8]>,
    pub new: Option<&'a [u8]>,
    pub is_done: bool,
    /// Whether a program that reads the file without its mark must see the same as one that reads the
    /// mark. Not so while a part of a record is in the file.
    pub is_plain: bool,
}

/// Checks the file, and that life goes on.
///
/// # Errors
/// What does not hold.
pub fn judge(path: &Path, expected: Expected) -> Result<(), String> {
    let Expected {
        operation,
        old,
        new,
        is_done,
        is_plain,
    } = expected;
    let ensure = |holds: bool, what: String| holds.then_some(()).ok_or(what);
    let highest = Fence::new(path).highest();
    let highest = highest.map_err(|error| format!("the mark is not readable: {error}"))?;
    let mark = highest.map(|highest| highest.token);
    let content = read(path).ok();
    let content = content.as_deref();
    ensure(
        content == old || content == new,
        format!("neither old nor new: {content:?}"),
    )?;
    if is_plain {
        let plain = fs::read(path).ok();
        ensure(
            plain.as_deref() == content,
            format!("another reader sees {plain:?}"),
        )?;
    }
    let lowest = old.map(|_| Token(5));
    ensure(
        mark == lowest || mark == Some(Token(7)),
        format!("the mark is {mark:?}"),
    )?;
    ensure(
        mark == Some(Token(7)) || (content == old && !is_done),
        format!("the mark is {mark:?} although the change is seen or done"),
    )?;
    ensure(
        content == new || !is_done,
        format!("done, and the content is {content:?}"),
    )?;

    // Earlier holders are refused if the mark says so, a later one is admitted.
    let late = change(operation, path, token(6), b"late\n");
    match (&late, mark) {
        (Err(error), Some(Token(7))) if error.is_stale() => {}
        (Ok(()), mark) if mark != Some(Token(7)) => {}
        _ => return Err(format!("token 6 meets the mark {mark:?}: {late:?}")),
    }
    let before = read(path).unwrap_or_default();
    let next = FencedFile::new(path, token(8)).append(b"next\n");
    next.map_err(|error| format!("a later holder fails: {error}"))?;
    let after = fs::read(path).unwrap_or_default();
    ensure(
        after == [&before[..], b"next\n"].concat(),
        format!("a later holder made {after:?} of {before:?}"),
    )
}
