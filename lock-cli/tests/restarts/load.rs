//! Clients that hold locks, take turns, and write, and that check all the while that nothing is lost.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use etcd_client::Client;
use tokio::task::JoinHandle;
use turnlock::etcd::{Config, EtcdBackend};
use turnlock::{Guard, Locks, Options, Release, State, Token};

use crate::server::Server;
use crate::support::PATIENCE;

const HOLDERS: usize = 4;
const TAKERS: usize = 4;
const WRITERS: usize = 4;

/// Longer than any restart takes on a machine that is busy.
const TTL: Duration = Duration::from_secs(60);
/// The time limit for one write. It is tried again.
const WRITE: Duration = Duration::from_secs(5);

/// What all clients share.
#[derive(Default)]
struct Shared {
    /// The turns and the writes that are done.
    done: [AtomicUsize; TAKERS + WRITERS],
    /// The token of the last turn.
    token: AtomicU64,
    /// Whether somebody has the turn.
    taken: AtomicBool,
    ends: AtomicBool,
}

/// The clients of one coordinator.
pub struct Load {
    shared: Arc<Shared>,
    /// With the tokens that they had in the beginning.
    holders: Vec<(Guard, Token)>,
    takers: Vec<JoinHandle<()>>,
    /// They return how many of their writes were acknowledged.
    writers: Vec<JoinHandle<usize>>,
    locks: Locks,
    socket: PathBuf,
}

impl Load {
    pub async fn start(server: &Server) -> Self {
        let shared = Arc::new(Shared::default());
        let mut holders = Vec::new();
        for holder in 0..HOLDERS {
            let lock = connect(server.socket()).mutex(format!("held-{holder}"));
            let guard = lock.expect("a name").acquire().await.expect("free");
            let token = guard.token();
            holders.push((guard, token));
        }
        let takers = (0..TAKERS).map(|taker| {
            let (locks, shared) = (connect(server.socket()), Arc::clone(&shared));
            tokio::spawn(take_turns(locks, shared, taker))
        });
        let writers = (0..WRITERS).map(|writer| {
            let (socket, shared) = (server.socket().to_owned(), Arc::clone(&shared));
            tokio::spawn(write(socket, shared, writer))
        });
        Load {
            takers: takers.collect(),
            writers: writers.collect(),
            locks: connect(server.socket()),
            socket: server.socket().to_owned(),
            holders,
            shared,
        }
    }

    /// Waits until every client has done something more.
    pub async fn wait_for_progress(&self) {
        let counts = || {
            let done = self.shared.done.iter();
            done.map(|done| done.load(Ordering::SeqCst))
                .collect::<Vec<_>>()
        };
        let before = counts();
        let progress = async {
            while counts()
                .iter()
                .zip(&before)
                .any(|(now, before)| now <= before)
            {
                let mut tasks = self.takers.iter().map(JoinHandle::is_finished);
                assert!(!tasks.any(|finished| finished), "a taker has failed");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let progress = tokio::time::timeout(PATIENCE, progress).await;
        progress.unwrap_or_else(|_| panic!("no progress of all: {before:?}, {:?}", counts()));
    }

    /// Checks that all who held a lock still hold it, with the same token.
    pub fn check_holders(&self) {
        for (guard, token) in &self.holders {
            assert!(
                !matches!(guard.state(), State::Lost(_)),
                "{}: {:?}",
                guard.name(),
                guard.state()
            );
            assert_eq!(guard.token(), *token);
        }
    }

    /// Ends all clients, and checks what they leave.
    pub async fn finish(self) {
        self.shared.ends.store(true, Ordering::SeqCst);
        for taker in self.takers {
            taker.await.expect("no turn was lost");
        }
        let mut client = raw(&self.socket).await.expect("it serves");
        for (writer, task) in self.writers.into_iter().enumerate() {
            let acknowledged = task.await.expect("all writes were acknowledged");
            for number in 0..acknowledged {
                let found = client
                    .get(to_key(writer, number), None)
                    .await
                    .expect("read");
                assert_eq!(found.count(), 1, "write {number} of {writer} is lost");
            }
        }
        for (guard, token) in self.holders {
            // The coordinator, too, has the entry that was granted in the beginning.
            let queue = self.locks.queue(guard.name()).await.expect("read");
            let tokens: Vec<_> = queue.entries.iter().map(|entry| entry.token).collect();
            assert_eq!(tokens, [token], "{}", guard.name());
            assert_eq!(guard.release().await.expect("released"), Release::Released);
        }
    }
}

fn connect(socket: &Path) -> Locks {
    let url = format!("etcd+unix://{}", socket.display());
    let options = Options::default().with_ttl(TTL);
    turnlock::connect_with(&url, options).expect("a valid URL")
}

/// Connects a plain client, which does not connect again.
async fn raw(socket: &Path) -> Option<Client> {
    let backend = EtcdBackend::new(Config::unix(socket)).expect("a valid path");
    backend.client().await.ok()
}

/// Takes one lock again and again, beside others who do the same.
async fn take_turns(locks: Locks, shared: Arc<Shared>, taker: usize) {
    let lock = locks.mutex("hot").expect("a name");
    while !shared.ends.load(Ordering::SeqCst) {
        let guard = lock.acquire().await.expect("its turn");
        assert!(
            !shared.taken.swap(true, Ordering::SeqCst),
            "two have the turn"
        );
        let token = guard.token().0;
        let last = shared.token.swap(token, Ordering::SeqCst);
        assert!(last < token, "{token} after {last}");
        shared.taken.store(false, Ordering::SeqCst);
        // A release that meets no coordinator for seconds is done in the background.
        if let Ok(release) = guard.release().await {
            assert_eq!(release, Release::Released, "the lock was lost");
        }
        shared.done[taker].fetch_add(1, Ordering::SeqCst);
    }
}

/// Writes one key after the other. Each is tried again until it is acknowledged. Returns their number.
async fn write(socket: PathBuf, shared: Arc<Shared>, writer: usize) -> usize {
    let (mut acknowledged, mut client) = (0, None);
    while !shared.ends.load(Ordering::SeqCst) {
        let put = async {
            if client.is_none() {
                client = raw(&socket).await;
            }
            let key = to_key(writer, acknowledged);
            client.as_mut()?.put(key, "", None).await.ok()
        };
        match tokio::time::timeout(WRITE, put).await {
            Ok(Some(_)) => {
                acknowledged += 1;
                shared.done[TAKERS + writer].fetch_add(1, Ordering::SeqCst);
            }
            _ => {
                client = None;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }
    acknowledged
}

fn to_key(writer: usize, number: usize) -> String {
    format!("written/{writer}/{number}")
}
