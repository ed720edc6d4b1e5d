//! A process that holds a lock, and serves its metrics.

use std::net::TcpListener;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use observe_prometheus::prometheus_client::encoding::prometheus_text;
use observe_prometheus::{LockMetrics, Registry};
use turnlock::Options;

use super::http;
use super::support::Running;

/// The variable that makes this program a holder. Its value is a port and a URL, separated by a
/// blank.
const HOLD: &str = "TURNLOCK_TEST_HOLD";

/// The time to live of the holder's session.
const TTL: Duration = Duration::from_secs(4);

/// Starts a holder, whose metrics are at this port.
pub fn start(url: &str, port: u16) -> Running {
    let program = std::env::current_exe().expect("a test is a program");
    let child = Command::new(program)
        .env(HOLD, format!("{port} {url}"))
        // It ends when this pipe does, at the latest with this process.
        .stdin(Stdio::piped())
        .spawn();
    Running::of(child.expect("the test program starts again"))
}

/// Holds, if this process was started for it, until nobody has its stdin any more.
pub fn hold_if_asked() -> Option<ExitCode> {
    let order = std::env::var(HOLD).ok()?;
    let (port, url) = order.split_once(' ').expect("a port and a URL");
    let metrics = LockMetrics::new();
    let mut registry = Registry::default();
    metrics.register(&mut registry);
    let observer = metrics.observer("etcd");
    let port: u16 = port.parse().expect("a port");
    let listener = TcpListener::bind(("127.0.0.1", port)).expect("a free port");
    http::answer(listener, move |_| {
        let mut text = String::new();
        prometheus_text::encode(&mut text, &registry).expect("a string takes any text");
        ("200 OK", text)
    });
    let options = Options::default().with_ttl(TTL).with_observer(observer);
    let locks = turnlock::connect_with(url, options).expect("a valid URL");
    let guard = futures_executor::block_on(async {
        let lock = locks.mutex("paged").expect("a valid name");
        lock.acquire().await.expect("the lock")
    });
    let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
    drop(guard);
    Some(ExitCode::SUCCESS)
}
