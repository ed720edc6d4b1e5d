//! What proves_sole that a session lives, and until when.
//!
//! A server answers pings by itself, also when it is cut off from its peers; the clock of a session
//! runs on the leader. So only an acknowledged write counts: it was committed, so the server was in
//! touch with the leader after the write was sent.
//!
//! That proves_sole less than it seems. The leader does not count the write itself as a sign of life. It
//! learns of those from a table that each server sends along when the leader pings it, every half
//! tick. Table and write travel in order on one connection, so when a write was sent at `s` and
//! committed, a table of `s - tick / 2` or later had arrived before it; in it, or in one before, is
//! every request that was answered by then. Of these we know our own earlier writes, and the newest
//! of them, sent at `p`, is what counts: the session lives until `p` and its length, at least.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use lock_core::clock::{BootInstant, Clock, validity};
use lock_core::{Effect, Error, ErrorKind, liveness};
use zookeeper_client::{Error as ZkError, StateWatcher};

use crate::client::Client;
use crate::error;

/// The acknowledged writes of a session, as far as they can still prove something.
#[derive(Debug)]
struct Proofs {
    /// The session's, as granted.
    length: Duration,
    half_tick: Duration,
    /// Oldest first; never empty. The first one is known to the leader.
    writes: VecDeque<Write>,
}

#[derive(Debug, Clone, Copy)]
struct Write {
    sent: BootInstant,
    answered: BootInstant,
}

impl Proofs {
    /// The opening of a session is a write that the leader counts itself. A tick is half of the
    /// shortest session that servers grant, unless they are configured otherwise; so it is half of
    /// this one at most, if nothing better is known.
    fn new(length: Duration, tick: Option<Duration>, opening: Write) -> Self {
        Proofs {
            length,
            half_tick: half_tick(length, tick),
            writes: VecDeque::from([opening]),
        }
    }

    /// Counts a write that was acknowledged, and answers how long it proves_sole the session to live,
    /// from when it was sent.
    fn acknowledged(&mut self, write: Write) -> Duration {
        let reported = |w: &Write| write.sent.saturating_since(w.answered) >= self.half_tick;
        while self.writes.get(1).is_some_and(reported) {
            self.writes.pop_front();
        }
        let age = self.writes.front().map_or(Duration::MAX, |first| {
            write.sent.saturating_since(first.sent)
        });
        self.writes.push_back(write);
        validity(self.length).saturating_sub(age)
    }
}

fn half_tick(length: Duration, tick: Option<Duration>) -> Duration {
    tick.unwrap_or(length / 2) / 2
}

/// How long before a renewal was sent the one was, at most, that it proves_sole the session from.
pub(crate) fn lag(length: Duration, tick: Option<Duration>) -> Duration {
    half_tick(length, tick) + liveness::interval(length)
}

/// Renews one session, by writing to a node of its own.
pub(crate) struct Renewer {
    client: Arc<Client>,
    node: Arc<str>,
    clock: Clock,
    inner: Mutex<Inner>,
}

struct Inner {
    proofs: Proofs,
    /// Tells of every change of the connection, and before any answer that comes over the new one.
    state: StateWatcher,
    /// The present connection is known to be our session's.
    verified: bool,
}

impl Renewer {
    /// `sent` and `answered` are when the session's opening was.
    pub(crate) fn new(
        client: Arc<Client>,
        node: String,
        tick: Option<Duration>,
        clock: Clock,
        sent: BootInstant,
        answered: BootInstant,
    ) -> Self {
        let opening = Write { sent, answered };
        let inner = Inner {
            proofs: Proofs::new(client.timeout(), tick, opening),
            state: client.state(),
            verified: false,
        };
        Renewer {
            client,
            node: node.into(),
            clock,
            inner: Mutex::new(inner),
        }
    }

    /// One attempt: answers the validity that it proves_sole.
    ///
    /// The client library goes on under another session if a server gives it one when it comes
    /// back. So the first write on each connection makes the node anew, and its owner tells whose
    /// session that is.
    pub(crate) async fn attempt(&self) -> Result<Duration, Error> {
        let verified = self.is_verified();
        let sent = self.clock.now();
        if !(verified && self.touch().await?) {
            self.make().await?;
        }
        let answered = self.clock.now();
        let mut inner = self.lock();
        if inner.state.changed().now_or_never().is_some() {
            inner.verified = false;
            return Err(Error::new(
                ErrorKind::Unreachable,
                "the connection to ZooKeeper was lost and found during a renewal",
            )
            .with_effect(Effect::Unknown));
        }
        inner.verified = true;
        Ok(inner.proofs.acknowledged(Write { sent, answered }))
    }

