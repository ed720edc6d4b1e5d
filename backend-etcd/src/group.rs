//! Group commit: transactions about different locks that go to the coordinator as one request.
//!
//! What a transaction costs etcd is the request: its place in the log, and since etcd 3.4 a copy of
//! all that was written of late, made before it is carried out. So while a few requests are under
//! way, further transactions wait for one of them to end, and then go as the operations of one
//! transaction, each with its own comparisons and its own outcome.
//!
//! Transactions about the same lock never go together: what they write would have the same
//! revision, which is what tells who came first. They do not wait for each other either, since a
//! handoff is made of them.

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use etcd_client::proto::{PbTxnOpResponse as Answer, PbTxnResponse};
use etcd_client::{Txn, TxnOp, TxnResponse};
use lock_core::{Effect, Error, ErrorKind, background};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::transport::Transport;
use crate::{error, layout};

/// How many requests are under way before others wait: to wait costs time, and gains none where
/// there is little to do.
const AT_ONCE: usize = 4;
/// How many go together. etcd takes 128 operations unless told otherwise, those of the longest list
/// inside counted, and 1.5 MiB: a transaction about the longest name has 32 KiB.
const TOGETHER: usize = 32;

/// What a transaction does to the queue of a lock, and to which key.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Change<'a> {
    Make(&'a [u8]),
    /// Goes before all that wait: others wait for it.
    Remove(&'a [u8]),
}

impl Change<'_> {
    fn operation(self) -> TxnOp {
        match self {
            Change::Make(key) => TxnOp::put(key, [], None),
            Change::Remove(key) => TxnOp::delete(key, None),
        }
    }
}

/// The transactions of one client that make and remove entries.
#[derive(Debug)]
pub(crate) struct Group {
    transport: Arc<Transport>,
    hasher: RandomState,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    under_way: usize,
    /// One of those under way has not taken up yet who goes with it.
    gathering: bool,
    waiting: VecDeque<Waiting>,
    /// The hashes of the locks that one under way or waiting is about. Two locks with the same hash
    /// are taken for one, which costs a request more.
    locks: HashSet<u64>,
}

#[derive(Debug)]
struct Waiting {
    lock: u64,
    request: Arc<Request>,
    caller: oneshot::Sender<Result<TxnResponse, Error>>,
}

#[derive(Debug)]
struct Request {
    txn: Arc<Txn>,
    /// What it does, for the server to see: see [`together`].
    change: TxnOp,
}

impl Group {
    pub(crate) fn new(transport: Arc<Transport>) -> Arc<Self> {
        Arc::new(Group {
            transport,
            hasher: RandomState::new(),
            state: Mutex::default(),
        })
    }

    /// One attempt of a transaction that makes this change and no other, to a queue that overlaps
    /// with none that it is not the same as. *Cancel safety:* dropped while it waits, it is never
    /// sent; later, it is carried out.
    pub(crate) async fn txn(
        self: &Arc<Self>,
        change: Change<'_>,
        txn: Arc<Txn>,
    ) -> Result<TxnResponse, Error> {
        match self.join(change, &txn, background::handle()?) {
            Some(answer) => answer.await.unwrap_or_else(|_| {
                let text = "a group of requests ended abnormally: please report this";
                Err(Error::new(ErrorKind::Internal, text).with_effect(Effect::Unknown))
            }),
            None => alone(&self.transport, txn).await,
        }
    }

    /// Has it go with others, if there is none about the same lock yet.
    fn join(
        self: &Arc<Self>,
        change: Change<'_>,
        txn: &Arc<Txn>,
        background: &Handle,
    ) -> Option<oneshot::Receiver<Result<TxnResponse, Error>>> {
        let (Change::Make(key) | Change::Remove(key)) = change;
        let lock = self.hasher.hash_one(layout::queue(key).unwrap_or(key));
        let mut state = self.state();
        if !state.locks.insert(lock) {
            return None;
        }
        let (caller, answer) = oneshot::channel();
        let request = Arc::new(Request {
            txn: txn.clone(),
            change: change.operation(),
        });
        let waiting = Waiting {
            lock,
            request,
            caller,
        };
        match change {
            Change::Make(_) => state.waiting.push_back(waiting),
            Change::Remove(_) => state.waiting.push_front(waiting),
        }
        self.start(&mut state, background);
        Some(answer)
    }

