//! The stream that carries the watches.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use etcd_client::{
    WatchFilterType, WatchOptions, WatchRequestSender, WatchResponse, WatchResponseStream,
};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use lock_core::{Error, ErrorKind};
use tokio::time::{Instant, timeout};

use super::creations::{Creation, Creations};
use crate::error::{self, Failure, Meaning, Scope};
use crate::transport::{Connection, Transport};

/// How long a stream with watches may be silent before it is checked. A member that stands still
/// does not report it.
const QUIET: Duration = Duration::from_secs(1);
/// The longest time that the answer to such a check may take.
const CHECK_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a stream without watches stays open for the next one.
const IDLE: Duration = Duration::from_secs(10);

/// What is watched. Watches share it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Target {
    /// A key: that it is deleted.
    Key(Arc<[u8]>),
    /// The keys from the first up to, not including, the second: that one is made or deleted.
    Range(Arc<(Vec<u8>, Vec<u8>)>),
}

impl Target {
    /// Returns the first key.
    fn start(&self) -> &[u8] {
        match self {
            Target::Key(key) => key,
            Target::Range(range) => &range.0,
        }
    }

    /// Returns the options of a watch that begins now. One that begins at a past revision would wait
    /// for the server's catch-up loop, which runs ten times a second.
    fn options(&self, id: i64) -> WatchOptions {
        let options = WatchOptions::new().with_watch_id(id);
        match self {
            Target::Key(_) => options.with_filters([WatchFilterType::NoPut]),
            Target::Range(range) => options.with_range(range.1.clone()),
        }
    }
}

/// An open stream.
pub(super) struct Stream {
    pub(super) connection: Connection,
    requests: WatchRequestSender,
    responses: WatchResponseStream,
    /// The watches that the server has not confirmed.
    pub(super) creations: Creations,
    /// The targets of the confirmed watches, by the server's ids of those.
    pub(super) targets: HashMap<i64, Target>,
    replaced: BoxFuture<'static, ()>,
    last_message: Instant,
    /// Since when an answer is due, and how long it may take.
    due: Option<(Instant, Duration)>,
}

/// What a stream brings.
pub(super) enum Message {
    Response(Result<Option<WatchResponse>, etcd_client::Error>),
    /// The transport gave the connection up after the failure of another request on it.
    Replaced,
}

/// What is to be done about a stream at a time.
pub(super) enum Check {
    Nothing,
    /// The stream is to be closed: it has no watches, and has had none for long.
    Close,
    /// The stream was silent for long. The server is to be asked for another watch, which it
    /// confirms if it works.
    Probe,
}

impl Stream {
    /// Opens a stream with its first watch.
    pub(super) async fn open(
        transport: &Arc<Transport>,
        creation: Creation,
    ) -> Result<Self, Failure> {
        let limit = transport.request_limit();
        let connection = transport.connection().await.map_err(|error| Failure {
            error,
            scope: Scope::Request,
        })?;
        let mut client = connection.client.watch_client();
        let opened = timeout(
            limit,
            client.watch(creation.target.start(), Some(creation.target.options(0))),
        )
        .await
        .map_err(|_| error::timeout(&connection.address, limit))
        .and_then(|opened| opened.map_err(|e| connection.failure(e)));
        let opened = match opened {
            Ok(opened) => opened,
            Err(failure) => {
                transport.note_failure(&connection, failure.scope);
                return Err(failure);
            }
        };
        let (requests, responses) = opened.split();
        let mut creations = Creations::default();
        creations.push(creation);
        let now = Instant::now();
        Ok(Stream {
            replaced: transport.wait_until_replaced(&connection).boxed(),
            connection,
            requests,
            responses,
            creations,
            targets: HashMap::new(),
            last_message: now,
            due: Some((now, limit)),
        })
    }

    /// Waits for the next message.
    ///
    /// # Cancel safety
    /// Safe: no message is lost.
    pub(super) async fn message(&mut self) -> Message {
        tokio::select! {
            response = self.responses.message() => Message::Response(response),
            () = &mut self.replaced => Message::Replaced,
        }
    }

    /// Asks for a watch. The answer is due within `limit`.
    pub(super) async fn create(
        &mut self,
        creation: Creation,
        limit: Duration,
    ) -> Result<(), Failure> {
        let options = creation.target.options(self.creations.next_id());
        let request = self.requests.watch(creation.target.start(), Some(options));
        send(&self.connection, limit, request).await?;
        self.due.get_or_insert((Instant::now(), limit));
        self.creations.push(creation);
        Ok(())
    }

    /// Cancels a confirmed watch.
    pub(super) async fn cancel(&mut self, id: i64, limit: Duration) -> Result<(), Failure> {
        self.targets.remove(&id);
        send(&self.connection, limit, self.requests.cancel(id)).await
    }

    /// Notes that the server answered. The next answer, if one is due, may take this long.
    pub(super) fn note_response(&mut self, limit: Duration) {
        self.last_message = Instant::now();
        self.due = match self.creations.is_empty() {
            true => None,
            false => Some((self.last_message, limit)),
        };
    }

    /// Expects an answer to a check. It may take as long as any request, but a second at most.
    pub(super) fn expect_answer(&mut self, limit: Duration) {
        self.due = Some((Instant::now(), limit.min(CHECK_TIMEOUT)));
    }

    /// Returns when to [`check`](Self::check) the stream next.
    pub(super) fn next_check(&self, has_watches: bool) -> Instant {
        match (self.due, has_watches) {
            (Some((since, limit)), _) => since + limit,
            (None, false) => self.last_message + IDLE,
            (None, true) => self.last_message + QUIET,
        }
    }

    /// Returns what is to be done about the stream now.
    ///
    /// # Errors
    /// [`ErrorKind::Unreachable`] if an answer is overdue.
    pub(super) fn check(&self, has_watches: bool) -> Result<Check, Failure> {
        if let Some((since, limit)) = self.due {
            return match since.elapsed() < limit {
                true => Ok(Check::Nothing),
                false => Err(error::timeout(&self.connection.address, limit)),
            };
        }
        let quiet = self.last_message.elapsed();
        Ok(match has_watches {
            false if quiet >= IDLE => Check::Close,
            true if quiet >= QUIET => Check::Probe,
            _ => Check::Nothing,
        })
    }
}

async fn send(
    connection: &Connection,
    limit: Duration,
    request: impl Future<Output = Result<(), etcd_client::Error>>,
) -> Result<(), Failure> {
    match timeout(limit, request).await {
        Ok(sent) => sent.map_err(|e| connection.failure(e)),
        Err(_) => Err(error::timeout(&connection.address, limit)),
    }
}

/// Returns whether the server cancelled a watch because of a permission or a token.
pub(super) fn is_refusal(response: &WatchResponse) -> bool {
    let meaning = error::parse_cancel_reason(response.cancel_reason());
    response.canceled()
        && matches!(
            meaning,
            Some(Meaning::PermissionDenied | Meaning::StaleToken)
        )
}

/// Returns the error for a watch that the server cancelled: after a compaction, without a leader,
/// or without a permission.
pub(super) fn to_error(cancellation: &WatchResponse) -> Error {
    let kind = match is_refusal(cancellation) {
        true => ErrorKind::Refused,
        false => ErrorKind::Exhausted,
    };
    let reason = cancellation.cancel_reason();
    let text = format!("the coordinator cancelled a watch: it says {reason:?}");
    Error::new(kind, text)
}
