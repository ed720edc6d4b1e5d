//! The bodies of answers: a long one is made only when there is room for it, and takes up that room
//! until the client has taken it.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::body::Body;
use tonic::{Request, Status};

use super::UNCOUNTED_BYTES;
use super::untaken::{Untaken, UntakenAnswer};
use crate::server::commit_wait::CallerCount;
use crate::server::status;

/// How long an answer waits for room.
const ROOM_TIMEOUT: Duration = Duration::from_secs(10);

/// The unit in which room is counted, in bytes.
const UNIT_BYTES: usize = 1024;

/// The room for all answers that are under way.
#[derive(Debug)]
pub(super) struct Answers {
    room: Arc<Semaphore>,
    /// The most units of all answers together.
    max_units: usize,
    /// The number of those who wait for room.
    waiting: Arc<AtomicUsize>,
    refused: AtomicU64,
}

impl Answers {
    pub(super) fn new(max_bytes: usize) -> Self {
        let max_units = (max_bytes / UNIT_BYTES).clamp(1, Semaphore::MAX_PERMITS);
        Answers {
            room: Arc::new(Semaphore::new(max_units)),
            max_units,
            waiting: Arc::default(),
            refused: AtomicU64::new(0),
        }
    }

    pub(super) fn bytes(&self) -> (usize, usize) {
        let used = self.max_units - self.room.available_permits();
        (used * UNIT_BYTES, self.max_bytes())
    }

    fn max_bytes(&self) -> usize {
        self.max_units * UNIT_BYTES
    }

    pub(super) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

/// The room for the answers of one call.
#[derive(Debug, Clone)]
pub(in crate::server) struct AnswerBudget {
    answers: Arc<Answers>,
    untaken: Untaken,
    /// The room for what is not encoded yet.
    reserved: Arc<Mutex<Option<Room>>>,
}

/// The room that an answer takes up until it has been sent.
#[derive(Debug)]
struct Room {
    units: OwnedSemaphorePermit,
    _untaken: UntakenAnswer,
}

impl AnswerBudget {
    pub(super) fn new(answers: Arc<Answers>, untaken: Untaken) -> Self {
        Self {
            answers,
            untaken,
            reserved: Arc::default(),
        }
    }

    /// Returns the budget of the call that this request belongs to.
    ///
    /// # Errors
    /// `INTERNAL` if the request came without one.
    pub(in crate::server) fn of<T>(request: &Request<T>) -> Result<Self, Status> {
        let budget = request.extensions().get::<Self>();
        budget.cloned().ok_or_else(|| {
            Status::internal("turnlock: a call without a budget: please report this")
        })
    }

    /// Waits until there is room for an answer with this many bytes.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` if the answer is longer than all room together, and if there is no room
    /// for ten seconds, because other clients do not take their answers.
    ///
    /// # Cancel safety
    /// Safe: what was not reserved is given back.
    pub(in crate::server) async fn reserve(&self, bytes: usize) -> Result<(), Status> {
        if bytes <= UNCOUNTED_BYTES {
            return Ok(());
        }
        let units = u32::try_from(bytes.div_ceil(UNIT_BYTES));
        let units = units
            .ok()
            .filter(|units| *units as usize <= self.answers.max_units);
        let waited = match units {
            // What a transaction returns is not known for certain before it is applied.
            None => None,
            Some(units) => {
                let _waiting = CallerCount::begin(&self.answers.waiting, 1);
                let room = Arc::clone(&self.answers.room).acquire_many_owned(units);
                tokio::time::timeout(ROOM_TIMEOUT, room).await.ok()
            }
        };
        match waited {
            Some(Ok(units)) => {
                self.keep(units);
                Ok(())
            }
            Some(Err(_)) | None => {
                self.answers.refused.fetch_add(1, Ordering::Relaxed);
                let most = self.answers.max_bytes();
                Err(match units {
                    Some(_) => status::exhausted(format!(
                        "turnlock: the answers under way have {most} bytes, which is the limit; try \
                         again after a pause"
                    )),
                    None => status::too_large(format!(
                        "turnlock: the answer has {bytes} bytes, and all answers under way may have \
                         {most}; ask for less"
                    )),
                })
            }
        }
    }

    /// Waits as [`reserve`](Self::reserve) does, for the answer to a request that has been carried
    /// out.
    ///
    /// # Errors
    /// `UNAVAILABLE`, from which no client concludes that nothing was done.
    ///
    /// # Cancel safety
    /// That of [`reserve`](Self::reserve).
    pub(in crate::server) async fn reserve_for_done(&self, bytes: usize) -> Result<(), Status> {
        let reserved = self.reserve(bytes).await;
        reserved.map_err(|refusal| Status::unavailable(refusal.message()))
    }

    fn keep(&self, units: OwnedSemaphorePermit) {
        let mut reserved = self.reserved.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *reserved {
            Some(room) => room.units.merge(units),
            None => {
                *reserved = Some(Room {
                    units,
                    _untaken: self.untaken.begin(&self.answers.waiting),
                });
            }
        }
    }

    fn take(&self) -> Option<Room> {
        let mut reserved = self.reserved.lock().unwrap_or_else(PoisonError::into_inner);
        reserved.take()
    }

    /// Returns whether nothing was reserved.
    pub(super) fn is_empty(&self) -> bool {
        let reserved = self.reserved.lock().unwrap_or_else(PoisonError::into_inner);
        reserved.is_none()
    }
}

/// A body whose pieces take up the room that was reserved for them until they have been sent.
pub(super) struct ReservedBody {
    body: Body,
    answer: AnswerBudget,
}

impl ReservedBody {
    pub(super) fn new(body: Body, answer: AnswerBudget) -> Self {
        Self { body, answer }
    }
}

/// Bytes that are to be sent, with the room that they take up.
struct Sent {
    bytes: Bytes,
    _room: Room,
}

impl AsRef<[u8]> for Sent {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl HttpBody for ReservedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
        Poll::Ready(frame.map(|frame| {
            frame.map(|frame| {
                frame.map_data(|bytes| match this.answer.take() {
                    Some(room) => Bytes::from_owner(Sent { bytes, _room: room }),
                    None => bytes,
                })
            })
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Full};

    use super::*;

    const MAX_ANSWERS_BYTES: usize = 1 << 20;

    #[tokio::test(start_paused = true)]
    async fn an_answer_takes_up_room_until_it_has_been_sent() {
        let answers = Arc::new(Answers::new(MAX_ANSWERS_BYTES));
        let first = AnswerBudget::new(Arc::clone(&answers), Untaken::default());
        first.reserve(MAX_ANSWERS_BYTES).await.expect("room");
        let full = Full::new(Bytes::from_static(b"answer"));
        let body = Body::new(full.map_err(|never| match never {}));
        let mut body = ReservedBody::new(body, first);
        let frame = body.frame().await.expect("a frame").expect("no error");
        drop(body);
        let second = AnswerBudget::new(Arc::clone(&answers), Untaken::default());
        second.reserve(UNCOUNTED_BYTES).await.expect("it is short");
        let refused = second.reserve(UNCOUNTED_BYTES + 1).await;
        let refused = refused.expect_err("there is no room");
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
        drop(frame);
        let too_long = second.reserve(MAX_ANSWERS_BYTES + 1).await;
        too_long.expect_err("there is never room for it");
        second.reserve(MAX_ANSWERS_BYTES).await.expect("room");
        assert_eq!(answers.bytes().0, MAX_ANSWERS_BYTES);
        drop(second);
        assert_eq!(answers.bytes().0, 0, "all is given back");
    }
}
