//! Group commit: transactions about different locks that are sent to the coordinator as one
//! request.
//!
//! etcd spends most of a transaction on the request, not on its operations: on a place in the log
//! and, since etcd 3.4, on a copy of all recent writes. So while a few requests are under way,
//! further transactions wait until one of them ends. Then they are sent as the operations of one
//! transaction, each with its own comparisons and its own outcome.
//!
//! Transactions about the same lock are never sent together: their writes would have the same
//! revision, and the revision is the order of arrival. They do not wait for each other either,
//! since a handoff consists of them.

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use backend_kit::turns::Turns;
use etcd_client::proto::{PbTxnOpResponse as Answer, PbTxnResponse};
use etcd_client::{Txn, TxnOp, TxnResponse};
use lock_core::background::{self, Handle};
use lock_core::{Effect, Error, ErrorKind};
use tokio::sync::oneshot;

use crate::transport::Transport;
use crate::{error, layout};

/// How many requests may be under way before others wait. To wait costs time, and gains nothing
/// where there is little to do.
const MAX_REQUESTS: usize = 4;
/// How many transactions are sent together at most. By default, etcd accepts 128 operations,
/// including those of the longest list inside, and 1.5 MiB. A transaction about the longest name
/// has 32 KiB.
const MAX_MEMBERS: usize = 32;

/// How many entries are made at once by requests of their own, in the queues of locks that have
/// another transaction under way. Removals and renewals share the connection, and do not wait
/// behind thousands of them.
const MAX_ALONE: usize = 64;

