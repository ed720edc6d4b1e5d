//! Implements the resource for which the contenders compete: counters, each kept twice. One copy is
//! guarded by the fence that Turnlock ships, the other by nothing but the lock.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lock_core::{LockName, Token};
use lock_fence::{FencingToken, Register};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufStream};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::AbortHandle;

use crate::history::journal::Journal;
use crate::history::{Event, OpId};

/// A request to the resource.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Request {
    /// The hold under which it is sent.
    pub op: OpId,
    /// The lock, which is also the name of the counter.
    pub lock: String,
    /// The token of the hold.
    pub token: Token,
    /// The new values, or none to read.
    pub write: Option<Values>,
}

/// The two copies of a counter.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Values {
    /// The copy that is written only with a token that is not stale.
    pub fenced: u64,
    /// The copy that any client can write.
    pub bare: u64,
}

/// The reply to a request.
#[derive(Debug, Serialize, Deserialize)]
pub struct Reply {
    /// Whether the fence accepted the token.
    pub admitted: bool,
    /// The values after the request.
    pub values: Values,
}

/// The outcomes of the writes, as the counters and the clients saw them.
#[derive(Debug, Default, Clone, Serialize)]
pub struct Tally {
    /// Writes that the fence accepted.
    pub accepted: u64,
    /// Writes that the fence refused as stale.
    pub rejected: u64,
    /// Accepted writes that another write overwrote without having read them.
    pub lost_with_fence: u64,
    /// The same count for the copy without the fence.
    pub lost_without_fence: u64,
}

/// The resource. If it is served on a Unix socket, that ends when this is dropped.
pub struct Resource {
    shared: Arc<Shared>,
    serving: Option<AbortHandle>,
}

struct Shared {
    journal: Journal,
    fence: Register,
    counters: Mutex<BTreeMap<String, Counter>>,
}

#[derive(Debug, Default)]
struct Counter {
    values: Values,
    accepted: u64,
    rejected: u64,
    /// Writes to the copy without a fence.
    bare: u64,
}

impl Resource {
    /// Starts the resource. It must be called within a runtime.
    pub fn start(socket: &Path, journal: Journal) -> io::Result<Self> {
        let listener = UnixListener::bind(socket)?;
        let mut resource = Resource::in_memory(journal);
        let serving = tokio::spawn(accept(listener, resource.shared.clone()));
        resource.serving = Some(serving.abort_handle());
        Ok(resource)
    }

    /// Returns a resource that is served on no socket.
    pub fn in_memory(journal: Journal) -> Self {
        let shared = Arc::new(Shared {
            journal,
            fence: Register::default(),
            counters: Mutex::default(),
        });
        Resource {
            shared,
            serving: None,
        }
    }

    /// Serves a request.
    ///
    /// # Errors
    /// If the name of the lock is not valid.
    pub async fn serve(&self, request: Request) -> io::Result<Reply> {
        self.shared.serve(request).await
    }

    /// Returns the outcomes of the writes so far.
    pub fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        for counter in self.shared.counters().values() {
            tally.accepted += counter.accepted;
            tally.rejected += counter.rejected;
            // Every write adds one to the value that its writer had read.
            tally.lost_with_fence += counter.accepted - counter.values.fenced;
            tally.lost_without_fence += counter.bare - counter.values.bare;
        }
        tally
    }
}

impl Drop for Resource {
    fn drop(&mut self) {
        if let Some(serving) = &self.serving {
            serving.abort();
        }
    }
}

impl Shared {
    fn counters(&self) -> MutexGuard<'_, BTreeMap<String, Counter>> {
        self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn serve(&self, request: Request) -> io::Result<Reply> {
        let lock = LockName::new(&request.lock).map_err(io::Error::other)?;
        let token = FencingToken::new(lock, request.token);
        let entered = match self.fence.enter(&token).await {
            Ok(entered) => Some(entered),
            Err(error) if error.is_stale() => None,
            Err(error) => return Err(io::Error::other(error)),
        };
        let admitted = entered.is_some();
        let mut counters = self.counters();
        // The event is written while nobody else is let in, so the journal has the resource's
        // order.
        self.journal.write(Event::Access {
            op: request.op,
            lock: request.lock.clone(),
            token: request.token,
            admitted,
        });
        let counter = counters.entry(request.lock).or_default();
        if let Some(values) = request.write {
            counter.bare += 1;
            counter.values.bare = values.bare;
            if admitted {
                counter.accepted += 1;
                counter.values.fenced = values.fenced;
            } else {
                counter.rejected += 1;
            }
        }
        Ok(Reply {
            admitted,
            values: counter.values,
        })
    }
}

async fn accept(listener: UnixListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        let shared = shared.clone();
        tokio::spawn(async move {
            // A client that is killed may disconnect in the middle of a message.
            let _ = converse(stream, &shared).await;
        });
    }
}

async fn converse(stream: UnixStream, shared: &Shared) -> io::Result<()> {
    let mut stream = BufStream::new(stream);
    let mut line = String::new();
    while stream.read_line(&mut line).await? > 0 {
        let reply = shared.serve(serde_json::from_str(&line)?).await?;
        send(&mut stream, &reply).await?;
        line.clear();
    }
    Ok(())
}

async fn send(stream: &mut BufStream<UnixStream>, message: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    stream.write_all(&line).await?;
    stream.flush().await
}

/// A client's connection to the resource.
pub struct Client {
    stream: BufStream<UnixStream>,
}

impl Client {
    /// Connects to a resource that is served on this socket.
    ///
    /// # Errors
    /// Those of the socket.
    pub async fn connect(socket: PathBuf) -> io::Result<Self> {
        let stream = BufStream::new(UnixStream::connect(socket).await?);
        Ok(Client { stream })
    }

    /// Sends a request, and waits for the reply.
    ///
    /// # Errors
    /// Those of the socket, and a reply that cannot be parsed.
    pub async fn ask(&mut self, request: &Request) -> io::Result<Reply> {
        send(&mut self.stream, request).await?;
        let mut line = String::new();
        self.stream.read_line(&mut line).await?;
        Ok(serde_json::from_str(&line)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_fence_refuses_a_late_writer_and_the_bare_copy_loses_an_update() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let journal = Journal::create(&folder.path().join("r.journal")).expect("a new file");
        let socket = folder.path().join("socket");
        let resource = Resource::start(&socket, journal).expect("it listens");
        let mut client = Client::connect(socket).await.expect("it is there");
        let mut ask = async |token, write: Option<u64>| {
            let values = |n| Values { fenced: n, bare: n };
            let request = Request {
                op: "1.1.1".parse().expect("an id"),
                lock: "a".into(),
                token: Token(token),
                write: write.map(values),
            };
            client.ask(&request).await.expect("an answer")
        };
        // The first client reads, and is paused. The second one reads and writes. Then the first
        // one writes.
        assert_eq!(ask(1, None).await.values, Values::default());
        assert!(ask(2, None).await.admitted);
        assert!(ask(2, Some(1)).await.admitted);
        let late = ask(1, Some(1)).await;
        assert!(!late.admitted);
        assert_eq!(late.values, Values { fenced: 1, bare: 1 });
        let tally = resource.tally();
        assert_eq!((tally.accepted, tally.rejected), (1, 1));
        assert_eq!((tally.lost_with_fence, tally.lost_without_fence), (0, 1));
    }
}
