//! A server, honest users of it, and its memory.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::support::{Home, Running, Server, eventually, text};

/// The most memory that an attack may take besides what the server holds anyway.
const MAX_GROWTH: u64 = 384 << 20;

/// How long one command of an honest user may take beside an attack, if the machine has nothing else
/// to do.
const MAX_PROBE: Duration = Duration::from_secs(2);

/// The time to live of a lease that is renewed beside an attack, in seconds.
const LEASE_TTL: u64 = 10;

/// The time between two renewals of it.
const RENEWAL_PAUSE: Duration = Duration::from_millis(50);

/// How large an attack is, and how long it goes on.
struct Scale {
    factor: usize,
    length: Duration,
    /// By how much slower than in a test by itself everything may be: there, other tests run too.
    slack: u32,
}

impl Scale {
    fn chosen() -> Self {
        match std::env::var("TURNLOCK_ATTACK_SECONDS") {
            Ok(seconds) => Scale {
                factor: 10,
                length: Duration::from_secs(seconds.parse().expect("a number of seconds")),
                slack: 1,
            },
            Err(_) => Scale {
                factor: 1,
                length: Duration::ZERO,
                slack: 10,
            },
        }
    }
}

/// Lets a server endure an attack beside honest users, with this many bytes of data at most. The
/// attack returns how much of it got through.
pub async fn endure(live: u64, attack: impl AsyncFn(&Scene, usize) -> usize) {
    let scale = Scale::chosen();
    let scene = Scene::begin();
    let begun = Instant::now();
    let mut through = 0;
    loop {
        through += attack(&scene, scale.factor).await;
        if begun.elapsed() >= scale.length {
            break;
        }
    }
    scene.end(live, &scale, through);
}

/// A server with a holder of a lock, and with honest users who take other locks.
pub struct Scene {
    server: Server,
    holder: Running,
    honest: Option<JoinHandle<Duration>>,
    renewals: Option<JoinHandle<Vec<Duration>>>,
    is_over: Arc<AtomicBool>,
    home: Arc<Home>,
}

impl Scene {
    fn begin() -> Self {
        let home = Arc::new(Home::new());
        let server = Server::start(&home);
        let url = server.url();
        let holder = home.spawn(&["hold", "--backend", &url, "held"]);
        eventually("it holds", || is_held(&home, &url));
        let is_over = Arc::<AtomicBool>::default();
        let honest = {
            let (home, is_over) = (Arc::clone(&home), Arc::clone(&is_over));
            std::thread::spawn(move || {
                let mut slowest = Duration::ZERO;
                while !is_over.load(Ordering::SeqCst) {
                    let begun = Instant::now();
                    let done = home.run(&["run", "--backend", &url, "honest", "--", "true"]);
                    assert!(done.status.success(), "{}", text(&done.stderr));
                    slowest = slowest.max(begun.elapsed());
                }
                slowest
            })
        };
        let renewals = {
            let (url, is_over) = (server.address().to_owned(), Arc::clone(&is_over));
            std::thread::spawn(move || renew(url, &is_over))
        };
        Scene {
            server,
            holder,
            renewals: Some(renewals),
            honest: Some(honest),
            is_over,
            home,
        }
    }

    pub fn address(&self) -> &str {
        self.server.address()
    }

    /// Waits until the server has this many watches, and returns how many it has.
    pub async fn wait_for_watches(&self, enough: usize) -> usize {
        loop {
            let metrics = self.home.run(&["metrics"]);
            assert!(metrics.status.success(), "{}", text(&metrics.stderr));
            let watches = text(&metrics.stdout)
                .lines()
                .find_map(|line| line.strip_prefix("turnlock_server_watches "))
                .and_then(|count| count.parse::<f64>().ok());
            let watches = watches.expect("there is such a metric") as usize;
            if watches >= enough {
                return watches;
            }
            tokio::time::sleep(RENEWAL_PAUSE).await;
        }
    }

    /// Puts an honest load on the server for a moment.
    fn work(&self) {
        let url = self.server.url();
        let load = [
            "--workload",
            "uncontended",
            "--workers",
            "16",
            "--seconds",
            "0.5",
        ];
        let done = self
            .home
            .run(&[&["bench", "--backend", &url][..], &load].concat());
        assert!(done.status.success(), "{}", text(&done.stderr));
    }

    /// Ends the attack: the holder still holds, the honest users were served, renewals were answered
    /// in time, and the memory was bounded, with `live` bytes of data, and comes back.
    fn end(mut self, live: u64, scale: &Scale, through: usize) {
        self.is_over.store(true, Ordering::SeqCst);
        let honest = self.honest.take().expect("not ended yet");
        let slowest = honest.join().expect("honest users are served");
        let most = scale.slack * MAX_PROBE;
        assert!(slowest < most, "an honest user waited for {slowest:?}");
        let renewals = self.renewals.take().expect("not ended yet");
        let mut renewals = renewals.join().expect("the lease is alive");
        renewals.sort_unstable();
        let p99 = renewals[renewals.len() * 99 / 100];
        let most = Duration::from_secs(LEASE_TTL) / 4;
        assert!(p99 < most, "renewals took {p99:?}");
        assert!(!self.holder.ended(), "the holder has lost its lock");
        let queue = self
            .home
            .run(&["queue", "--backend", &self.server.url(), "held"]);
        assert!(text(&queue.stdout).lines().count() > 0, "{queue:?}");
        let said = self.server.said();
        assert!(!said.contains("panicked"), "{said}");
        let most = live + live / 2 + MAX_GROWTH;
        let peak = memory(self.server.id(), "VmHWM:");
        assert!(peak < most, "{} MiB of memory", peak >> 20);
        let server = self.server.id();
        eventually("the memory comes back", || {
            // The allocator gives memory back while it works, and not while nobody asks it for any.
            self.work();
            memory(server, "VmRSS:") < live + live / 2 + MAX_GROWTH / 2
        });
        println!(
            "{through} got through, peak {} MiB, slowest honest command {slowest:?}, renewals at p99 \
             {p99:?}, slowest {:?}",
            peak >> 20,
            renewals.last()
        );
    }
}

/// Renews a lease until all is over. Returns how long each renewal took.
fn renew(address: String, is_over: &AtomicBool) -> Vec<Duration> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(async {
        let client = etcd_client::Client::connect([address], None).await;
        let mut client = client.expect("a connection");
        let ttl = i64::try_from(LEASE_TTL).expect("small");
        let lease = client.lease_grant(ttl, None).await.expect("a lease").id();
        let (mut keeper, mut answers) = client.lease_keep_alive(lease).await.expect("a stream");
        let mut took = Vec::new();
        while !is_over.load(Ordering::SeqCst) {
            let begun = Instant::now();
            keeper.keep_alive().await.expect("open");
            let answer = answers.message().await.expect("open").expect("an answer");
            assert!(answer.ttl() > 0, "the lease has expired");
            took.push(begun.elapsed());
            tokio::time::sleep(RENEWAL_PAUSE).await;
        }
        took
    })
}

fn is_held(home: &Home, url: &str) -> bool {
    home.queue_at(url, "held").len() == 1
}

fn memory(process: u32, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kilobytes = line.and_then(|line| line.split_whitespace().next());
    kilobytes.expect("a size").parse::<u64>().expect("a number") << 10
}
