//! The embedded state machine and a real etcd, asked the same through the trait: outcome by outcome
//! they must answer the same, tokens compared by their order.

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
/// Longer than any round: no session ends by itself.
const TTL: Duration = Duration::from_secs(600);

/// Reproduces a round that failed.
const SEED: &str = "TURNLOCK_SEED";

/// A wish: which session's, and which of its wishes.
type Wish = (usize, u64);

#[derive(Debug, Clone)]
enum Step {
    /// Also again, as after a lost reply.
    Enqueue(Wish, &'static str, Mode, Admission),
    Look(Wish),
    Remove(Wish, Knowing),
    /// Of an entry that is gone.
    Changed(Wish),
    Queue(&'static str),
    List(&'static str, Option<&'static str>, usize),
    /// By itself, or by an administrator; and another takes its place.
    End(usize, By),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Knowing {
    TheEntry,
    Nothing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Itself,
    Administrator,
}

const NAMES: [&str; 4] = ["a", "a/b", "a%", "b"];

/// What both sides are asked, made from a seed and from what can be asked at that point.
struct Script {
    random: Rng,
    serial: u64,
    /// The wishes that may have an entry, with what they are for.
    open: Vec<(Wish, &'static str, Mode)>,
    /// Those that had one.
    gone: Vec<Wish>,
}

impl Script {
    fn next(&mut self) -> Step {
        let name = NAMES[self.random.usize(..NAMES.len())];
        let open = self
            .open
            .get(self.random.usize(..self.open.len().max(1)))
            .copied();
        match (self.random.u32(..100), open) {
            (0..10, Some((wish, name, mode))) => Step::Enqueue(wish, name, mode, Admission::Always),
            (10..30, Some((wish, ..))) => Step::Look(wish),
            (30..50, Some((wish, ..))) => {
                self.open.retain(|(other, ..)| *other != wish);
                self.gone.push(wish);
                Step::Remove(
                    wish,
                    [Knowing::TheEntry, Knowing::Nothing][self.random.usize(..2)],
                )
            }
            (50..55, _) if !self.gone.is_empty() => {
                let wish = self.gone[self.random.usize(..self.gone.len())];
                match self.random.bool() {
                    true => Step::Changed(wish),
                    false => Step::Remove(wish, Knowing::TheEntry),
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
                    [By::Itself, By::Administrator][self.random.usize(..2)],
                )
            }
            _ => {
                self.serial += 1;
                let wish = (self.random.usize(..SESSIONS), self.serial);
                let mode = [Mode::Exclusive, Mode::Shared][self.random.usize(..2)];
                let admission = match self.random.u32(..3) {
                    0 => Admission::IfFree,
                    _ => Admission::Always,
                };
                if admission == Admission::Always {
                    self.open.push((wish, name, mode));
                }
                Step::Enqueue(wish, name, mode, admission)
            }
        }
    }
}

/// One of the two stores.
struct Side {
    deployment: Box<dyn Deployment>,
    sessions: Vec<Arc<dyn Session>>,
    wishes: HashMap<Wish, (Ticket, Option<EntryId>)>,
    /// In the order of their making.
    incarnations: Vec<Incarnation>,
}

impl Side {
    async fn new(deployment: Box<dyn Deployment>) -> Self {
        let mut side = Side {
            deployment,
            sessions: vec![],
            wishes: HashMap::new(),
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

    /// Which one it is in the order of the making.
    fn rank(&self, id: &EntryId) -> usize {
        let made = self.incarnations.iter();
        let mut made = made.map(|incarnation| Some(*incarnation));
        let known = made.position(|incarnation| incarnation == id.incarnation);
        known.unwrap_or_else(|| panic!("nobody has the entry {id:?}"))
    }

    fn view(&self, view: &View) -> String {
        let ahead = view.ahead.iter().map(|a| (self.rank(&a.id), a.mode));
        format!("{} {:?}", view.present, ahead.collect::<Vec<_>>())
    }

    fn queue(&self, queue: &Queue) -> String {
        let session = |entry: &Entry| {
            let id = entry.session.expect("every entry has one");
            self.sessions.iter().position(|session| session.id() == id)
        };
        let entries = queue.entries.iter();
        let entries = entries.map(|e| (self.rank(&e.id), e.mode, session(e)));
        format!("{} {:?}", queue.name, entries.collect::<Vec<_>>())
    }

    /// The view, with the nearest of those that stand ahead for the one that was told: an enqueue
    /// that does without reading the queue may tell of any of them.
    async fn nearest(&self, name: &LockName, own: &EntryId, mut view: View) -> View {
        let queue = self.deployment.backend().queue(name).await;
        let mut ahead = queue.expect("the queue is read").entries;
        ahead.retain(|entry| entry.id.incarnation < own.incarnation);
        for told in &mut view.ahead {
            let is_told = |entry: &Entry| entry.id.incarnation == told.id.incarnation;
            assert!(ahead.iter().any(is_told), "{told:?} is not in {ahead:?}");
            if let Some(nearest) = ahead.last() {
                *told = Ahead {
                    id: nearest.id.clone(),
                    mode: nearest.mode,
                };
            }
        }
        view
    }

    /// Does it, and says what came of it in words that both sides have.
    async fn take(&mut self, step: &Step) -> String {
        match step.clone() {
            Step::Enqueue(wish, name, mode, admission) => {
                let ticket = Ticket {
                    name: lock(name),
                    mode,
                    serial: wish.1,
                    metadata: Arc::new(Metadata::default()),
                };
                let enqueued = self.sessions[wish.0]
                    .enqueue(&ticket, rule::ask(mode), admission)
                    .await;
                let placed = match enqueued {
                    Ok(Enqueued::Placed(placed)) => placed,
                    Ok(Enqueued::Busy) => return "busy".into(),
                    Err(error) => return failed(&error),
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
                self.wishes.insert(wish, (ticket, Some(entry.clone())));
                let view = match (mode, admission) {
                    (Mode::Exclusive, Admission::Always) => {
                        self.nearest(&lock(name), &entry, placed.view).await
                    }
                    _ => placed.view,
                };
                format!("{} {}", self.rank(&entry), self.view(&view))
            }
            Step::Look(wish) => {
                let Some((ticket, Some(entry))) = self.wishes.get(&wish) else {
                    return "never placed".into();
                };
                let ask = rule::ask(ticket.mode);
                let looked = self.sessions[wish.0].look(ticket, entry, ask, AsOf::Now);
                said(looked.await, |view| self.view(&view))
            }
            Step::Remove(wish, knowing) => {
                let Some((ticket, entry)) = self.wishes.get(&wish) else {
                    return "never placed".into();
                };
                let entry = entry.as_ref().filter(|_| knowing == Knowing::TheEntry);
                let removed = self.sessions[wish.0].remove(ticket, entry, &[]).await;
                said(removed, |removal| format!("{:?}", removal.removed))
            }
            Step::Changed(wish) => {
                let Some((_, Some(entry))) = self.wishes.get(&wish) else {
                    return "never placed".into();
                };
                let changed = self.sessions[wish.0].watch(entry, Watcher::Owner);
                let limit = Duration::from_secs(60);
                let changed = tokio::time::timeout(limit, changed).await;
                said(changed.expect("told that it is gone"), |()| "gone".into())
            }
            Step::Queue(name) => {
                let queue = self.deployment.backend().queue(&lock(name)).await;
                said(queue, |queue| self.queue(&queue))
            }
            Step::List(prefix, after, limit) => {
                let after = after.map(lock);
                let backend = self.deployment.backend();
                let queues = backend.locks(prefix, after.as_ref(), limit).await;
                said(queues, |queues| {
                    let queues = queues.iter().map(|queue| self.queue(queue));
                    format!("{:?}", queues.collect::<Vec<_>>())
                })
            }
            Step::End(session, by) => {
                let old = self.sessions[session].clone();
                if by == By::Administrator {
                    let administrator = self.deployment.administrator();
                    let administrator = administrator.expect("both have one");
                    administrator.end_session(old.id()).await;
                    // It is told by whatever it tries next.
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
                self.wishes.retain(|(of, _), _| *of != session);
                self.sessions[session] = self.open().await;
                said(closed, |()| "closed".into())
            }
        }
    }
}

fn lock(name: &str) -> LockName {
    LockName::new(name).expect("a valid name")
}

fn said<T>(outcome: Result<T, Error>, say: impl FnOnce(T) -> String) -> String {
    outcome.map_or_else(|error| failed(&error), say)
}

fn failed(error: &Error) -> String {
    format!("{:?}", error.kind())
}

async fn differ(embedded: &mut Side, etcd: &mut Side, seed: u64) {
    let mut script = Script {
        random: Rng::with_seed(seed),
        serial: 0,
        open: vec![],
        gone: vec![],
    };
    let mut history = vec![];
    for _ in 0..STEPS {
        let step = script.next();
        let (ours, theirs) = (embedded.take(&step).await, etcd.take(&step).await);
        assert_eq!(
            ours, theirs,
            "embedded and etcd differ in {step:?} after {history:#?}; again with {SEED}={seed}"
        );
        history.push((step, ours));
    }
    for side in [embedded, etcd] {
        for session in &side.sessions {
            session.close().await.expect("closed");
        }
    }
}

#[test]
fn embedded_and_etcd_answer_the_same() {
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
            differ(&mut embedded, &mut etcd, seed).await;
        });
    }
}
