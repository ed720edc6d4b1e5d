//! A TCP proxy that stands for the network in front of a server, and for what goes wrong in it.
//!
//! It does not interpret what it forwards. It runs on a thread of its own, so that the network
//! keeps working while the executor of a test is blocked.

mod connection;

use std::io;
use std::net::{SocketAddr, TcpListener as StdTcpListener};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// How long a connection waits for a server that does not listen. A client is not refused as the
/// server itself would do it, and some take an accepted connection for a server that is up.
const GRACE: Duration = Duration::from_secs(2);

static NETWORK: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("proxies")
        .enable_all()
        .build()
        .expect("a runtime for the proxies")
});

/// A TCP proxy in front of a server. It passes everything on in both directions until it is asked
/// to do otherwise. A drop ends its connections.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    rules: watch::Sender<Rules>,
    tally: Arc<Tally>,
    accepting: AbortHandle,
}

/// What happens to the connections, which are numbered from 1.
#[derive(Debug, Clone, Copy, Default)]
struct Rules {
    /// Whether nothing moves on any connection.
    silent: bool,
    /// The time that every piece takes.
    delay: Duration,
    /// Requests on connections up to this one are kept back.
    held: u64,
    /// Replies on connections up to this one are dropped.
    muted: u64,
    /// Connections up to this one are closed towards the client.
    cut: u64,
}

#[derive(Debug, Default)]
struct Tally {
    /// The number of the latest connection.
    last: AtomicU64,
    /// The number of bytes of requests that were held back.
    held: AtomicUsize,
    /// The number of bytes of replies that came after the client had been cut off.
    undelivered: AtomicUsize,
    /// The number of bytes of replies that were dropped.
    muted: AtomicUsize,
    /// How often a reply came after a request.
    round_trips: AtomicUsize,
}

impl Proxy {
    /// Starts a proxy in front of the server at this address, `HOST:PORT`. A connection waits up to
    /// two seconds for a server that does not listen yet, and is then closed.
    ///
    /// # Panics
    /// If no port of the loopback interface is free.
    pub fn start(server: impl Into<String>) -> Self {
        let listener = StdTcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        listener.set_nonblocking(true).expect("a socket");
        let (rules, rule) = watch::channel(Rules::default());
        let tally = Arc::<Tally>::default();
        let accepting = accept(listener, server.into(), rule, tally.clone());
        Proxy {
            address,
            rules,
            tally,
            accepting: NETWORK.spawn(accepting).abort_handle(),
        }
    }

    /// Returns the address of the proxy, `HOST:PORT`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Stops all traffic in both directions, on present and new connections. Neither side is
    /// notified: connections are neither closed nor reset.
    pub fn silence(&self) {
        self.rules.send_modify(|rules| rules.silent = true);
    }

    /// Ends the silence. Delivers, as TCP does, what was under way, also the ends of connections.
    pub fn resume(&self) {
        self.rules.send_modify(|rules| rules.silent = false);
    }

    /// Delays all that is read from now on by this time, in both directions.
    pub fn delay(&self, delay: Duration) {
        self.rules.send_modify(|rules| rules.delay = delay);
    }

    /// Holds back the requests on all present connections, also after the clients have closed them.
    pub fn hold(&self) {
        let last = self.last();
        self.rules.send_modify(|rules| rules.held = last);
    }

    /// Delivers the requests that were held back.
    pub fn deliver(&self) {
        self.rules.send_modify(|rules| rules.held = 0);
    }

    /// Drops the replies on all present connections.
    pub fn mute(&self) {
        let last = self.last();
        self.rules.send_modify(|rules| rules.muted = last);
    }

    /// Closes all present connections to the clients, but not those to the server.
    pub fn cut(&self) {
        let last = self.last();
        self.rules.send_modify(|rules| rules.cut = last);
    }

    /// Returns the number of bytes of requests that were held back so far.
    pub fn held_bytes(&self) -> usize {
        self.tally.held.load(Ordering::SeqCst)
    }

    /// Returns the number of bytes of replies that came for clients that had been cut off.
    pub fn undelivered_bytes(&self) -> usize {
        self.tally.undelivered.load(Ordering::SeqCst)
    }

    /// Returns the number of bytes of replies that were dropped.
    pub fn muted_bytes(&self) -> usize {
        self.tally.muted.load(Ordering::SeqCst)
    }

    /// Returns how often a reply came after a request. Requests that are sent back to back count
    /// once. For an exact count, set a [`delay`](Proxy::delay) that leaves the client the time to
    /// send all requests before the first reply.
    pub fn round_trips(&self) -> usize {
        self.tally.round_trips.load(Ordering::SeqCst)
    }

