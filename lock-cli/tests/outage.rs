//! Tests that a waiter without a limit survives an outage that is longer than its session: it
//! queues anew, and gets its turn in the end.

mod support;

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use support::{Home, Running, Server, eventually, lines, signal, text};
use testkit::fixtures::etcd::Node;
use testkit::fixtures::zk::{Ensemble, Settings};
use turnlock::{Guard, OnSessionLoss, Options};

/// The number of waiters in each test.
const WAITERS: usize = 40;
/// The number of waiters that are commands. The others are tasks with sessions of their own.
const COMMANDS: usize = 4;
/// The time to live, which is much shorter than the outages.
const TTL: Duration = Duration::from_secs(6);
/// The time for all waiters to have their turns after the outage.
const AFTERWARDS: Duration = Duration::from_secs(60);

/// The file that the holders change, in steps that would lose an update if two held the lock at a
/// time.
struct Ledger(PathBuf);

impl Ledger {
    fn of(home: &Home) -> Arc<Self> {
        fs::write(home.file("count"), "0").expect("writable");
        Arc::new(Ledger(home.path().to_owned()))
    }

    /// Returns the same steps for a shell.
    fn script() -> &'static str {
        "n=$(cat count); echo $TURNLOCK_TOKEN >> tokens; sleep 0.02; echo $((n + 1)) > count"
    }

    async fn visit(&self, guard: &Guard) {
        let count = self.count();
        let tokens = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.0.join("tokens"));
        writeln!(tokens.expect("opens"), "{}", guard.token()).expect("writable");
        tokio::time::sleep(Duration::from_millis(20)).await;
        fs::write(self.0.join("count"), (count + 1).to_string()).expect("writable");
    }

    fn count(&self) -> usize {
        let count = fs::read_to_string(self.0.join("count")).expect("readable");
        count.trim().parse().expect("a number")
    }

    /// Checks that all waiters wrote, one after another, and that the tokens have risen.
    fn check(&self) {
        assert_eq!(self.count(), WAITERS, "an update was lost");
        let tokens: Vec<u64> = lines(&self.0.join("tokens"))
            .iter()
            .map(|token| token.parse().expect("a number"))
            .collect();
        assert_eq!(tokens.len(), WAITERS);
        assert!(tokens.is_sorted_by(|a, b| a < b), "{tokens:?}");
    }
}

fn command(home: &Home, url: &str) -> Command {
    let ttl = TTL.as_secs().to_string();
    let script = Ledger::script();
    home.turnlock(&[
        "--backend",
        url,
        "run",
        "--ttl",
        &ttl,
        "x",
        "--",
        "sh",
        "-c",
        script,
    ])
}

fn spawn(home: &Home, url: &str) -> Running {
    let mut command = command(home, url);
    let errors = fs::File::create(home.file(&format!("errors-{}", fastrand::u64(..))));
    command.stderr(errors.expect("a file"));
    Running::of(command.spawn().expect("turnlock starts"))
}

/// Returns the output of the commands.
fn said(home: &Home) -> String {
    let files = fs::read_dir(home.path()).expect("readable");
    let files = files.map(|file| file.expect("readable").path());
    let errors = files.filter(|file| file.to_string_lossy().contains("/errors-"));
    errors
        .map(|file| text(&fs::read(file).expect("readable")))
        .collect()
}

async fn wait_and_visit(url: String, ledger: Arc<Ledger>) -> Result<(), turnlock::Error> {
    let options = Options::default()
        .with_ttl(TTL)
        .with_on_session_loss(OnSessionLoss::Requeue);
    let locks = turnlock::connect_with(&url, options)?;
    let guard = locks.mutex("x")?.acquire().await?;
    ledger.visit(&guard).await;
    let _ = guard.release().await;
    locks.close().await
}

/// Makes `tasks` in this process and the remaining waiters as commands wait behind a holder through
/// an outage.
async fn outlive(url: &str, tasks: usize, outage: impl AsyncFnOnce()) {
    let home = Home::new();
    let ledger = Ledger::of(&home);
    let locks = turnlock::connect(url).expect("a valid URL");
    let holder = locks.mutex("x").expect("valid").acquire().await;
    let holder = holder.expect("free");
    let waiting: Vec<_> = (0..tasks)
        .map(|_| tokio::spawn(wait_and_visit(url.to_owned(), ledger.clone())))
        .collect();
    let commands: Vec<_> = (tasks..WAITERS).map(|_| spawn(&home, url)).collect();
    let all_wait = async {
        while locks
            .queue(holder.name())
            .await
            .map_or(0, |q| q.entries.len())
            <= WAITERS
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let all_wait = tokio::time::timeout(AFTERWARDS, all_wait).await;
    all_wait.expect("all are in the queue");

    outage().await;
    drop(holder);
    let turns = async {
        for waiter in waiting {
            waiter.await.expect("no panic").expect("its turn");
        }
    };
    let turns = tokio::time::timeout(AFTERWARDS, turns).await;
    turns.expect("all have their turns");
    let ended = tokio::task::spawn_blocking(move || {
        let ended = commands.into_iter().map(|mut command| {
            eventually("a command has had its turn", || command.ended());
            command.wait().status
        });
        ended.collect::<Vec<_>>()
    });
    let said = said(&home);
    for status in ended.await.expect("they end") {
        assert!(status.success(), "{status}: {said}");
    }
    ledger.check();
    let losses = said.matches("lost our place in the queue").count();
    assert!((1..=WAITERS * 2).contains(&losses), "{losses}: {said}");
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(test);
}

#[test]
fn waiters_outlive_an_isolated_zookeeper_leader() {
    run(async {
        let ensemble = Ensemble::start(Settings {
            nodes: 3,
            ..Settings::default()
        });
        let leader = ensemble.wait_leader();
        let url = format!("{}?allow_short_sessions=true", ensemble.url());
        outlive(&url, WAITERS - COMMANDS, async || {
            ensemble.isolate(leader);
            tokio::time::sleep(Duration::from_secs(30)).await;
            ensemble.rejoin(leader);
        })
        .await;
    });
}

#[test]
fn waiters_outlive_an_etcd_that_is_away() {
    run(async {
        let mut node = Node::start().await;
        let url = format!("etcd://{}", node.address());
        outlive(&url, WAITERS - COMMANDS, async || {
            node.kill();
            tokio::time::sleep(Duration::from_secs(60)).await;
            assert!(node.resume().await, "it starts again");
        })
        .await;
    });
}

#[test]
fn waiters_outlive_a_stopped_coordinator() {
    run(async {
        let home = Home::new();
        let server = Server::start(&home);
        outlive(&server.url(), 0, async || {
            signal(server.id(), Signal::STOP);
            tokio::time::sleep(Duration::from_secs(30)).await;
            signal(server.id(), Signal::CONT);
        })
        .await;
        server.stop();
    });
}
