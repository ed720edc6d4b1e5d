//! A TCP proxy between a client and etcd that can keep back what either says.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;

pub struct Proxy {
    port: u16,
    state: Arc<Shared>,
    accepting: AbortHandle,
}

struct Shared {
    /// Connections are numbered from 1.
    last: AtomicU64,
    /// Requests on connections up to this one are kept back.
    held: watch::Sender<u64>,
    /// Replies on connections up to this one are dropped.
    muted: AtomicU64,
    /// Connections up to this one are closed towards the client.
    cut: watch::Sender<u64>,
    /// Bytes of requests kept back.
    kept: AtomicUsize,
    /// Bytes of replies that came after the client had been cut off.
    unheard: AtomicUsize,
}

impl Proxy {
    pub async fn start(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let state = Arc::new(Shared {
            last: AtomicU64::new(0),
            held: watch::Sender::new(0),
            muted: AtomicU64::new(0),
            cut: watch::Sender::new(0),
            kept: AtomicUsize::new(0),
            unheard: AtomicUsize::new(0),
        });
        let accepting = tokio::spawn(accept(listener, server, state.clone())).abort_handle();
        Proxy {
            port,
            state,
            accepting,
        }
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Keeps back what the clients say on all present connections, also after they closed them.
    pub fn hold(&self) {
        self.state.held.send_replace(self.last());
    }

    /// Passes on what was kept back.
    pub fn deliver(&self) {
        self.state.held.send_replace(0);
    }

    /// Drops what the server says on all present connections.
    pub fn mute(&self) {
        self.state.muted.store(self.last(), Ordering::SeqCst);
    }

    /// Closes all present connections towards the clients, not towards the server.
    pub fn cut(&self) {
        self.state.cut.send_replace(self.last());
    }

    pub fn kept_bytes(&self) -> usize {
        self.state.kept.load(Ordering::SeqCst)
    }

    pub fn unheard_bytes(&self) -> usize {
        self.state.unheard.load(Ordering::SeqCst)
    }

    fn last(&self) -> u64 {
        self.state.last.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, server: String, state: Arc<Shared>) {
    while let Ok((client, _)) = listener.accept().await {
        let Ok(server) = TcpStream::connect(&server).await else {
            continue;
        };
        let _ = client.set_nodelay(true);
        let _ = server.set_nodelay(true);
        let number = state.last.fetch_add(1, Ordering::SeqCst) + 1;
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        tokio::spawn(up(from_client, to_server, number, state.clone()));
        tokio::spawn(down(from_server, to_client, number, state.clone()));
    }
}

async fn up(
    mut client: tokio::net::tcp::OwnedReadHalf,
    mut server: tokio::net::tcp::OwnedWriteHalf,
    number: u64,
    state: Arc<Shared>,
) {
    let mut held = state.held.subscribe();
    let mut cut = state.cut.subscribe();
    let mut kept = Vec::new();
    let mut buffer = vec![0; 16 * 1024];
    let mut open = true;
    while open || !kept.is_empty() {
        tokio::select! {
            read = client.read(&mut buffer), if open => match read {
                Ok(count) if count > 0 => {
                    kept.extend_from_slice(&buffer[..count]);
                    if *held.borrow() >= number {
                        state.kept.fetch_add(count, Ordering::SeqCst);
                    }
                }
                _ => open = false,
            },
            _ = cut.wait_for(|cut| *cut >= number), if open => open = false,
            changed = held.changed() => if changed.is_err() { return },
        }
        if *held.borrow_and_update() < number {
            if server.write_all(&kept).await.is_err() {
                return;
            }
            kept.clear();
        }
    }
    // A server that sees the end of a connection may drop what it has read from it.
    if *cut.borrow() >= number {
        std::future::pending::<()>().await;
    }
}

async fn down(
    mut server: tokio::net::tcp::OwnedReadHalf,
    client: tokio::net::tcp::OwnedWriteHalf,
    number: u64,
    state: Arc<Shared>,
) {
    let mut cut = state.cut.subscribe();
    let mut client = Some(client);
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let count = tokio::select! {
            read = server.read(&mut buffer) => match read {
                Ok(count) if count > 0 => count,
                _ => return,
            },
            _ = cut.wait_for(|cut| *cut >= number), if client.is_some() => {
                client = None;
                continue;
            }
        };
        match &mut client {
            None => {
                state.unheard.fetch_add(count, Ordering::SeqCst);
            }
            Some(_) if state.muted.load(Ordering::SeqCst) >= number => {}
            Some(open) => {
                if open.write_all(&buffer[..count]).await.is_err() {
                    client = None;
                }
            }
        }
    }
}
