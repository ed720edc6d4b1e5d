//! Records the history of a store that speaks the etcd v3 API, by a watch on every member from the
//! first revision on.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use backend_kit::keyspace::DEFAULT_NAMESPACE;
use etcd_client::{Client, ConnectOptions, EventType, GetOptions, KeyValue, WatchOptions};
use lock_core::clock::Clock;
use tokio::task::JoinSet;

use super::Account;
use super::ledger::{Change, Ledger};

/// The time limit for a member that stands still.
const PATIENCE: Duration = Duration::from_secs(2);
/// The time limit for the last revision to arrive once all faults are over.
const CATCHING_UP: Duration = Duration::from_secs(60);
/// The time of silence after which a watch is asked for its progress.
const SILENCE: Duration = Duration::from_millis(500);

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// An observer that watches until it is dropped.
pub struct Observer {
    addresses: Vec<String>,
    shared: Arc<Mutex<Watched>>,
    _watches: JoinSet<()>,
}

/// The events of all watches together.
#[derive(Default)]
struct Watched {
    ledger: Ledger,
    /// The last revision of each member's watch.
    progress: Vec<u64>,
}

impl Observer {
    /// Watches the members at these addresses, `HOST:PORT`, which need not be up yet. If the store
    /// `forgets`, it reports only the last event of each key after a restart. Then nothing is
    /// concluded from the events that it does not report.
    pub fn start(addresses: impl IntoIterator<Item = String>, forgets: bool) -> Self {
        let addresses: Vec<String> = addresses.into_iter().collect();
        let watched = Watched {
            progress: vec![0; addresses.len()],
            ..Watched::default()
        };
        let shared = Arc::new(Mutex::new(watched));
        let mut watches = JoinSet::new();
        for (member, address) in addresses.iter().enumerate() {
            watches.spawn(watch(member, address.clone(), shared.clone(), forgets));
        }
        Observer {
            addresses,
            shared,
            _watches: watches,
        }
    }

    /// Waits until a member replies.
    pub async fn ready(&self) {
        self.revision().await;
    }

    /// Returns the store's revision, confirmed by its quorum.
    ///
    /// # Panics
    /// If no member replies within a minute.
    async fn revision(&self) -> u64 {
        let started = tokio::time::Instant::now();
        loop {
            for address in &self.addresses {
                if let Ok(revision) = revision(address).await {
                    return revision;
                }
            }
            assert!(started.elapsed() < CATCHING_UP, "no server answers");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Returns all events until now.
    ///
    /// # Panics
    /// If no member's watch gets so far within a minute.
    pub async fn account(&self) -> Account {
        let revision = self.revision().await;
        let started = tokio::time::Instant::now();
        let furthest = || lock_watched(&self.shared).progress.iter().copied().max();
        // The first revision is that of an empty store.
        while revision > 1 && furthest() < Some(revision) {
            assert!(
                started.elapsed() < CATCHING_UP,
                "the watches are at revision {:?} of {revision}",
                furthest()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        lock_watched(&self.shared).ledger.account()
    }
}

fn lock_watched(shared: &Mutex<Watched>) -> MutexGuard<'_, Watched> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn connect(address: &str) -> Result<Client, etcd_client::Error> {
    let options = ConnectOptions::new().with_connect_timeout(PATIENCE);
    Client::connect([address], Some(options)).await
}

async fn revision(address: &str) -> Result<u64, Failure> {
    let ask = async { connect(address).await?.get("probe", None).await };
    let answer = tokio::time::timeout(PATIENCE, ask).await??;
    let header = answer.header().ok_or("an answer without a header")?;
    Ok(header.revision().cast_unsigned())
}

/// Watches a member for ever, also after it was killed and started again.
async fn watch(member: usize, address: String, shared: Arc<Mutex<Watched>>, forgets: bool) {
    loop {
        // Members die and stand still: that is the purpose of the run.
        let _ = watch_once(member, &address, &shared, forgets).await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn watch_once(
    member: usize,
    address: &str,
    shared: &Mutex<Watched>,
    forgets: bool,
) -> Result<(), Failure> {
    let clock = Clock::system();
    let prefix = format!("{DEFAULT_NAMESPACE}/");
    let from = lock_watched(shared).progress[member] + 1;
    // The first watch broke off: the store may have been restarted, and its report of earlier
    // events is not complete.
    let anew = forgets && from > 1;
    let start = if anew { 0 } else { from };
    let options = WatchOptions::new()
        .with_prefix()
        .with_start_revision(start.cast_signed());
    let watching = async {
        let mut client = connect(address).await?;
        client.watch(prefix, Some(options)).await
    };
    let mut stream = tokio::time::timeout(PATIENCE, watching).await??;
    if anew {
        restart(member, address, shared).await?;
    }
    loop {
        let message = match tokio::time::timeout(SILENCE, stream.message()).await {
            Ok(message) => message?.ok_or("the watch ended")?,
            Err(_) => {
                // The request also detects a store that died without closing the connection.
                stream.request_progress().await?;
                let answer = tokio::time::timeout(PATIENCE, stream.message()).await?;
                answer?.ok_or("the watch ended")?
            }
        };
        let at = clock.now();
        if message.canceled() {
            if message.compact_revision() == 0 {
                return Err("the watch was refused".into());
            }
            return restart(member, address, shared).await;
        }
        let mut watched = lock_watched(shared);
        for event in message.events() {
            let Some(kv) = event.kv() else { continue };
            let is_put = event.event_type() == EventType::Put;
            watched.ledger.record(to_change(kv, is_put), at);
        }
        // Only events count: etcd before 3.4.25 may report progress past events that are yet to
        // come.
        let revisions = message.events().iter().filter_map(|event| event.kv());
        let revisions = revisions.map(|kv| kv.mod_revision().cast_unsigned()).max();
        let progress = &mut watched.progress[member];
        *progress = (*progress).max(revisions.unwrap_or_default());
    }
}

/// Continues with the present keys where a store has forgotten the events in between.
async fn restart(member: usize, address: &str, shared: &Mutex<Watched>) -> Result<(), Failure> {
    let read = async {
        let options = GetOptions::new().with_prefix();
        let prefix = format!("{DEFAULT_NAMESPACE}/");
        connect(address).await?.get(prefix, Some(options)).await
    };
    let answer = tokio::time::timeout(PATIENCE, read).await??;
    let at = Clock::system().now();
    let header = answer.header().ok_or("an answer without a header")?;
    let revision = header.revision().cast_unsigned();
    let mut watched = lock_watched(shared);
    let first = watched.progress[member] + 1;
    let present = answer.kvs().iter().map(|kv| to_change(kv, true));
    watched.ledger.record_gap(first, revision, present, at);
    watched.progress[member] = revision;
    Ok(())
}

fn to_change(kv: &KeyValue, is_put: bool) -> Change<'_> {
    Change {
        key: kv.key(),
        value: kv.value(),
        lease: kv.lease(),
        created: kv.create_revision().cast_unsigned(),
        revision: kv.mod_revision().cast_unsigned(),
        is_put,
    }
}
