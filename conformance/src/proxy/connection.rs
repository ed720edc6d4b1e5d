//! One connection through the proxy.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Rules, Tally};

/// Passes bytes between a client and a server, as the rules say.
pub(super) fn join(
    client: TcpStream,
    server: TcpStream,
    rules: watch::Receiver<Rules>,
    tally: Arc<Tally>,
) {
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);
    let number = tally.last.fetch_add(1, Ordering::SeqCst) + 1;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let connection = Connection {
        number,
        rules,
        tally,
        is_asking: Arc::default(),
    };
    tokio::spawn(up(from_client, to_server, connection.clone()));
    tokio::spawn(down(from_server, to_client, connection));
}

/// The state that both directions of a connection share.
#[derive(Clone)]
struct Connection {
    number: u64,
    rules: watch::Receiver<Rules>,
    tally: Arc<Tally>,
    /// Whether the client has sent something since the last reply.
    is_asking: Arc<AtomicBool>,
}

/// Passes requests on to the server.
async fn up(mut client: OwnedReadHalf, mut server: OwnedWriteHalf, connection: Connection) {
    let Connection {
        number,
        mut rules,
        tally,
        is_asking,
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
                    is_asking.store(true, Ordering::SeqCst);
                    under_way.push(&buffer[..count], rule.delay);
                    if rule.held >= number {
                        tally.held.fetch_add(count, Ordering::SeqCst);
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

/// Passes replies on to the client.
async fn down(mut server: OwnedReadHalf, client: OwnedWriteHalf, connection: Connection) {
    let Connection {
        number,
        mut rules,
        tally,
        is_asking,
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
                    if is_asking.swap(false, Ordering::SeqCst) {
                        tally.round_trips.fetch_add(1, Ordering::SeqCst);
                    }
                    if client.is_none() {
                        tally.undelivered.fetch_add(count, Ordering::SeqCst);
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

/// The pieces that were read and not yet written, each with the instant at which it arrives.
#[derive(Default)]
struct UnderWay(VecDeque<(Instant, Vec<u8>)>);

impl UnderWay {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn push(&mut self, bytes: &[u8], delay: Duration) {
        self.0.push_back((Instant::now() + delay, bytes.to_vec()));
    }

    /// Waits until the next piece is due.
    async fn arrival(&self) {
        match self.0.front() {
            Some((due, _)) => tokio::time::sleep_until(*due).await,
            None => std::future::pending().await,
        }
    }

    /// Writes the pieces that are due.
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
