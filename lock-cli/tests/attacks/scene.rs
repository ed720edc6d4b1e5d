//! A server, honest users of it, and its memory.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::support::{Home, Running, Server, eventually, text};

/// The most memory that an attack may take besides what the server holds anyway.
const MAX_GROWTH: u64 = 384 << 20;

/// How long one command of an honest user may take beside an attack: much longer than it takes
/// when the machine has nothing else to do.
const MAX_PROBE: Duration = Duration::from_secs(20);

/// A server with a holder of a lock, and with honest users who take other locks.
pub struct Scene {
    server: Server,
    holder: Running,
    honest: Option<JoinHandle<Duration>>,
    is_over: Arc<AtomicBool>,
    home: Arc<Home>,
}

impl Scene {
    pub fn begin() -> Self {
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
        Scene {
            server,
            holder,
            honest: Some(honest),
            is_over,
            home,
        }
    }

    pub fn address(&self) -> &str {
        self.server.address()
    }

    /// Returns the most memory that the server has had, in bytes.
    pub fn peak(&self) -> u64 {
        memory(self.server.id(), "VmHWM:")
    }

    /// Ends the attack: the holder still holds, the honest users were served, and the memory was
    /// bounded, with `live` bytes of data, and comes back.
    pub fn end(mut self, live: u64) {
        self.is_over.store(true, Ordering::SeqCst);
        let honest = self.honest.take().expect("not ended yet");
        let slowest = honest.join().expect("honest users are served");
        assert!(slowest < MAX_PROBE, "an honest user waited for {slowest:?}");
        assert!(!self.holder.ended(), "the holder has lost its lock");
        let queue = self
            .home
            .run(&["queue", "--backend", &self.server.url(), "held"]);
        assert!(text(&queue.stdout).lines().count() > 0, "{queue:?}");
        let most = live + live / 2 + MAX_GROWTH;
        let peak = self.peak();
        assert!(peak < most, "{} MiB of memory", peak >> 20);
        let server = self.server.id();
        eventually("the memory comes back", || {
            // An allocator gives memory back when it is asked for some.
            is_held(&self.home, &self.server.url());
            memory(server, "VmRSS:") < live + live / 2 + MAX_GROWTH / 2
        });
        println!(
            "peak {} MiB, slowest honest command {slowest:?}",
            peak >> 20
        );
    }
}

fn is_held(home: &Home, url: &str) -> bool {
    let queue = home.run(&["queue", "--json", "--backend", url, "held"]);
    assert!(queue.status.success(), "{}", text(&queue.stderr));
    text(&queue.stdout).lines().count() == 1
}

fn memory(process: u32, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kilobytes = line.and_then(|line| line.split_whitespace().next());
    kilobytes.expect("a size").parse::<u64>().expect("a number") << 10
}
