//! Tests that a coordinator can be ended in any way, and replaced by another release, under holders
//! and under load: locks and tokens stay, and no acknowledged write is lost.
//!
//! `TURNLOCK_KILL_ROUNDS` sets how often each of these is done; a few times by default.

#[path = "../support/mod.rs"]
mod support;

mod load;
mod server;

use rustix::process::Signal;
use support::Home;
use support::release::Release::{self, Previous, This};

use self::load::Load;
use self::server::Server;

fn rounds() -> usize {
    std::env::var("TURNLOCK_KILL_ROUNDS").map_or(3, |n| n.parse().expect("a number"))
}

/// Ends the coordinator again and again under load, each time in the way that `end` does it, and
/// starts one of the next release in its place.
fn restart(release: impl Fn(usize) -> Release, end: impl Fn(Server)) {
    let home = Home::new();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let mut server = Server::start(&home, release(0));
    let load = runtime.block_on(Load::start(&server));
    for round in 0..rounds() {
        runtime.block_on(load.wait_for_progress());
        end(server);
        server = Server::start(&home, release(round + 1));
        runtime.block_on(load.wait_for_progress());
        load.check_holders();
    }
    runtime.block_on(load.finish());
    server.end(Signal::TERM);
}

#[test]
fn sigterm_under_load_costs_no_lock_and_no_write() {
    restart(|_| This, |server| server.end(Signal::TERM));
}

#[test]
fn kill_under_load_costs_no_lock_and_no_write() {
    restart(|_| This, |server| server.end(Signal::KILL));
}

#[test]
fn an_upgrade_under_load_costs_no_lock_and_no_write() {
    let release = |round: usize| match round % 2 {
        0 => Previous,
        _ => This,
    };
    restart(release, |server| server.end(Signal::TERM));
}
