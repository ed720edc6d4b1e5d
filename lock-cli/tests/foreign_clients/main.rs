//! The tests that clients of etcd bring along, against `turnlock serve` and against etcd.
//!
//! The sources come from the packages of the clients. Which of their tests pass is fixed in the
//! lists beside this file: a test that does otherwise fails the run.

mod etcd_client;
mod go;
mod list;
mod node;
mod python;
mod server;
#[path = "../support/mod.rs"]
mod support;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use rustix::fs::{FlockOperation, flock};
use support::text;

/// Returns a folder that is kept for later runs: what is fetched and built for these clients.
fn kept(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&folder).expect("a folder");
    folder
}

/// Fills such a folder if no run has filled it. Tests that need it at the same time wait for the first
/// of them.
fn fill_once(name: &str, fill: impl FnOnce(&Path)) -> PathBuf {
    let folder = kept(name);
    let lock = File::create(folder.join("LOCK")).expect("a file");
    flock(&lock, FlockOperation::LockExclusive).expect("a lock");
    let filled = folder.join("FILLED");
    if !filled.exists() {
        fill(&folder);
        File::create(filled).expect("a file");
    }
    folder
}

/// Returns the path of a file beside this one.
fn beside(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/foreign_clients")
        .join(name)
}

/// Returns all that a program has printed.
fn said_by(output: &Output) -> String {
    [text(&output.stdout), text(&output.stderr)].concat()
}

/// Runs a command that prepares something. If it fails, the test does, with the remedy.
fn prepare(command: &mut Command, remedy: &str) -> Output {
    let output = command.stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}: {remedy}"));
    let said = said_by(&output);
    assert!(output.status.success(), "{command:?}: {said}\n{remedy}");
    output
}
