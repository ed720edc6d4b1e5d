//! Renewals, and the proof of how long a session lives.
//!
//! A server answers pings by itself, even if it is cut off from its peers. The clock of a session
//! runs on the leader. So only an acknowledged write counts: it was committed, so the server was in
//! contact with the leader after the write was sent.
//!
//! An acknowledged write proves less than it seems. The leader does not count the write itself as a
//! sign of life. Each server answers the leader's pings, every half tick, with a table of the
//! sessions that sent it something, and only this table counts. Table and write travel in order on
//! one connection. So if a write was sent at `s` and committed, a table of `s - tick / 2` or later
//! had arrived before. That table, or an earlier one, has every request that was answered by then.
//! Our own earlier writes are such requests. The newest of them, sent at `p`, counts: the session
//! lives at least until `p` plus its length.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use lock_core::clock::{BootInstant, Clock, validity};
use lock_core::{Effect, Error, ErrorKind, liveness};
use zookeeper_client::{Error as ZkError, StateWatcher};

use crate::client::Client;
use crate::error;

/// The acknowledged writes of a session that can still prove something.
#[derive(Debug)]
struct Proofs {
    /// The length of the session, as granted.
    length: Duration,
    half_tick: Duration,
    /// Oldest first, never empty. The leader knows of the first one.
    writes: VecDeque<Write>,
}

#[derive(Debug, Clone, Copy)]
struct Write {
    sent: BootInstant,
    answered: BootInstant,
}

impl Proofs {
    /// Returns the proofs of a session that was just opened. The opening is a write that the leader
    /// itself counts. If `tick` is not known, it is taken for half of the session's length: by
    /// default, a tick is half of the shortest session that servers grant.
    fn new(length: Duration, tick: Option<Duration>, opening: Write) -> Self {
        Proofs {
            length,
            half_tick: half_tick(length, tick),
            writes: VecDeque::from([opening]),
        }
    }

    /// Adds an acknowledged write. Returns how long the session lives for certain, from when the
    /// write was sent.
    fn add(&mut self, write: Write) -> Duration {
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

/// Returns the longest time between the renewal from which the session's life counts and the later
/// renewal that proves it.
pub(crate) fn lag(length: Duration, tick: Option<Duration>) -> Duration {
    half_tick(length, tick) + liveness::interval(length)
}

/// Renews one session by writing to the session's own node.
pub(crate) struct Renewer {
    client: Arc<Client>,
    node: Arc<str>,
    clock: Clock,
    inner: Mutex<Inner>,
}

struct Inner {
    proofs: Proofs,
    /// Reports every change of the connection, before any answer that comes over the new one.
    state: StateWatcher,
    /// Whether the present connection was seen to belong to our session.
    is_verified: bool,
}

impl Renewer {
    /// Returns the renewer of a session whose opening was sent and answered at these instants.
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
            is_verified: false,
        };
        Renewer {
            client,
            node: node.into(),
            clock,
            inner: Mutex::new(inner),
        }
    }

    /// Makes one attempt to renew the session. Returns how long the session is valid, from when the
    /// attempt began.
    ///
    /// The client library continues with another session if a server gives it one after a lost
    /// connection. So the first write on each connection creates the node again, and the owner of
    /// the node shows which session it is.
    pub(crate) async fn attempt(&self) -> Result<Duration, Error> {
        let verified = self.is_verified();
        let write = self.client.continuity().begin_write();
        let sent = self.clock.now();
        let touched = match verified {
            true => self.touch().await?,
            false => None,
        };
        let zxid = match touched {
            Some(zxid) => zxid,
            None => self.make().await?,
        };
        self.client.continuity().end_write(write, 0, zxid);
        let answered = self.clock.now();
        let mut inner = self.lock();
        if inner.state.changed().now_or_never().is_some() {
            inner.is_verified = false;
            return Err(Error::new(
                ErrorKind::Unreachable,
                "the connection to ZooKeeper was lost and made again during a renewal",
            )
            .with_effect(Effect::Unknown));
        }
        inner.is_verified = true;
        Ok(inner.proofs.add(Write { sent, answered }))
    }

    fn is_verified(&self) -> bool {
        let mut inner = self.lock();
        if inner.state.changed().now_or_never().is_some() {
            inner.is_verified = false;
        }
        inner.is_verified
    }

    /// Writes to the node. Returns the zxid of the write, or `None` if the node is not there.
    async fn touch(&self) -> Result<Option<u64>, Error> {
        let node = self.node.clone();
        self.client
            .ask(|zk| {
                Box::pin(async move {
                    match zk.set_data(&node, &[], None).await {
                        Ok(stat) => Ok(Some(zxid(stat.mzxid))),
                        Err(ZkError::NoNode) => Ok(None),
                        Err(error) => Err(error),
                    }
                })
            })
            .await
    }

    /// Creates the node again, and returns the zxid of the write.
    async fn make(&self) -> Result<u64, Error> {
        let mut made = self.try_make().await?;
        if made.is_none()
            && let Some((directory, _)) = self.node.rsplit_once('/')
        {
            self.client.make_directory(directory).await?;
            made = self.try_make().await?;
        }
        match made {
            Some((owner, zxid)) if owner == self.client.session().0 => Ok(zxid),
            Some(_) => Err(error::session_gone()),
            None => Err(Error::new(
                ErrorKind::Exhausted,
                format!("the directory of {:?} was removed again", self.node),
            )),
        }
    }

    /// Creates the node. Returns the session that owns it and the zxid of the write, or `None` if
    /// there is no directory.
    async fn try_make(&self) -> Result<Option<(i64, u64)>, Error> {
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
                        Ok((stat, _)) => Ok(Some((stat.ephemeral_owner, zxid(stat.czxid)))),
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

/// Returns the number of a transaction.
fn zxid(zxid: i64) -> u64 {
    u64::try_from(zxid).unwrap_or_default()
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

    /// Returns until when, in milliseconds, each of these writes proves that the session lives.
    fn proven(tick: Option<Duration>, writes: &[(u64, u64)]) -> Vec<u64> {
        let mut proofs = Proofs::new(LENGTH, tick, write(0, 10));
        let millis = |sent: u64, d: Duration| sent + u64::try_from(d.as_millis()).expect("small");
        writes
            .iter()
            .map(|(sent, answered)| millis(*sent, proofs.add(write(*sent, *answered))))
            .collect()
    }

    #[test]
    fn a_write_proves_the_one_before_it_when_half_a_tick_lies_between() {
        let tick = Some(Duration::from_secs(2));
        let writes = [(2000, 2010), (4000, 4010), (6000, 6010)];
        // The first proves no more than the opening did: 10 s less drift and margin.
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
        // The server may have had no sign of life between 2 s and 20 s.
        assert_eq!(proven(tick, &[(2000, 2010), (20_000, 20_010)])[1], 20_000);
    }

    #[test]
    fn no_more_is_kept_than_can_still_prove_something() {
        let mut proofs = Proofs::new(LENGTH, None, write(0, 10));
        for i in 1..1000 {
            proofs.add(write(2000 * i, 2000 * i + 10));
        }
        assert!(proofs.writes.len() <= 4, "{:?}", proofs.writes);
    }
}
