//! Tests kazoo's lock and `turnlock run` in one queue.

mod support;

use std::process::Command;

use support::python::python_with;
use support::turns::Turns;
use testkit::fixtures::zk::{Ensemble, Settings};

const TURNS: usize = 100;

#[test]
fn kazoos_lock_and_turnlock_run_exclude_each_other() {
    let python = python_with(&["kazoo==2.11.0"], "kazoo");
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
