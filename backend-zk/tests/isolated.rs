//! A node that is cut off from its peers, follower or leader. It answers its clients' pings for a
//! while, and the other nodes grant their locks to others meanwhile. The holders on it must know it
//! before.
//!
//! `TURNLOCK_ROUNDS` says how many times the node is cut off: once if it is not set.

mod support;

use std::time::Duration;

use lock_core::clock::{BootInstant, Clock};
use lock_core::{Guard, LockName, Locks};
use support::{acquire, eventually, locks, name, soon};
use testkit::fixtures::zk::{Ensemble, Settings, ping_until_silent};

const SESSIONS_S: [u64; 4] = [4, 6, 8, 12];
/// Holders of each session length in a round, each with a lock of its own and a rival for it.
const PAIRS: usize = 5;

/// What happened to one lock, in seconds after the cut.
struct Outcome {
    session_s: u64,
    /// The last deadline of the holder.
    deadline: f64,
    /// When the rival was granted.
    granted: f64,
    /// When the last ping was sent that the node answered. A holder that counts answered pings as a
    /// proof believes at least until then.
    pinged: f64,
}

impl Outcome {
    /// Returns how long two holders would have believed that they hold the lock if pings counted.
    fn overlap(&self) -> f64 {
        (self.pinged - self.granted).max(0.0)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn holders_on_an_isolated_follower_know_before_others_are_granted() {
    isolate(|leader| (leader + 1) % 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn holders_on_an_isolated_leader_know_before_others_are_granted() {
    isolate(|leader| leader).await;
}

/// Cuts off the node that this function chooses, given the leader.
async fn isolate(choose: fn(usize) -> usize) {
    let rounds = std::env::var("TURNLOCK_ROUNDS").map_or(1, |rounds| {
        rounds.parse().expect("TURNLOCK_ROUNDS is a number")
    });
    let ensemble = Ensemble::start(Settings {
        nodes: 3,
        ..Settings::default()
    });
    let mut outcomes = vec![];
    for _ in 0..rounds {
        outcomes.extend(round(&ensemble, choose(ensemble.wait_leader())).await);
    }
    report(&outcomes);
    for outcome in &outcomes {
        assert!(
            outcome.deadline < outcome.granted,
            "with a session of {} s the holder believed until {:.3} s after the cut, and another \
             was granted at {:.3} s",
            outcome.session_s,
            outcome.deadline,
            outcome.granted
        );
    }
}

async fn round(ensemble: &Ensemble, victim: usize) -> Vec<Outcome> {
    let holders_url = format!("zk://{}", ensemble.address(victim));
    let others = [(victim + 1) % 3, (victim + 2) % 3].map(|node| ensemble.address(node));
    let rivals_url = format!("zk://{}", others.join(","));

    let mut pairs = vec![];
    for session_s in SESSIONS_S {
        for pair in 0..PAIRS {
            let ttl = Duration::from_secs(session_s);
            let name = name(&format!("{session_s}s/{pair}"));
            let (holder, rival) = (locks(&holders_url, ttl), locks(&rivals_url, ttl));
            let guard = acquire(&holder, &name).await;
            let waiter = tokio::spawn(wait(rival, name));
            pairs.push((session_s, tokio::spawn(believe(holder, guard)), waiter));
            // So that the renewals are not synchronous.
            tokio::time::sleep(Duration::from_millis(fastrand::u64(0..100))).await;
        }
    }
    let address = ensemble.address(victim).to_owned();
    let pinged = tokio::task::spawn_blocking(move || ping_until_silent(&address));
    tokio::time::sleep(Duration::from_millis(fastrand::u64(2000..4000))).await;

    let cut = Clock::system().now();
    ensemble.isolate(victim);
    let after_cut = |instant: BootInstant| instant.saturating_since(cut).as_secs_f64();
    let pinged = soon("the end of the pings", pinged)
        .await
        .expect("no panic");
    let pinged = after_cut(pinged.expect("the node serves"));
    let mut outcomes = vec![];
    for (session_s, holder, rival) in pairs {
        let deadline = soon("the holder's end", holder).await.expect("no panic");
        let granted = soon("the rival's turn", rival).await.expect("no panic");
        outcomes.push(Outcome {
            session_s,
            deadline: after_cut(deadline),
            granted: after_cut(granted),
            pinged,
        });
    }
    ensemble.rejoin(victim);
    eventually("the node is back", async || ensemble.serves(victim)).await;
    outcomes
}

/// Holds the lock until it is lost. Returns the last deadline.
async fn believe(_holder: Locks, guard: Guard) -> BootInstant {
    let mut last = guard.deadline().expect("held");
    while let Some(deadline) = guard.deadline() {
        last = last.max(deadline);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    last
}

/// Waits for the lock. Returns when it was granted. An election may end the waiter's own session.
async fn wait(rival: Locks, name: LockName) -> BootInstant {
    let mutex = rival.mutex(&name).expect("valid");
    loop {
        match mutex.acquire().await {
            Ok(_guard) => return Clock::system().now(),
            Err(error) => println!("{name}: a rival begins again: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn report(outcomes: &[Outcome]) {
    println!(
        "seconds after the cut          session   runs  deadline       granted        least gap  \
         pings until    overlap by pings"
    );
    for session_s in SESSIONS_S {
        let runs: Vec<_> = outcomes
            .iter()
            .filter(|outcome| outcome.session_s == session_s)
            .collect();
        let span = |value: fn(&Outcome) -> f64| {
            let values = || runs.iter().map(|run| value(run));
            let least = values().fold(f64::INFINITY, f64::min);
            let most = values().fold(f64::NEG_INFINITY, f64::max);
            format!("{least:5.2} to {most:5.2}")
        };
        let gap = |run: &&Outcome| run.granted - run.deadline;
        let gap = runs.iter().map(gap).fold(f64::INFINITY, f64::min);
        println!(
            "{:>36} s {:>6}  {}  {}  {gap:9.2}  {}  {}",
            session_s,
            runs.len(),
            span(|run| run.deadline),
            span(|run| run.granted),
            span(|run| run.pinged),
            span(Outcome::overlap),
        );
    }
}