    fn last(&self) -> u64 {
        self.tally.last.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(
    listener: StdTcpListener,
    server: String,
    rules: watch::Receiver<Rules>,
    tally: Arc<Tally>,
) {
    let listener = TcpListener::from_std(listener).expect("a listening socket");
    while let Ok((client, _)) = listener.accept().await {
        let (server, rules, tally) = (server.clone(), rules.clone(), tally.clone());
        tokio::spawn(async move {
            if let Ok(server) = reach(&server).await {
                connection::join(client, server, rules, tally);
            }
        });
    }
}

async fn reach(server: &str) -> io::Result<TcpStream> {
    let started = Instant::now();
    loop {
        let reached = TcpStream::connect(server).await;
        if reached.is_ok() || started.elapsed() > GRACE {
            return reached;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Shutdown, TcpListener, TcpStream};

    use super::*;

    /// Makes a connection through a proxy, and returns both of its ends. A read that gets nothing
    /// fails after a while.
    fn connection() -> (Proxy, TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let proxy = Proxy::start(address.to_string());
        let client = TcpStream::connect(proxy.address()).expect("the proxy listens");
        let (server, _) = listener.accept().expect("the proxy connects");
        for end in [&client, &server] {
            let limit = Duration::from_secs(30);
            end.set_read_timeout(Some(limit)).expect("a socket");
        }
        (proxy, client, server)
    }

    fn says(mut from: &TcpStream, mut to: &TcpStream, what: &[u8]) {
        from.write_all(what).expect("open");
        let mut received = vec![0; what.len()];
        to.read_exact(&mut received).expect("passed on");
        assert_eq!(received, what);
    }

    fn hears_nothing(mut end: &TcpStream, during: Duration) {
        let limit = end.read_timeout().expect("a socket");
        end.set_read_timeout(Some(during)).expect("a socket");
        let read = end.read(&mut [0]).map_err(|error| error.kind());
        assert_eq!(read, Err(io::ErrorKind::WouldBlock));
        end.set_read_timeout(limit).expect("a socket");
    }

    #[test]
    fn silence_is_both_ways_and_delays_what_is_sent() {
        let (proxy, mut client, mut server) = connection();
        says(&client, &server, b"before");
        says(&server, &client, b"before");
        proxy.silence();
        client.write_all(b"up").expect("no reset");
        server.write_all(b"down").expect("no reset");
        client.shutdown(Shutdown::Write).expect("open");
        hears_nothing(&server, Duration::from_millis(100));
        hears_nothing(&client, Duration::from_millis(100));
        proxy.resume();
        let mut received = [0; 4];
        client.read_exact(&mut received).expect("passed on");
        assert_eq!(&received, b"down");
        let mut received = vec![];
        server
            .read_to_end(&mut received)
            .expect("the end came through");
        assert_eq!(received, b"up");
    }

    #[test]
    fn a_delay_shifts_and_keeps_the_order() {
        let (proxy, mut client, server) = connection();
        let delay = Duration::from_millis(200);
        proxy.delay(delay);
        let started = std::time::Instant::now();
        client.write_all(b"one, ").expect("open");
        client.write_all(b"two").expect("open");
        let mut received = [0; 8];
        (&server).read_exact(&mut received).expect("passed on");
        assert_eq!(&received, b"one, two");
        assert!(started.elapsed() >= delay);
    }

    #[test]
    fn a_muted_server_is_heard_but_not_answered() {
        let (proxy, client, mut server) = connection();
        says(&client, &server, b"before");
        proxy.mute();
        says(&client, &server, b"request");
        server.write_all(b"reply").expect("open");
        hears_nothing(&client, Duration::from_millis(100));
        assert_eq!(proxy.muted_bytes(), 5);
    }

    #[test]
    fn replies_to_requests_are_counted_and_unrequested_data_is_not() {
        let (proxy, client, server) = connection();
        says(&server, &client, b"a greeting");
        assert_eq!(proxy.round_trips(), 0);
        for _ in 0..3 {
            says(&client, &server, b"one request");
            says(&client, &server, b"and another");
            says(&server, &client, b"two");
            says(&server, &client, b"answers");
        }
        assert_eq!(proxy.round_trips(), 3);
    }

    #[test]
    fn held_requests_are_delivered_after_their_client_was_cut_off() {
        let (proxy, mut client, mut server) = connection();
        says(&client, &server, b"before");
        proxy.hold();
        client.write_all(b"late").expect("open");
        while proxy.held_bytes() < 4 {
            std::thread::yield_now();
        }
        proxy.cut();
        assert_eq!(client.read(&mut [0]).expect("an end"), 0);
        proxy.deliver();
        let mut received = [0; 4];
        server.read_exact(&mut received).expect("passed on");
        assert_eq!(&received, b"late");
        server.write_all(b"reply").expect("open");
        while proxy.undelivered_bytes() < 5 {
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_dropped_proxy_ends_its_connections() {
        let (proxy, mut client, mut server) = connection();
        says(&client, &server, b"before");
        drop(proxy);
        assert_eq!(client.read(&mut [0]).expect("an end"), 0);
        assert_eq!(server.read(&mut [0]).expect("an end"), 0);
    }
}
