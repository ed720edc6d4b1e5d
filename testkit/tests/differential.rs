//! Compares the embedded state machine with a real etcd: both get the same requests through the
//! trait, and each pair of outcomes must be equal. Tokens are compared by their order.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use conformance::{Deployment, Fixture};
use fastrand::Rng;
use lock_core::rule::{self, Ahead, View};
use lock_core::session::{Admission, AsOf, Enqueued};
use lock_core::{
    Entry, EntryId, Error, ErrorKind, Incarnation, LockName, Metadata, Mode, Queue, Session,
    Ticket, Watcher,
};
use testkit::fixtures::{Etcd, Memory};

const ROUNDS: usize = 12;
const STEPS: usize = 120;
const SESSIONS: usize = 3;
/// The time to live of the sessions. It is longer than any round, so no session ends by itself.
const TTL: Duration = Duration::from_secs(600);

/// The environment variable for the seed of a round that failed.
const SEED: &str = "TURNLOCK_SEED";

/// The identity of an acquire: the index of its session, and its serial in that session.
type AcquireId = (usize, u64);

#[derive(Debug, Clone)]
enum Step {
    /// Enqueues an acquire, perhaps again, as after a lost reply.
    Enqueue(AcquireId, &'static str, Mode, Admission),
    /// Looks at the entries ahead of an acquire's entry.
    Look(AcquireId),
    /// Removes the entry of an acquire.
    Remove(AcquireId, Knowing),
    /// Watches an entry that is gone.
    Watch(AcquireId),
    /// Reads the queue of a lock.
    Queue(&'static str),
    /// Lists the locks with a prefix, after a name, up to a limit.
    List(&'static str, Option<&'static str>, usize),
    /// Ends a session by its client or by an administrator, and opens another one in its place.
    End(usize, By),
}

/// What the client knows of the entry that it removes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Knowing {
    TheEntry,
    Nothing,
}

/// Who ends a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Client,
    Administrator,
}

const NAMES: [&str; 4] = ["a", "a/b", "a%", "b"];

/// Makes the steps of both sides, from a seed and from the entries that exist at that point.
struct Script {
    random: Rng,
    serial: u64,
    /// The acquires that may have an entry, with their lock and mode.
    open: Vec<(AcquireId, &'static str, Mode)>,
    /// The acquires that had an entry.
    gone: Vec<AcquireId>,
}

impl Script {
    fn next(&mut self) -> Step {
        let name = NAMES[self.random.usize(..NAMES.len())];
        let open = self
            .open
            .get(self.random.usize(..self.open.len().max(1)))
            .copied();
        match (self.random.u32(..100), open) {
            (0..10, Some((id, name, mode))) => Step::Enqueue(id, name, mode, Admission::Always),
            (10..30, Some((id, ..))) => Step::Look(id),
            (30..50, Some((id, ..))) => {
                self.open.retain(|(other, ..)| *other != id);
                self.gone.push(id);
                Step::Remove(
                    id,
                    [Knowing::TheEntry, Knowing::Nothing][self.random.usize(..2)],
                )
            }
            (50..55, _) if !self.gone.is_empty() => {
                let id = self.gone[self.random.usize(..self.gone.len())];
                match self.random.bool() {
                    true => Step::Watch(id),
                    false => Step::Remove(id, Knowing::TheEntry),
                }
            }
            (55..60, _) => Step::Queue(name),
            (60..65, _) => {
                let after = self.random.bool().then_some(name);
                let prefix = ["", "a", "a/", "c"][self.random.usize(..4)];
                Step::List(prefix, after, self.random.usize(1..4))
            }
            (65..68, _) => {
                let session = self.random.usize(..SESSIONS);
                self.open.retain(|((of, _), ..)| *of != session);
                self.gone.retain(|(of, _)| *of != session);
                Step::End(
                    session,
                    [By::Client, By::Administrator][self.random.usize(..2)],
                )
            }
            _ => {
                self.serial += 1;
                let id = (self.random.usize(..SESSIONS), self.serial);
                let mode = [Mode::Exclusive, Mode::Shared][self.random.usize(..2)];
                let admission = match self.random.u32(..3) {
                    0 => Admission::IfFree,
                    _ => Admission::Always,
                };
                if admission == Admission::Always {
                    self.open.push((id, name, mode));
                }
                Step::Enqueue(id, name, mode, admission)
            }
        }
    }
}

/// One of the two stores.
struct Side {
    deployment: Box<dyn Deployment>,
    sessions: Vec<Arc<dyn Session>>,
    acquires: HashMap<AcquireId, (Ticket, Option<EntryId>)>,
    /// The incarnations of all entries so far, in the order in which the entries were made.
    incarnations: Vec<Incarnation>,
}

impl Side {
    async fn new(deployment: Box<dyn Deployment>) -> Self {
        let mut side = Side {
            deployment,
            sessions: vec![],
            acquires: HashMap::new(),
            incarnations: vec![],
        };
        for _ in 0..SESSIONS {
            let session = side.open().await;
            side.sessions.push(session);
        }
        side
    }

