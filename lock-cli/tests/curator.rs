//! Tests Curator's locks and `turnlock run` in one queue.

mod support;

use std::process::Command;

use support::turns::Turns;
use testkit::fixtures::zk::java::{self, Program};
use testkit::fixtures::zk::{Ensemble, Settings};

const TURNS: usize = 100;

/// Starts processes that use Curator on a path, by kind.
struct Curator<'a> {
    program: Program,
    servers: String,
    path: &'a str,
}

impl<'a> Curator<'a> {
    fn new(ensemble: &Ensemble, path: &'a str) -> Self {
        Curator {
            program: Program::compile("CuratorTurns", &java::curator()),
            servers: ensemble.connection_string(),
            path,
        }
    }

    fn worker(&self, kind: &str, turns: &Turns) -> Command {
        let folder = turns.folder().to_str().expect("a path in UTF-8");
        self.program
            .command(&[&self.servers, self.path, kind, &turns.each(), folder])
    }
}

#[test]
fn curators_mutex_and_turnlock_run_exclude_each_other() {
    let ensemble = Ensemble::start(Settings::default());
    let curator = Curator::new(&ensemble, "/jobs/nightly");
    let mut turns = Turns::new(TURNS);
    for _ in 0..4 {
        turns.add_other_writer(curator.worker("mutex", &turns));
        turns.add_writer(&ensemble.url(), curator.path);
    }
    turns.finish();
}

#[test]
fn curators_read_write_lock_and_turnlock_run_exclude_each_other() {
    let ensemble = Ensemble::start(Settings::default());
    let curator = Curator::new(&ensemble, "/jobs/index");
    let url = format!("{}?recipe=rwlock", ensemble.url());
    let mut turns = Turns::new(TURNS);
    for _ in 0..2 {
        turns.add_other_writer(curator.worker("write", &turns));
        turns.add_other_reader(curator.worker("read", &turns));
        turns.add_writer(&url, curator.path);
        turns.add_reader(&url, curator.path);
    }
    turns.finish();
}
