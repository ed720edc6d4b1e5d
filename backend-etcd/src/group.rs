//! Group commit: transactions about different locks that go to the coordinator as one request.
//!
//! What a transaction costs etcd is the request: its place in the log, and since etcd 3.4 a copy of
//! all that was written of late, made before it is carried out. So while a few requests are under
//! way, further transactions wait for one of them to end, and then go as the operations of one
//! transaction, each with its own comparisons and its own outcome.
//!
//! Transactions about the same lock never go together: what they write would have the same
//! revision, which is what tells who came first. They do not wait for each other either, since a
//! hand-over is made of them.

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use etcd_client::proto::{PbTxnOpResponse as Answer, PbTxnResponse};
use etcd_client::{Txn, TxnOp, TxnResponse};
use lock_core::{Effect, Error, ErrorKind, background};
use tokio::sync::oneshot;

use crate::error;
use crate::transport::Transport;

/// How many requests are under way before others wait: to wait costs time, and gains none where
/// there is little to do.
const AT_ONCE: usize = 4;
/// How many go together. etcd takes 128 operations unless told otherwise, those of the longest list
/// inside counted, and 1.5 MiB: an entry with the longest note and label has a few KiB.
const TOGETHER: usize = 64;

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
    waiting: VecDeque<Waiting>,
    /// The hashes of the locks that one under way or waiting is about. Two locks with the same hash
    /// are taken for one, which costs a request more.
    locks: HashSet<u64>,
}

#[derive(Debug)]
struct Waiting {
    lock: u64,
    txn: Arc<Txn>,
    caller: oneshot::Sender<Result<TxnResponse, Error>>,
}

/// A request under way: those who wait go when it ends, however that comes about.
#[derive(Debug)]
struct Turn {
    group: Arc<Group>,
    locks: Vec<u64>,
}

enum Admitted {
    /// At once; without a turn, beside another about the same lock.
    Now(Option<Turn>, Arc<Txn>),
    Later(oneshot::Receiver<Result<TxnResponse, Error>>),
}

impl Group {
    pub(crate) fn new(transport: Arc<Transport>) -> Arc<Self> {
        Arc::new(Group {
            transport,
            hasher: RandomState::new(),
            state: Mutex::default(),
        })
    }

    /// One attempt of a transaction about this lock. *Cancel safety:* dropped while it waits, it is
    /// never sent; later, it is carried out.
    pub(crate) async fn txn(
        self: &Arc<Self>,
        lock: &[u8],
        txn: Arc<Txn>,
    ) -> Result<TxnResponse, Error> {
        let lock = self.hasher.hash_one(lock);
        let (turn, txn) = match self.admit(lock, txn) {
            Admitted::Now(turn, txn) => (turn, txn),
            Admitted::Later(answer) => {
                return answer.await.unwrap_or_else(|_| {
                    let text = "a group of requests ended abnormally: please report this";
                    Err(Error::new(ErrorKind::Internal, text).with_effect(Effect::Unknown))
                });
            }
        };
        let alone = move || {
            let _until_the_end = &turn;
            Txn::clone(&txn)
        };
        self.transport.txn(alone).await
    }

    fn admit(self: &Arc<Self>, lock: u64, txn: Arc<Txn>) -> Admitted {
        let mut state = self.state();
        if !state.locks.insert(lock) {
            return Admitted::Now(None, txn);
        }
        if state.under_way < AT_ONCE {
            state.under_way += 1;
            let group = self.clone();
            let locks = vec![lock];
            return Admitted::Now(Some(Turn { group, locks }), txn);
        }
        let (caller, answer) = oneshot::channel();
        state.waiting.push_back(Waiting { lock, txn, caller });
        Admitted::Later(answer)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends these as one request, and tells each caller its own outcome.
    async fn send(members: Vec<Waiting>, turn: Turn) {
        let transport = turn.group.transport.clone();
        let (txns, callers): (Vec<_>, Vec<_>) =
            members.into_iter().map(|m| (m.txn, m.caller)).unzip();
        let txns: Arc<[Arc<Txn>]> = txns.into();
        let together = {
            let txns = txns.clone();
            move || {
                let _until_the_end = &turn;
                let each = txns.iter().map(|txn| TxnOp::txn(Txn::clone(txn)));
                Txn::new().and_then(each.collect::<Vec<_>>())
            }
        };
        let answer = transport.txn(together).await;
        match answer.and_then(|answer| apart(answer, callers.len())) {
            Ok(answers) => {
                for (caller, answer) in callers.into_iter().zip(answers) {
                    let _ = caller.send(Ok(answer));
                }
            }
            // Maybe for the sake of one of them, such as one on a lease that is gone.
            Err(error) if is_refusal(&error) => {
                for (caller, txn) in callers.into_iter().zip(&*txns) {
                    let (transport, txn) = (transport.clone(), txn.clone());
                    background::handle().spawn(async move {
                        let _ = caller.send(transport.txn(move || Txn::clone(&txn)).await);
                    });
                }
            }
            Err(error) => {
                for caller in callers {
                    let _ = caller.send(Err(error.clone()));
                }
            }
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut state = self.group.state();
        for lock in &self.locks {
            state.locks.remove(lock);
        }
        let mut next = Vec::new();
        while next.len() < TOGETHER
            && let Some(waiting) = state.waiting.pop_front()
        {
            if waiting.caller.is_closed() {
                state.locks.remove(&waiting.lock);
            } else {
                next.push(waiting);
            }
        }
        if next.is_empty() {
            state.under_way -= 1;
            return;
        }
        let turn = Turn {
            group: self.group.clone(),
            locks: next.iter().map(|waiting| waiting.lock).collect(),
        };
        background::handle().spawn(Box::pin(Group::send(next, turn)));
    }
}

/// Nothing was done, for a reason that is not gone when the same is asked again.
fn is_refusal(error: &Error) -> bool {
    error.effect() == Effect::None && !error.is_retryable()
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
            Some(Answer::ResponseTxn(answer)) => Some(TxnResponse(PbTxnResponse {
                header,
                ..answer
            })),
            _ => None,
        })
        .collect();
    match answers.len() == count {
        true => Ok(answers),
        false => Err(error::protocol("not every transaction is answered")),
    }
}
