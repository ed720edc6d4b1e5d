//! Renewals: one keep-alive at a time on a stream, each answered before the next is sent.

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
    /// As granted.
    ttl: Duration,
    /// A key of the session's own.
    key: String,
    slot: Mutex<Slot>,
}

/// What an attempt leaves to the next one.
enum Slot {
    Empty,
    Kept(Kept),
    /// An attempt is under way. Who finds this knows that it was given up, unanswered.
    Waiting(Connection),
}

/// What the next attempt goes on with.
enum Kept {
    /// A stream on which every request was answered.
    Stream(Box<Stream>),
    /// A proxy that renews.
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

    /// One attempt, on a new stream at once if the token of the old one had lapsed: answers the
    /// validity that it proves. May be dropped: then its stream is too, so that a late answer is
    /// never taken for that of a later request.
    pub(crate) async fn attempt(&self) -> Result<Duration, Error> {
        match self.try_once().await {
            Err(failure) if failure.scope == Scope::Token && self.transport.has_credentials() => {
                self.try_once().await
            }
            settled => settled,
        }
        .map_err(|failure| failure.error)
    }

    async fn try_once(&self) -> Result<Duration, Failure> {
        let kept = match self.swap(Slot::Empty) {
            Slot::Kept(kept) if self.transport.is_in_use(kept.connection()) => Some(kept),
            Slot::Kept(_) | Slot::Empty => None,
            Slot::Waiting(connection) => {
                self.transport.failed(&connection, Scope::Connection);
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
        self.swap(Slot::Waiting(connection.clone()));
        let limit = self.transport.limit();
        let renewed = tokio::time::timeout(limit, self.renew(kept, &connection))
            .await
            .unwrap_or_else(|_| Err(error::silence(&connection.address, limit)));
        match renewed {
            Ok((kept, ttl)) => {
                self.swap(Slot::Kept(kept));
                Ok(clock::validity(ttl))
            }
            Err(failure) => {
                self.swap(Slot::Empty);
                self.transport.failed(&connection, failure.scope);
                Err(failure)
            }
        }
    }

    /// Renews, and answers how long the lease lives from when that was asked for.
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
        Ok((kept, ttl.ok_or_else(gone)?))
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
            .ok_or_else(|| error::ended(&connection.address))?;
        if answer.id() != self.lease {
            return Err(of_connection(error::protocol(
                "a renewal is answered for another lease",
            )));
        }
        let seconds = u64::try_from(answer.ttl()).unwrap_or_default();
        Ok((seconds > 0).then(|| Duration::from_secs(seconds)))
    }

    /// Opening a stream sends the first keep-alive on it and takes its answer. That one's time to
    /// live is not passed on by the client, but a lease's never becomes shorter than it was
    /// granted.
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
            Ok((keeper, _)) if keeper.id() != self.lease => Err(of_connection(error::protocol(
                "a renewal is answered for another lease",
            ))),
            Ok((keeper, answers)) => {
                let connection = connection.clone();
                let stream = Stream {
                    keeper,
                    answers,
                    connection,
                };
                Ok((Box::new(stream), Some(self.ttl)))
            }
            // The client's words for an answer without time to live.
            Err(etcd_client::Error::LeaseKeepAliveError(text)) if text == "lease not found" => {
                Err(gone())
            }
            Err(error) => Err(connection.failure(error)),
        }
    }

    fn swap(&self, slot: Slot) -> Slot {
        let mut held = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut held, slot)
    }
}

fn gone() -> Failure {
    Failure {
        error: error::session_gone(),
        scope: Scope::Request,
    }
}

fn of_connection(error: Error) -> Failure {
    Failure {
        error,
        scope: Scope::Connection,
    }
}
