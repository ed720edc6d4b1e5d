//! Tests kazoo's lock and `turnlock run` in one queue.

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use support::turns::Turns;
use support::{program, text};
use testkit::fixtures::zk::{Ensemble, Settings};

const TURNS: usize = 100;

/// Returns a Python that has kazoo, in a virtual environment. It is made once and kept in cargo's
/// target folder.
fn python_with_kazoo() -> PathBuf {
    const KAZOO: &str = "kazoo==2.11.0";
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(KAZOO);
    let python = folder.join("bin").join("python");
    let has_kazoo = || {
        let import = Command::new(&python).args(["-c", "import kazoo"]).output();
        import.is_ok_and(|output| output.status.success())
    };
    if !has_kazoo() {
        let run = |command: &mut Command, remedy: &str| {
            let output = command.output().expect("it starts");
            assert!(output.status.success(), "{}{remedy}", text(&output.stderr));
        };
        run(
            Command::new(program("python3", "python3"))
                .args(["-m", "venv", "--clear"])
                .arg(&folder),
            "no virtual environment: apt-get install python3-venv",
        );
        run(
            Command::new(&python).args(["-m", "pip", "install", "--quiet", KAZOO]),
            "kazoo comes from PyPI: this test needs to reach it once",
        );
    }
    python
}

#[test]
fn kazoos_lock_and_turnlock_run_exclude_each_other() {
    let python = python_with_kazoo();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/kazoo_turns.py");
    let ensemble = Ensemble::start(Settings::default());
    let path = "/jobs/nightly";
    let mut turns = Turns::new(TURNS);
    for _ in 0..4 {
        let mut kazoo = Command::new(&python);
        kazoo
            .args([script, &ensemble.connection_string(), path, &turns.each()])
            .arg(turns.folder());
        turns.add_other_writer(kazoo);
        turns.add_writer(&ensemble.url(), path);
    }
    turns.finish();
}