    async fn open(&self) -> Arc<dyn Session> {
        let session = self.deployment.backend().open_session(TTL).await;
        session.expect("a session is opened")
    }

    /// Returns the position of an entry in the order in which the entries were made.
    fn rank(&self, id: &EntryId) -> usize {
        let made = self.incarnations.iter();
        let mut made = made.map(|incarnation| Some(*incarnation));
        let rank = made.position(|incarnation| incarnation == id.incarnation);
        rank.unwrap_or_else(|| panic!("the entry {id:?} is unknown"))
    }

    fn describe_view(&self, view: &View) -> String {
        let ahead = view.ahead.iter().map(|a| (self.rank(&a.id), a.mode));
        format!("{} {:?}", view.present, ahead.collect::<Vec<_>>())
    }

    fn describe_queue(&self, queue: &Queue) -> String {
        let session = |entry: &Entry| {
            let id = entry.session.expect("every entry has one");
            self.sessions.iter().position(|session| session.id() == id)
        };
        let entries = queue.entries.iter();
        let entries = entries.map(|e| (self.rank(&e.id), e.mode, session(e)));
        format!("{} {:?}", queue.name, entries.collect::<Vec<_>>())
    }

    /// Returns the view with the nearest entry ahead in place of the reported one. An enqueue that
    /// does not read the queue may report any entry that stands ahead.
    async fn with_nearest(&self, name: &LockName, own: &EntryId, mut view: View) -> View {
        let queue = self.deployment.backend().queue(name).await;
        let mut ahead = queue.expect("the queue is read").entries;
        ahead.retain(|entry| entry.id.incarnation < own.incarnation);
        for reported in &mut view.ahead {
            let is_reported = |entry: &Entry| entry.id.incarnation == reported.id.incarnation;
            assert!(
                ahead.iter().any(is_reported),
                "{reported:?} is not in {ahead:?}"
            );
            if let Some(nearest) = ahead.last() {
                *reported = Ahead {
                    id: nearest.id.clone(),
                    mode: nearest.mode,
                };
            }
        }
        view
    }