    /// Begins another request, if that may be.
    fn start(self: &Arc<Self>, state: &mut State, background: &Handle) {
        if state.under_way < AT_ONCE && !state.gathering {
            state.under_way += 1;
            state.gathering = true;
            // Until this is run, others may come.
            background.spawn(self.clone().send_while_any_wait());
        }
    }

    async fn send_while_any_wait(self: Arc<Self>) {
        loop {
            let members = self.gather();
            if members.is_empty() {
                return;
            }
            self.send(members).await;
        }
    }

    /// Those who go now. If there are none, one less is under way.
    fn gather(self: &Arc<Self>) -> Vec<Waiting> {
        let mut state = self.state();
        state.gathering = false;
        let mut members = Vec::new();
        while members.len() < TOGETHER
            && let Some(waiting) = state.waiting.pop_front()
        {
            if waiting.caller.is_closed() {
                state.locks.remove(&waiting.lock);
            } else {
                members.push(waiting);
            }
        }
        if members.is_empty() {
            state.under_way -= 1;
        } else if !state.waiting.is_empty() {
            self.start(&mut state, &Handle::current());
        }
        members
    }

    /// Sends these as one request, and tells each caller its own outcome.
    async fn send(&self, members: Vec<Waiting>) {
        let requests: Arc<[_]> = members.iter().map(|m| m.request.clone()).collect();
        let answers = match &*requests {
            [request] => {
                let answer = alone(&self.transport, request.txn.clone()).await;
                answer.map(|answer| vec![answer])
            }
            _ => together(&self.transport, requests).await,
        };
        // Before anybody is told, so that what they ask next can go with others again.
        let mut state = self.state();
        for member in &members {
            state.locks.remove(&member.lock);
        }
        drop(state);
        match answers {
            Ok(answers) => {
                for (member, answer) in members.into_iter().zip(answers) {
                    let _ = member.caller.send(Ok(answer));
                }
            }
            Err(error) if members.len() > 1 && is_refusal(&error) => {
                for Waiting {
                    request, caller, ..
                } in members
                {
                    let transport = self.transport.clone();
                    tokio::spawn(async move {
                        let _ = caller.send(alone(&transport, request.txn.clone()).await);
                    });
                }
            }
            Err(error) => {
                for member in members {
                    let _ = member.caller.send(Err(error.clone()));
                }
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn alone(transport: &Arc<Transport>, txn: Arc<Txn>) -> Result<TxnResponse, Error> {
    transport.txn(move || Txn::clone(&txn)).await
}

/// As operations of a transaction that compares nothing. What it would do otherwise is never done;
/// but etcd asks for the permission to do it, and counts the space that it would take, which it
/// does not do for what a transaction inside another one does (`checkTxnAuth`, `costTxn` of etcd
/// 3.4).
async fn together(
    transport: &Arc<Transport>,
    requests: Arc<[Arc<Request>]>,
) -> Result<Vec<TxnResponse>, Error> {
    let count = requests.len();
    let all = move || {
        let each = requests.iter().map(|r| TxnOp::txn(Txn::clone(&r.txn)));
        let changes = requests.iter().map(|r| r.change.clone());
        Txn::new()
            .and_then(each.collect::<Vec<_>>())
            .or_else(changes.collect::<Vec<_>>())
    };
    apart(transport.txn(all).await?, count)
}

/// The server did nothing, maybe for the sake of one of them: its lease is gone, it is not
/// permitted, there is no room for it.
fn is_refusal(error: &Error) -> bool {
    error.effect() == Effect::None && error.kind() != ErrorKind::Unreachable
}

/// The answers of the transactions that went together. The revision is that of them all, which is
/// not told with each.
fn apart(all: TxnResponse, count: usize) -> Result<Vec<TxnResponse>, Error> {
    let PbTxnResponse {
        header, responses, ..
    } = all.0;
    let answers: Vec<_> = responses
        .into_iter()
        .filter_map(|operation| match operation.response {
            Some(Answer::ResponseTxn(answer)) => {
                Some(TxnResponse(PbTxnResponse { header, ..answer }))
            }
            _ => None,
        })
        .collect();
    match answers.len() == count {
        true => Ok(answers),
        false => Err(error::protocol("not every transaction is answered")),
    }
}