    fn is_verified(&self) -> bool {
        let mut inner = self.lock();
        if inner.state.changed().now_or_never().is_some() {
            inner.verified = false;
        }
        inner.verified
    }

    /// Writes to the node; `false` if somebody removed it.
    async fn touch(&self) -> Result<bool, Error> {
        let node = self.node.clone();
        self.client
            .ask(|zk| {
                Box::pin(async move {
                    match zk.set_data(&node, &[], None).await {
                        Ok(_) => Ok(true),
                        Err(ZkError::NoNode) => Ok(false),
                        Err(error) => Err(error),
                    }
                })
            })
            .await
    }

    async fn make(&self) -> Result<(), Error> {
        let mut owner = self.try_make().await?;
        if owner.is_none()
            && let Some((directory, _)) = self.node.rsplit_once('/')
        {
            self.client.make_directory(directory).await?;
            owner = self.try_make().await?;
        }
        match owner {
            Some(owner) if owner == self.client.session().0 => Ok(()),
            Some(_) => Err(error::session_gone()),
            None => Err(Error::new(
                ErrorKind::Exhausted,
                format!("the directory of {:?} was removed again", self.node),
            )),
        }
    }

    /// Makes the node, and answers the session that owns it; `None` if there is no directory.
    async fn try_make(&self) -> Result<Option<i64>, Error> {
        let (node, options) = (self.node.clone(), self.client.session_options());
        self.client
            .ask(move |zk| {
                Box::pin(async move {
                    let stale = zk.delete(&node, None);
                    let made = zk.create(&node, &[], &options);
                    match stale.await {
                        Ok(()) | Err(ZkError::NoNode) => {}
                        Err(error) => return Err(error),
                    }
                    match made.await {
                        Ok((stat, _)) => Ok(Some(stat.ephemeral_owner)),
                        Err(ZkError::NoNode) => Ok(None),
                        Err(error) => Err(error),
                    }
                })
            })
            .await
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: Duration = Duration::from_secs(10);

    fn at(millis: u64) -> BootInstant {
        BootInstant::from_nanos(1_000_000_000) + Duration::from_millis(millis)
    }

    fn write(sent: u64, answered: u64) -> Write {
        Write {
            sent: at(sent),
            answered: at(answered),
        }
    }

    /// Until when, in milliseconds, each of these writes proves_sole the session to live.
    fn proven(tick: Option<Duration>, writes: &[(u64, u64)]) -> Vec<u64> {
        let mut proofs = Proofs::new(LENGTH, tick, write(0, 10));
        let millis = |sent: u64, d: Duration| sent + u64::try_from(d.as_millis()).expect("small");
        writes
            .iter()
            .map(|(sent, answered)| millis(*sent, proofs.acknowledged(write(*sent, *answered))))
            .collect()
    }

    #[test]
    fn a_write_proves_the_one_before_it_when_half_a_tick_lies_between() {
        let tick = Some(Duration::from_secs(2));
        let writes = [(2000, 2010), (4000, 4010), (6000, 6010)];
        // The first proves_sole no more than the opening did: 10 s less drift and margin.
        assert_eq!(proven(tick, &writes), [9_800, 11_800, 13_800]);
    }

    #[test]
    fn without_a_known_tick_the_one_before_that_counts() {
        let writes = [(2000, 2010), (4000, 4010), (6000, 6010), (8000, 8010)];
        assert_eq!(proven(None, &writes), [9_800, 9_800, 11_800, 13_800]);
    }

    #[test]
    fn a_late_answer_proves_nothing_before_half_a_tick_after_it_came() {
        let tick = Some(Duration::from_secs(2));
        let writes = [(2000, 3900), (4000, 4010), (5000, 5010)];
        assert_eq!(proven(tick, &writes), [9_800, 9_800, 11_800]);
    }

    #[test]
    fn a_pause_extends_nothing() {
        let tick = Some(Duration::from_secs(2));
        // The server may not have heard of us between 2 s and 20 s.
        assert_eq!(proven(tick, &[(2000, 2010), (20_000, 20_010)])[1], 20_000);
    }

    #[test]
    fn no_more_is_kept_than_can_still_prove_something() {
        let mut proofs = Proofs::new(LENGTH, None, write(0, 10));
        for i in 1..1000 {
            proofs.acknowledged(write(2000 * i, 2000 * i + 10));
        }
        assert!(proofs.writes.len() <= 4, "{:?}", proofs.writes);
    }
}