    /// Takes a step, and describes the outcome in words that do not depend on the side.
    async fn take(&mut self, step: &Step) -> String {
        match step.clone() {
            Step::Enqueue(id, name, mode, admission) => {
                let ticket = Ticket {
                    name: lock(name),
                    mode,
                    serial: id.1,
                    metadata: Arc::new(Metadata::default()),
                };
                let enqueued = self.sessions[id.0]
                    .enqueue(&ticket, rule::ask(mode), admission)
                    .await;
                let placed = match enqueued {
                    Ok(Enqueued::Placed(placed)) => placed,
                    Ok(Enqueued::Busy) => return "busy".into(),
                    Err(error) => return describe_error(&error),
                };
                let entry = placed.entry;
                let incarnation = entry.incarnation.expect("known");
                if !self.incarnations.contains(&incarnation) {
                    let highest = self.incarnations.last();
                    assert!(
                        highest < Some(&incarnation),
                        "{incarnation} after {highest:?}"
                    );
                    self.incarnations.push(incarnation);
                }
                self.acquires.insert(id, (ticket, Some(entry.clone())));
                let view = match (mode, admission) {
                    (Mode::Exclusive, Admission::Always) => {
                        self.with_nearest(&lock(name), &entry, placed.view).await
                    }
                    _ => placed.view,
                };
                format!("{} {}", self.rank(&entry), self.describe_view(&view))
            }
            Step::Look(id) => {
                let Some((ticket, Some(entry))) = self.acquires.get(&id) else {
                    return "never placed".into();
                };
                let ask = rule::ask(ticket.mode);
                let view = self.sessions[id.0].look(ticket, entry, ask, AsOf::Now);
                describe(view.await, |view| self.describe_view(&view))
            }
            Step::Remove(id, knowing) => {
                let Some((ticket, entry)) = self.acquires.get(&id) else {
                    return "never placed".into();
                };
                let entry = entry.as_ref().filter(|_| knowing == Knowing::TheEntry);
                let removed = self.sessions[id.0].remove(ticket, entry, &[]).await;
                describe(removed, |removal| format!("{:?}", removal.removed))
            }
            Step::Watch(id) => {
                let Some((_, Some(entry))) = self.acquires.get(&id) else {
                    return "never placed".into();
                };
                let watched = self.sessions[id.0].watch(entry, Watcher::Owner);
                let limit = Duration::from_secs(60);
                let watched = tokio::time::timeout(limit, watched).await;
                describe(watched.expect("the watch ends"), |()| "gone".into())
            }
            Step::Queue(name) => {
                let queue = self.deployment.backend().queue(&lock(name)).await;
                describe(queue, |queue| self.describe_queue(&queue))
            }
            Step::List(prefix, after, limit) => {
                let after = after.map(lock);
                let backend = self.deployment.backend();
                let queues = backend.locks(prefix, after.as_ref(), limit).await;
                describe(queues, |queues| {
                    let queues = queues.iter().map(|queue| self.describe_queue(queue));
                    format!("{:?}", queues.collect::<Vec<_>>())
                })
            }
            Step::End(session, by) => {
                let old = self.sessions[session].clone();
                if by == By::Administrator {
                    let administrator = self.deployment.administrator();
                    let administrator = administrator.expect("both have one");
                    administrator.end_session(old.id()).await;
                    // The session learns of its end from its next request.
                    let ticket = Ticket {
                        name: lock("a"),
                        mode: Mode::Exclusive,
                        serial: u64::MAX,
                        metadata: Arc::new(Metadata::default()),
                    };
                    let ask = rule::ask(Mode::Exclusive);
                    let late = old.enqueue(&ticket, ask, Admission::Always).await;
                    let error = late.expect_err("the session is over");
                    assert!(matches!(error.kind(), ErrorKind::SessionLost(_)), "{error}");
                }
                let closed = old.close().await;
                self.acquires.retain(|(of, _), _| *of != session);
                self.sessions[session] = self.open().await;
                describe(closed, |()| "closed".into())
            }
        }
    }
}

fn lock(name: &str) -> LockName {
    LockName::new(name).expect("a valid name")
}

/// Describes the outcome of a request.
fn describe<T>(outcome: Result<T, Error>, to_text: impl FnOnce(T) -> String) -> String {
    outcome.map_or_else(|error| describe_error(&error), to_text)
}

fn describe_error(error: &Error) -> String {
    format!("{:?}", error.kind())
}

/// Takes the same random steps on both sides, and compares the outcomes.
async fn compare(embedded: &mut Side, etcd: &mut Side, seed: u64) {
    let mut script = Script {
        random: Rng::with_seed(seed),
        serial: 0,
        open: vec![],
        gone: vec![],
    };
    let mut history = vec![];
    for _ in 0..STEPS {
        let step = script.next();
        let (of_embedded, of_etcd) = (embedded.take(&step).await, etcd.take(&step).await);
        assert_eq!(
            of_embedded, of_etcd,
            "embedded and etcd differ in {step:?} after {history:#?}; again with {SEED}={seed}"
        );
        history.push((step, of_embedded));
    }
    for side in [embedded, etcd] {
        for session in &side.sessions {
            session.close().await.expect("closed");
        }
    }
}

#[test]
fn embedded_and_etcd_have_the_same_outcomes() {
    let given = std::env::var(SEED).ok();
    let seeds: Vec<u64> = match given {
        Some(seed) => vec![seed.parse().expect("a number")],
        None => (0..ROUNDS).map(|_| fastrand::u64(..)).collect(),
    };
    for seed in seeds {
        println!("{SEED}={seed}");
        let deployments = [Memory.start(), Etcd::single().start()];
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let [embedded, etcd] = deployments;
            let mut embedded = Side::new(embedded).await;
            let mut etcd = Side::new(etcd).await;
            compare(&mut embedded, &mut etcd, seed).await;
        });
    }
}
