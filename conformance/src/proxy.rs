//! A TCP proxy that stands for the network in front of a server, and for what goes wrong in it.
//!
//! It does not interpret what it forwards. It runs on a thread of its own, so that the network keeps
//! working while the executor of a test is blocked.

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, TcpListener as StdTcpListener};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
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

/// A TCP proxy in front of a server. It passes everything on in both directions until it is asked to do
/// otherwise. A drop ends its connections.
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
    /// Nothing moves, on any connection.
    silent: bool,
    /// Every piece takes so long.
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
    /// Bytes of requests kept back.
    kept: AtomicUsize,
    /// Bytes of replies that came after the client had been cut off.
    unheard: AtomicUsize,
    /// Bytes of replies that were dropped.
    muted: AtomicUsize,
    /// How often an answer came after a request.
    round_trips: AtomicUsize,
}

impl Proxy {
    /// Starts a proxy in front of the server at this address, `HOST:PORT`. A connection waits up to two
    /// seconds for a server that does not listen yet, and is then closed.
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

    /// Stops all traffic in both directions, on present and new connections. Neither side is notified:
    /// connections are neither closed nor reset.
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
    pub fn kept_bytes(&self) -> usize {
        self.tally.kept.load(Ordering::SeqCst)
    }

    /// Returns the number of bytes of replies that came for clients that had been cut off.
    pub fn unheard_bytes(&self) -> usize {
        self.tally.unheard.load(Ordering::SeqCst)
    }

    /// Returns the number of bytes of replies that were dropped.
    pub fn muted_bytes(&self) -> usize {
        self.tally.muted.load(Ordering::SeqCst)
    }

    /// Returns how often a reply came after a request. Requests that are sent back to back count once. For
    /// an exact count, set a [`delay`](Proxy::delay) that leaves the client the time to send all requests
    /// before the first reply.
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
                join(client, server, rules, tally);
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

fn join(client: TcpStream, server: TcpStream, rules: watch::Receiver<Rules>, tally: Arc<Tally>) {
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);
    let number = tally.last.fetch_add(1, Ordering::SeqCst) + 1;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let connection = Connection {
        number,
        rules,
        tally,
        asked: Arc::default(),
    };
    tokio::spawn(up(from_client, to_server, connection.clone()));
    tokio::spawn(down(from_server, to_client, connection));
}

/// What both directions of a connection know.
#[derive(Clone)]
struct Connection {
    number: u64,
    rules: watch::Receiver<Rules>,
    tally: Arc<Tally>,
    /// The client has said something since the server last did.
    asked: Arc<AtomicBool>,
}

async fn up(mut client: OwnedReadHalf, mut server: OwnedWriteHalf, connection: Connection) {
    let Connection {
        number,
        mut rules,
        tally,
        asked,
    } = connection;
    let passes = |rules: Rules| !rules.silent && rules.held < number;
    let mut under_way = UnderWay::default();
    let mut buffer = vec![0; 16 * 1024];
    let mut open = true;
    while open || !under_way.is_empty() {
        let rule = *rules.borrow_and_update();
        tokio::select! {
            read = client.read(&mut buffer), if open && !rule.silent => match read {
                Ok(count) if count > 0 => {
                    let rule = *rules.borrow();
                    asked.store(true, Ordering::SeqCst);
                    under_way.push(&buffer[..count], rule.delay);
                    if rule.held >= number {
                        tally.kept.fetch_add(count, Ordering::SeqCst);
                    }
                }
                _ => open = false,
            },
            () = under_way.arrival(), if passes(rule) => {}
            changed = rules.changed() => if changed.is_err() { return },
        }
        let rule = *rules.borrow();
        if rule.cut >= number {
            open = false;
        }
        if passes(rule) && under_way.arrive(&mut server).await.is_err() {
            return;
        }
    }
    // A server that sees the end of a connection may drop what it has read from it.
    if rules.borrow().cut >= number {
        while rules.changed().await.is_ok() {}
    }
}

