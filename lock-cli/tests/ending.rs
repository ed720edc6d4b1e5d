//! Tests how `turnlock serve` ends by signals, and what it says meanwhile.

#[path = "attacks/attacker.rs"]
#[expect(dead_code, reason = "only the attacks need all of it")]
mod attacker;
mod support;

use std::io::{BufRead, BufReader, Lines};
use std::process::{ChildStderr, Stdio};
use std::time::{Duration, Instant};

use etcd_client::proto::PbStatusRequest;
use rustix::process::Signal;
use support::{Home, Running, alive, code, eventually, signal};

use self::attacker::{Attacker, status};

/// Longer than any test takes. A request ends by itself after ten seconds.
const LONG: &str = "600";

/// A server, and what it says.
struct Talking {
    running: Running,
    said: Lines<BufReader<ChildStderr>>,
    address: String,
}

impl Talking {
    fn start(home: &Home, args: &[&str]) -> Self {
        let args = [&["serve", "--listen", "127.0.0.1:0"], args].concat();
        let child = home.turnlock(&args).stderr(Stdio::piped()).spawn();
        let mut child = child.expect("turnlock starts");
        let stderr = child.stderr.take().expect("piped");
        let mut said = BufReader::new(stderr).lines();
        let first = said.next().expect("it serves").expect("text");
        let address = first.rsplit(' ').next().expect("an address").to_owned();
        Talking {
            running: Running::of(child),
            said,
            address,
        }
    }

    /// Waits for a line that begins like this.
    fn wait_for_line(&mut self, beginning: &str) -> String {
        let beginning = format!("turnlock: {beginning}");
        let mut lines = self.said.by_ref().map(|line| line.expect("text"));
        let found = lines.find(|line| line.starts_with(&beginning));
        found.unwrap_or_else(|| panic!("it never said {beginning:?}"))
    }
}

#[tokio::test]
async fn the_second_signal_ends_a_server_that_drains_at_once() {
    for (first, name) in [(Signal::TERM, "SIGTERM"), (Signal::INT, "SIGINT")] {
        let home = Home::new();
        let mut server = Talking::start(&home, &["--drain", LONG]);
        let client = Attacker::connect(&server.address, 65_535).await;
        let unfinished = client.call("KV/Put").await.expect("it serves");
        // Calls of a connection arrive in their order.
        let asked = client.ask("Maintenance/Status", &PbStatusRequest {}).await;
        assert_eq!(
            status(asked.expect("it serves")).await.as_deref(),
            Some("0")
        );

        let begun = Instant::now();
        signal(server.running.id(), first);
        let line = server.wait_for_line(name);
        assert!(line.contains("answers under way have 600s"), "{line}");
        eventually("nobody else is let in", || {
            std::net::TcpStream::connect(&server.address).is_err()
        });
        assert!(alive(server.running.id()), "an answer is under way");
        signal(server.running.id(), Signal::TERM);
        server.wait_for_line("ends at once");
        assert_eq!(code(&server.running.wait()), 0);
        assert!(
            begun.elapsed() < Duration::from_secs(9),
            "{:?}",
            begun.elapsed()
        );
        drop(unfinished);
        // The folder is whole, and free.
        let mut next = Talking::start(&home, &[]);
        signal(next.running.id(), Signal::TERM);
        next.wait_for_line("SIGTERM");
        assert_eq!(code(&next.running.wait()), 0);
    }
}

#[test]
fn a_server_does_not_wait_for_holders_and_says_how_many_sessions_go_on() {
    let home = Home::new();
    let mut server = Talking::start(&home, &["--drain", LONG]);
    let url = format!("etcd://{}", server.address);
    let holder = home.spawn(&["--backend", &url, "hold", "--ttl", LONG, "a"]);
    eventually("it holds", || {
        let queue = home.run(&["--backend", &url, "queue", "--json", "a"]);
        !queue.stdout.is_empty()
    });
    let begun = Instant::now();
    signal(server.running.id(), Signal::TERM);
    let line = server.wait_for_line("ended");
    assert_eq!(
        line,
        "turnlock: ended; sessions that go on when the folder is served again: 1"
    );
    assert_eq!(code(&server.running.wait()), 0);
    assert!(
        begun.elapsed() < Duration::from_secs(60),
        "{:?}",
        begun.elapsed()
    );
    drop(holder);
}
