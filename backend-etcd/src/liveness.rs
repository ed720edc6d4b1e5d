//! Renewals of a lease: one keep-alive at a time on a stream, each answered before the next is
//! sent.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use etcd_client::{LeaseKeepAliveStream, LeaseKeeper};
use lock_core::{Error, clock};

use crate::error::{self, Failure, Scope};
use crate::relay::{self, Relay};
use crate::transport::{Connection, Transport};

/// Renews one lease.
pub(crate) struct Renewer {
    transport: Arc<Transport>,
    lease: i64,
    /// The time to live, as granted.
    ttl: Duration,
    /// A key that the session may read.
    key: String,
    slot: Mutex<Slot>,
}

/// What an attempt leaves for the next one.
enum Slot {
    Empty,
    Kept(Kept),
    /// An attempt is under way. The next attempt finds this only if the attempt was dropped without
    /// an answer.
    Waiting(Connection),
}

/// What the next attempt can use again.
enum Kept {
    /// A stream on which every request was answered.
    Stream(Box<Stream>),
    /// A proxy that is made to renew the lease.
    Relay(Relay),
}

struct Stream {
    keeper: LeaseKeeper,
    answers: LeaseKeepAliveStream,
    connection: Connection,
}

impl Kept {
    fn connection(&self) -> &Connection {
        match self {
            Kept::Stream(stream) => &stream.connection,
            Kept::Relay(relay) => relay.connection(),
        }
    }
}

impl Renewer {
    pub(crate) fn new(transport: Arc<Transport>, lease: i64, ttl: Duration, key: &str) -> Self {
        Renewer {
            transport,
            lease,
            ttl,
            key: key.to_owned(),
            slot: Mutex::new(Slot::Empty),
        }
    }

    /// Makes one attempt to renew the lease. If the token of the stream was out of date, makes
    /// another one on a new stream. Returns how long the session is valid, from when the attempt
    /// began.
    ///
    /// # Cancel safety
    /// Safe. The stream is dropped with the attempt, so a late answer is never taken for the answer
    /// to a later request.
    pub(crate) async fn attempt(&self) -> Result<Duration, Error> {
        match self.try_once().await {
            Err(failure) if failure.scope == Scope::Token && self.transport.has_credentials() => {
                self.try_once().await
            }
            outcome => outcome,
        }
        .map_err(|failure| failure.error)
    }

    async fn try_once(&self) -> Result<Duration, Failure> {
        let kept = match self.replace_slot(Slot::Empty) {
            Slot::Kept(kept) if self.transport.is_in_use(kept.connection()) => Some(kept),
            Slot::Kept(_) | Slot::Empty => None,
            Slot::Waiting(connection) => {
                self.transport.note_failure(&connection, Scope::Connection);
                None
            }
        };
        let connection = match &kept {
            Some(kept) => kept.connection().clone(),
            None => self.transport.connection().await.map_err(|error| Failure {
                error,
                scope: Scope::Request,
            })?,
        };
        self.replace_slot(Slot::Waiting(connection.clone()));
        let limit = self.transport.request_limit();
        let renewed = tokio::time::timeout(limit, self.renew(kept, &connection))
            .await
            .unwrap_or_else(|_| Err(error::timeout(&connection.address, limit)));
        match renewed {
            Ok((kept, ttl)) => {
                self.replace_slot(Slot::Kept(kept));
                self.transport.note_answer();
                Ok(clock::validity(ttl))
            }
            Err(failure) => {
                self.replace_slot(Slot::Empty);
                self.transport.note_failure(&connection, failure.scope);
                Err(failure)
            }
        }
    }

    /// Renews the lease. Returns how long it lives from when the request was sent.
    async fn renew(
        &self,
        kept: Option<Kept>,
        connection: &Connection,
    ) -> Result<(Kept, Duration), Failure> {
        let (kept, ttl) = match kept {
            Some(Kept::Stream(mut stream)) => {
                let ttl = self.renew_on(&mut stream).await?;
                (Kept::Stream(stream), ttl)
            }
            Some(Kept::Relay(relay)) => {
                let ttl = relay.remaining().await?;
                (Kept::Relay(relay), ttl)
            }
            None if relay::is_relayed(connection, &self.key).await? => {
                let relay = Relay::start(connection.clone(), self.lease);
                let ttl = relay.remaining().await?;
                (Kept::Relay(relay), ttl)
            }
            None => {
                let (stream, ttl) = self.open(connection).await?;
                (Kept::Stream(stream), ttl)
            }
        };
        Ok((kept, ttl.ok_or_else(lease_gone)?))
    }

    async fn renew_on(&self, stream: &mut Stream) -> Result<Option<Duration>, Failure> {
        let connection = &stream.connection;
        stream
            .keeper
            .keep_alive()
            .await
            .map_err(|e| connection.failure(e))?;
        let answer = stream
            .answers
            .message()
            .await
            .map_err(|e| connection.failure(e))?
            .ok_or_else(|| error::end_of_stream(&connection.address))?;
        if answer.id() != self.lease {
            return Err(connection_failure(error::protocol(
                "the answer to a renewal is about another lease",
            )));
        }
        let seconds = u64::try_from(answer.ttl()).unwrap_or_default();
        Ok((seconds > 0).then(|| Duration::from_secs(seconds)))
    }

    /// Opens a stream. The client library sends the first keep-alive on it and reads the answer. It
    /// does not return the time to live in that answer, but the time to live of a lease never
    /// becomes shorter than it was granted.
    async fn open(
        &self,
        connection: &Connection,
    ) -> Result<(Box<Stream>, Option<Duration>), Failure> {
        let opened = connection
            .client
            .lease_client()
            .keep_alive(self.lease)
            .await;
        match opened {
            Ok((keeper, _)) if keeper.id() != self.lease => Err(connection_failure(
                error::protocol("the answer to a renewal is about another lease"),
            )),
            Ok((keeper, answers)) => {
                let connection = connection.clone();
                let stream = Stream {
                    keeper,
                    answers,
                    connection,
                };
                Ok((Box::new(stream), Some(self.ttl)))
            }
            Err(error) if error::is_lease_gone(&error) => Err(lease_gone()),
            Err(error) => Err(connection.failure(error)),
        }
    }

    fn replace_slot(&self, slot: Slot) -> Slot {
        let mut current = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut current, slot)
    }
}

fn lease_gone() -> Failure {
    Failure {
        error: error::session_gone(),
        scope: Scope::Request,
    }
}

fn connection_failure(error: Error) -> Failure {
    Failure {
        error,
        scope: Scope::Connection,
    }
}