async fn down(mut server: OwnedReadHalf, client: OwnedWriteHalf, connection: Connection) {
    let Connection {
        number,
        mut rules,
        tally,
        asked,
    } = connection;
    let mut under_way = UnderWay::default();
    let mut client = Some(client);
    let mut buffer = vec![0; 16 * 1024];
    let mut open = true;
    while open || !under_way.is_empty() {
        let rule = *rules.borrow_and_update();
        tokio::select! {
            read = server.read(&mut buffer), if open && !rule.silent => match read {
                Ok(count) if count > 0 => {
                    let rule = *rules.borrow();
                    if asked.swap(false, Ordering::SeqCst) {
                        tally.round_trips.fetch_add(1, Ordering::SeqCst);
                    }
                    if client.is_none() {
                        tally.unheard.fetch_add(count, Ordering::SeqCst);
                    } else if rule.muted >= number {
                        tally.muted.fetch_add(count, Ordering::SeqCst);
                    } else {
                        under_way.push(&buffer[..count], rule.delay);
                    }
                }
                _ => open = false,
            },
            () = under_way.arrival(), if !rule.silent => {}
            changed = rules.changed() => if changed.is_err() { return },
        }
        let rule = *rules.borrow();
        if rule.cut >= number {
            client = None;
        }
        match &mut client {
            Some(_) if rule.silent => {}
            Some(to) => {
                if under_way.arrive(to).await.is_err() {
                    client = None;
                }
            }
            None => under_way = UnderWay::default(),
        }
    }
}

/// What was read and not yet written, with the instant at which it arrives.
#[derive(Default)]
struct UnderWay(VecDeque<(Instant, Vec<u8>)>);

impl UnderWay {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn push(&mut self, bytes: &[u8], delay: Duration) {
        self.0.push_back((Instant::now() + delay, bytes.to_vec()));
    }

    /// Resolves when the next piece is due.
    async fn arrival(&self) {
        match self.0.front() {
            Some((due, _)) => tokio::time::sleep_until(*due).await,
            None => std::future::pending().await,
        }
    }

    /// Writes what is due.
    async fn arrive(&mut self, to: &mut OwnedWriteHalf) -> io::Result<()> {
        let now = Instant::now();
        while self.0.front().is_some_and(|(due, _)| *due <= now) {
            let Some((_, bytes)) = self.0.pop_front() else {
                break;
            };
            to.write_all(&bytes).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Shutdown, TcpListener, TcpStream};

    use super::*;

    /// Both ends of a connection through a proxy. A read that nothing comes for fails after a while.
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
        let mut heard = vec![0; what.len()];
        to.read_exact(&mut heard).expect("passed on");
        assert_eq!(heard, what);
    }

    fn hears_nothing(mut end: &TcpStream, during: Duration) {
        let limit = end.read_timeout().expect("a socket");
        end.set_read_timeout(Some(during)).expect("a socket");
        let read = end.read(&mut [0]).map_err(|error| error.kind());
        assert_eq!(read, Err(io::ErrorKind::WouldBlock));
        end.set_read_timeout(limit).expect("a socket");
    }

    #[test]
    fn silence_is_both_ways_and_what_was_said_in_it_comes_later() {
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
        let mut heard = [0; 4];
        client.read_exact(&mut heard).expect("passed on");
        assert_eq!(&heard, b"down");
        let mut heard = vec![];
        server
            .read_to_end(&mut heard)
            .expect("the end came through");
        assert_eq!(heard, b"up");
    }

    #[test]
    fn a_delay_shifts_and_keeps_the_order() {
        let (proxy, mut client, server) = connection();
        let delay = Duration::from_millis(200);
        proxy.delay(delay);
        let started = std::time::Instant::now();
        client.write_all(b"one, ").expect("open");
        client.write_all(b"two").expect("open");
        let mut heard = [0; 8];
        (&server).read_exact(&mut heard).expect("passed on");
        assert_eq!(&heard, b"one, two");
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
    fn answers_to_requests_are_counted_and_what_is_said_unasked_is_not() {
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
    fn what_is_held_is_delivered_after_its_client_was_cut_off() {
        let (proxy, mut client, mut server) = connection();
        says(&client, &server, b"before");
        proxy.hold();
        client.write_all(b"late").expect("open");
        while proxy.kept_bytes() < 4 {
            std::thread::yield_now();
        }
        proxy.cut();
        assert_eq!(client.read(&mut [0]).expect("an end"), 0);
        proxy.deliver();
        let mut heard = [0; 4];
        server.read_exact(&mut heard).expect("passed on");
        assert_eq!(&heard, b"late");
        server.write_all(b"reply").expect("open");
        while proxy.unheard_bytes() < 5 {
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