/// The change that a transaction makes to the queue of a lock, with the key.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Change<'a> {
    Make(&'a [u8]),
    /// Is sent before all that wait, since others wait for the removal.
    Remove(&'a [u8]),
}

impl Change<'_> {
    fn to_operation(self) -> TxnOp {
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
    /// The turns of those that make entries by requests of their own.
    alone: Arc<Turns>,
}

#[derive(Debug, Default)]
struct State {
    under_way: usize,
    /// Whether a request under way has not gathered its members yet.
    is_gathering: bool,
    /// The removals that wait. They go before all others, in their order.
    removals: VecDeque<Waiting>,
    others: VecDeque<Waiting>,
    /// The hashes of the locks that have a transaction under way or waiting. Two locks with the
    /// same hash count as one, which costs one more request.
    locks: HashSet<u64>,
}

impl State {
    fn next(&mut self) -> Option<Waiting> {
        (self.removals.pop_front()).or_else(|| self.others.pop_front())
    }
}

#[derive(Debug)]
struct Waiting {
    lock: u64,
    is_removal: bool,
    request: Arc<Request>,
    caller: oneshot::Sender<Result<TxnResponse, Error>>,
}

/// A transaction that can be sent together with others.
#[derive(Debug)]
pub struct Request {
    /// The transaction.
    pub txn: Arc<Txn>,
    /// The change alone, for the server's checks: see [`combine`].
    pub change: TxnOp,
}

impl Group {
    #[expect(
        clippy::disallowed_methods,
        reason = "two hashes are only compared, and differ for different locks by any hasher"
    )]
    pub(crate) fn new(transport: Arc<Transport>) -> Arc<Self> {
        Arc::new(Group {
            transport,
            hasher: RandomState::new(),
            state: Mutex::default(),
            alone: Turns::new(MAX_ALONE),
        })
    }

    /// Makes one attempt of a transaction that makes this change and no other. The queue must not
    /// overlap with another queue.
    ///
    /// # Cancel safety
    /// A transaction that is dropped while it waits is never sent. Later, it may be executed.
    pub(crate) async fn txn(
        self: &Arc<Self>,
        change: Change<'_>,
        txn: Arc<Txn>,
    ) -> Result<TxnResponse, Error> {
        let background = background::handle()?;
        let Some(answer) = self.join(change, &txn, &background) else {
            let transport = self.transport.clone();
            let alone = async move { send_alone(&transport, txn).await };
            return match change {
                Change::Make(_) => self.alone.take(alone).await,
                Change::Remove(_) => alone.await,
            };
        };
        answer.await.unwrap_or_else(|_| {
            let text = "a group of requests ended abnormally: please report this";
            Err(Error::new(ErrorKind::Internal, text).with_effect(Effect::Unknown))
        })
    }

    /// Adds a transaction to those that are sent together. Returns `None` if there is one about the
    /// same lock.
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
            change: change.to_operation(),
        });
        let is_removal = matches!(change, Change::Remove(_));
        let waiting = Waiting {
            lock,
            is_removal,
            request,
            caller,
        };
        match is_removal {
            true => state.removals.push_back(waiting),
            false => state.others.push_back(waiting),
        }
        self.start(&mut state, background);
        Some(answer)
    }

    /// Begins another request, if there may be another one.
    fn start(self: &Arc<Self>, state: &mut State, background: &Handle) {
        if state.under_way < MAX_REQUESTS && !state.is_gathering {
            state.under_way += 1;
            state.is_gathering = true;
            // Until this runs, others can join.
            let sending = self.clone().send_while_any_wait(background.clone());
            background.spawn(sending);
        }
    }

    async fn send_while_any_wait(self: Arc<Self>, background: Handle) {
        loop {
            let members = self.gather(&background);
            if members.is_empty() {
                return;
            }
            self.send(members, &background).await;
        }
    }

    /// Takes the members of the next request out of those that wait. If there are none, the request
    /// ends.
    fn gather(self: &Arc<Self>, background: &Handle) -> Vec<Waiting> {
        let mut state = self.state();
        state.is_gathering = false;
        let mut members = Vec::new();
        while members.len() < MAX_MEMBERS
            && let Some(waiting) = state.next()
        {
            if waiting.caller.is_closed() {
                state.locks.remove(&waiting.lock);
            } else {
                members.push(waiting);
            }
        }
        if members.is_empty() {
            state.under_way -= 1;
        } else if !(state.removals.is_empty() && state.others.is_empty()) {
            self.start(&mut state, background);
        }
        members
    }

    /// Sends these as one request, and sends each caller its own outcome.
    async fn send(&self, members: Vec<Waiting>, background: &Handle) {
        let requests: Arc<[_]> = members.iter().map(|m| m.request.clone()).collect();
        let answers = match &*requests {
            [request] => {
                let answer = send_alone(&self.transport, request.txn.clone()).await;
                answer.map(|answer| vec![answer])
            }
            _ => send_together(&self.transport, requests).await,
        };
        // Before the callers get their outcomes, so that their next transactions can join others
        // again.
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
            Err(error) => {
                let is_together = members.len() > 1;
                for member in members {
                    if !is_together || !may_pass_alone(&error, member.is_removal) {
                        let _ = member.caller.send(Err(error.clone()));
                        continue;
                    }
                    let (transport, refusal) = (self.transport.clone(), error.clone());
                    background.spawn(async move {
                        let answer = send_alone(&transport, member.request.txn.clone()).await;
                        let _ = member.caller.send(end_alone(refusal, answer));
                    });
                }
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn send_alone(transport: &Arc<Transport>, txn: Arc<Txn>) -> Result<TxnResponse, Error> {
    transport.write(move || Txn::clone(&txn)).await
}

/// Sends transactions as one request.
async fn send_together(
    transport: &Arc<Transport>,
    requests: Arc<[Arc<Request>]>,
) -> Result<Vec<TxnResponse>, Error> {
    let count = requests.len();
    split_answer(transport.write(move || combine(&requests)).await?, count)
}

/// Returns a transaction that compares nothing and has these as its operations.
///
/// The operations of its other branch are never executed. They are there because etcd checks the
/// permissions for them, and counts the space that they would take. It does neither for
/// transactions inside of another one (`checkTxnAuth` and `costTxn` in etcd 3.4).
pub fn combine(requests: &[Arc<Request>]) -> Txn {
    let each = requests.iter().map(|r| TxnOp::txn(Txn::clone(&r.txn)));
    let changes = requests.iter().map(|r| r.change.clone());
    Txn::new()
        .and_then(each.collect::<Vec<_>>())
        .or_else(changes.collect::<Vec<_>>())
}

/// Returns whether a transaction may pass alone although the server refused several with this error.
/// One of the others may be the reason: its lease is gone, it is not permitted, or there is no room
/// for it. A server that has too much to do refuses new entries one by one as well, and should not
/// get more requests than before. It may still accept removals, which let it have less to do. An etcd
/// over its quota accepts removals as well. It may have carried out the group, so entries do not pass
/// alone.
fn may_pass_alone(error: &Error, is_removal: bool) -> bool {
    let did_nothing = error.effect() == Effect::None && error.kind() != ErrorKind::Unreachable;
    match is_removal {
        true => did_nothing || error::is_over_quota(error),
        false => did_nothing && !error::is_overload(error),
    }
}

/// Returns the outcome of a removal that was sent alone after this refusal of a group. If the group may
/// have been carried out, so may the removal: neither an error nor a missing entry says otherwise.
fn end_alone(refusal: Error, answer: Result<TxnResponse, Error>) -> Result<TxnResponse, Error> {
    match answer {
        answer if refusal.effect() == Effect::None => answer,
        Ok(answer) if !answer.succeeded() => Err(refusal),
        answer => answer.map_err(|error| error.with_effect(Effect::Unknown)),
    }
}

/// Splits the answer to transactions that were sent together. All have the same revision, which
/// only the whole answer contains.
///
/// # Errors
/// That there is not one answer for each of the `count` transactions.
pub fn split_answer(all: TxnResponse, count: usize) -> Result<Vec<TxnResponse>, Error> {
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
        false => Err(error::protocol("not every transaction has an answer")),
    }
}

#[cfg(test)]
mod tests {
    use lock_core::LossReason;
    use tonic::{Code, Status};

    use super::*;

    fn answer(code: Code, text: &str) -> Error {
        let status = etcd_client::Error::GRpcStatus(Status::new(code, text));
        error::from_client("h:1", status).error
    }

    #[test]
    fn removals_pass_an_overloaded_server_and_all_pass_a_refusal_of_one_of_them() {
        let overload = answer(Code::ResourceExhausted, "etcdserver: too many requests");
        assert!(may_pass_alone(&overload, true));
        assert!(!may_pass_alone(&overload, false));
        let no_space = "etcdserver: mvcc: database space exceeded";
        let full = answer(Code::Unavailable, no_space);
        let over_quota = answer(Code::ResourceExhausted, no_space);
        assert!(may_pass_alone(&over_quota, true));
        assert!(!may_pass_alone(&over_quota, false), "it may have been done");
        let lost = answer(Code::NotFound, "etcdserver: requested lease not found");
        assert_eq!(lost.kind(), ErrorKind::SessionLost(LossReason::SessionGone));
        let away = answer(Code::Unavailable, "etcdserver: request timed out");
        for is_removal in [true, false] {
            assert!(may_pass_alone(&full, is_removal));
            assert!(may_pass_alone(&lost, is_removal));
            assert!(!may_pass_alone(&away, is_removal), "it may have been done");
        }
    }

    #[test]
    fn a_removal_that_may_have_been_done_with_others_stays_in_doubt() {
        let found_nothing = || Ok(TxnResponse(PbTxnResponse::default()));
        let no_space = "etcdserver: mvcc: database space exceeded";
        let over_quota = answer(Code::ResourceExhausted, no_space);
        let overload = answer(Code::ResourceExhausted, "etcdserver: too many requests");
        for alone in [found_nothing(), Err(overload.clone())] {
            let error = end_alone(over_quota.clone(), alone).expect_err("not known");
            assert_eq!(error.effect(), Effect::Unknown);
        }
        end_alone(overload, found_nothing()).expect("it was gone before");
    }
}
