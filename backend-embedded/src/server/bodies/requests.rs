//! The bodies of requests: a message is passed on once it is whole.
//!
//! tonic takes memory for a message as soon as its length has been announced. Here a message costs
//! what has come of it.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;
use tonic::Status;
use tonic::codegen::StdError;

use super::UNCOUNTED_BYTES;
use crate::server::{MAX_MESSAGE_BYTES, status};

/// How long a message may take from its first byte to its last one, or the only message of a call
/// from the call's beginning.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(10);

/// The most messages that have begun and are not whole, of all calls. Most requests come whole, so
/// only a client that holds requests back finds this limit.
const MAX_UNFINISHED: usize = 4_096;

/// The length of what stands before each message: a flag, and the length of the message.
const PREFIX_BYTES: usize = 5;

/// The bytes of all requests that are under way.
#[derive(Debug)]
pub(super) struct Requests {
    bytes: AtomicUsize,
    max_bytes: usize,
    /// The places for messages that are waited for.
    unfinished: Arc<Semaphore>,
    refused: AtomicU64,
}

impl Requests {
    pub(super) fn new(max_bytes: usize) -> Self {
        Requests {
            bytes: AtomicUsize::new(0),
            max_bytes,
            unfinished: Arc::new(Semaphore::new(MAX_UNFINISHED)),
            refused: AtomicU64::new(0),
        }
    }

    pub(super) fn bytes(&self) -> (usize, usize) {
        (self.bytes.load(Ordering::Relaxed), self.max_bytes)
    }

    pub(super) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

/// The bytes of one call's requests. They are given back when the last clone is dropped.
#[derive(Debug, Clone)]
pub(super) struct RequestBudget(Arc<Reserved>);

#[derive(Debug)]
struct Reserved {
    requests: Arc<Requests>,
    bytes: AtomicUsize,
}

impl RequestBudget {
    pub(super) fn new(requests: Arc<Requests>) -> Self {
        RequestBudget(Arc::new(Reserved {
            requests,
            bytes: AtomicUsize::new(0),
        }))
    }

    /// Adds bytes to those of the call.
    fn reserve(&self, bytes: usize) -> Result<(), Status> {
        let all = &self.0.requests;
        let most = all.max_bytes;
        if all.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes > most {
            all.bytes.fetch_sub(bytes, Ordering::Relaxed);
            all.refused.fetch_add(1, Ordering::Relaxed);
            return Err(status::exhausted(format!(
                "turnlock: the requests under way have {most} bytes, which is the limit; try again \
                 after a pause"
            )));
        }
        self.0.bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }
}

impl Reserved {
    /// Gives back all bytes of the call.
    fn give_back(&self) {
        let bytes = self.bytes.swap(0, Ordering::Relaxed);
        self.requests.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.give_back();
    }
}

/// A message that is waited for. It is counted until this is dropped.
struct Unfinished {
    deadline: Pin<Box<Sleep>>,
    _place: OwnedSemaphorePermit,
}

impl Unfinished {
    fn begin(requests: &Requests) -> Result<Self, Status> {
        let place = Arc::clone(&requests.unfinished).try_acquire_owned();
        let place = place.map_err(|_| {
            requests.refused.fetch_add(1, Ordering::Relaxed);
            status::exhausted(format!(
                "turnlock: {MAX_UNFINISHED} requests have begun and are not whole, which is the \
                 limit; try again after a pause"
            ))
        })?;
        Ok(Unfinished {
            deadline: Box::pin(tokio::time::sleep(MESSAGE_TIMEOUT)),
            _place: place,
        })
    }
}

/// A body that passes on whole messages only.
pub(super) struct WholeMessages<B> {
    inner: B,
    budget: RequestBudget,
    /// The beginning of a message.
    begun: BytesMut,
    /// Whether the call has one message, so that its bytes are needed until the call has ended.
    is_unary: bool,
    /// Whether a message, or the end of a call with one message, is expected now.
    is_due: bool,
    unfinished: Option<Unfinished>,
}

impl<B> WholeMessages<B> {
    pub(super) fn new(inner: B, budget: RequestBudget, is_unary: bool) -> Self {
        Self {
            inner,
            budget,
            begun: BytesMut::new(),
            is_unary,
            is_due: is_unary,
            unfinished: None,
        }
    }

    /// Adds a piece, and returns the messages that are whole now, if there are any.
    fn add(&mut self, mut piece: Bytes) -> Result<Option<Bytes>, Status> {
        let mut added = piece.len();
        if !self.is_unary {
            // What was passed on before has been taken.
            self.budget.0.give_back();
            added += self.begun.len();
        }
        if !self.begun.is_empty() || added > UNCOUNTED_BYTES {
            self.budget.reserve(added)?;
        }
        let whole = match self.begun.is_empty() {
            true => {
                let whole = piece.split_to(whole_bytes(&piece));
                self.begun.extend_from_slice(&piece);
                whole
            }
            false => {
                self.begun.extend_from_slice(&piece);
                let whole = whole_bytes(&self.begun);
                self.begun.split_to(whole).freeze()
            }
        };
        // A call with one message has to end after it: what it takes up is needed until then.
        self.is_due = self.is_unary || !self.begun.is_empty();
        if whole.is_empty() {
            return Ok(None);
        }
        if !self.is_unary {
            self.unfinished = None;
        }
        Ok(Some(whole))
    }

    /// Fails when a message that was begun does not come, or if too many do not.
    fn check_unfinished(&mut self, cx: &mut Context<'_>) -> Poll<Status> {
        if !self.is_due {
            return Poll::Pending;
        }
        let unfinished = match &mut self.unfinished {
            Some(unfinished) => unfinished,
            none => match Unfinished::begin(&self.budget.0.requests) {
                Ok(begun) => none.insert(begun),
                Err(refusal) => return Poll::Ready(refusal),
            },
        };
        ready!(unfinished.deadline.as_mut().poll(cx));
        Poll::Ready(Status::deadline_exceeded(format!(
            "turnlock: the request did not come whole within {} s",
            MESSAGE_TIMEOUT.as_secs()
        )))
    }
}

/// Returns how many of these bytes are whole messages. A message that is too long counts as whole, so
/// that tonic refuses it.
fn whole_bytes(bytes: &[u8]) -> usize {
    let mut rest = bytes;
    while rest.len() >= PREFIX_BYTES {
        let length = (&rest[1..PREFIX_BYTES]).get_u32() as usize;
        if length > MAX_MESSAGE_BYTES {
            return bytes.len();
        }
        let Some(next) = rest.get(PREFIX_BYTES + length..) else {
            break;
        };
        rest = next;
    }
    bytes.len() - rest.len()
}

impl<B> HttpBody for WholeMessages<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<StdError>,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        loop {
            let frame = match Pin::new(&mut this.inner).poll_frame(cx) {
                Poll::Ready(Some(frame)) => frame.map_err(|error| Status::from_error(error.into())),
                // tonic says what is wrong with the beginning of a message.
                Poll::Ready(None) if !this.begun.is_empty() => {
                    let begun = std::mem::take(&mut this.begun).freeze();
                    return Poll::Ready(Some(Ok(Frame::data(begun))));
                }
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => {
                    return this.check_unfinished(cx).map(|refusal| Some(Err(refusal)));
                }
            };
            let piece = match frame.map(Frame::into_data) {
                Ok(Ok(piece)) => piece,
                Ok(Err(trailers)) => return Poll::Ready(Some(Ok(trailers))),
                Err(error) => return Poll::Ready(Some(Err(error))),
            };
            if let Some(whole) = this.add(piece).transpose() {
                return Poll::Ready(Some(whole.map(Frame::data)));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.begun.is_empty() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream::{self, StreamExt};
    use http_body_util::{BodyExt, StreamBody};

    use super::*;

    const MAX_REQUESTS_BYTES: usize = 8 << 20;

    fn message(length: usize) -> Vec<u8> {
        let mut message = vec![0];
        message.extend(u32::try_from(length).expect("short").to_be_bytes());
        message.extend(std::iter::repeat_n(b'm', length));
        message
    }

    type Pieces = stream::Iter<std::vec::IntoIter<Result<Frame<Bytes>, Status>>>;

    fn body(pieces: Vec<Vec<u8>>, requests: &Arc<Requests>) -> WholeMessages<StreamBody<Pieces>> {
        let frames = pieces
            .into_iter()
            .map(|piece| Ok(Frame::data(piece.into())));
        let frames: Vec<_> = frames.collect();
        let budget = RequestBudget::new(Arc::clone(requests));
        WholeMessages::new(StreamBody::new(stream::iter(frames)), budget, false)
    }

    async fn passed_on(
        mut body: impl HttpBody<Data = Bytes, Error = Status> + Unpin,
    ) -> Vec<Bytes> {
        let mut passed = Vec::new();
        while let Some(frame) = body.frame().await {
            passed.push(frame.expect("no error").into_data().expect("data"));
        }
        passed
    }

    #[tokio::test]
    async fn messages_are_passed_on_whole_however_they_come() {
        let requests = Arc::new(Requests::new(MAX_REQUESTS_BYTES));
        let messages = [message(0), message(3), message(70_000), message(9)].concat();
        for size in [1, 2, 4, 5, 6, 13, 16_384, 70_013, messages.len()] {
            let pieces = messages.chunks(size).map(<[u8]>::to_vec).collect();
            let passed = passed_on(body(pieces, &requests)).await;
            for piece in &passed {
                assert_eq!(whole_bytes(piece), piece.len(), "in pieces of {size}");
            }
            assert_eq!(passed.concat(), messages, "in pieces of {size}");
        }
        assert_eq!(requests.bytes().0, 0);
    }

    #[tokio::test]
    async fn pieces_that_end_within_messages_take_up_what_they_have() {
        let requests = Arc::new(Requests::new(MAX_REQUESTS_BYTES));
        let messages: Vec<u8> = std::iter::repeat_n(message(995), 200).flatten().collect();
        let pieces = messages.chunks(1_001).map(<[u8]>::to_vec).collect();
        let mut body = body(pieces, &requests);
        while let Some(frame) = body.frame().await {
            frame.expect("no error");
            assert!(requests.bytes().0 <= 2_002, "{}", requests.bytes().0);
        }
    }

    #[tokio::test]
    async fn what_was_announced_and_not_sent_costs_nothing() {
        let requests = Arc::new(Requests::new(MAX_REQUESTS_BYTES));
        let announced = message(2 << 20)[..PREFIX_BYTES].to_vec();
        let frames = stream::iter([Ok(Frame::data(Bytes::from(announced)))]);
        let frames = frames.chain(stream::pending::<Result<_, Status>>());
        let budget = RequestBudget::new(Arc::clone(&requests));
        let mut body = WholeMessages::new(StreamBody::new(Box::pin(frames)), budget, false);
        let polled = std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut body).poll_frame(cx)));
        assert!(polled.await.is_pending());
        assert!(body.begun.capacity() < 1024, "{}", body.begun.capacity());
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_that_does_not_come_is_not_waited_for() {
        for (sent, is_unary, fails) in [
            (vec![], true, true),
            (vec![0], false, true),
            (vec![], false, false),
            (message(3), false, false),
            (message(3), true, true),
        ] {
            let sent = stream::iter((!sent.is_empty()).then(|| Ok(Frame::data(sent.into()))));
            let frames = sent.chain(stream::pending::<Result<_, Status>>());
            let budget = RequestBudget::new(Arc::new(Requests::new(MAX_REQUESTS_BYTES)));
            let body = WholeMessages::new(StreamBody::new(Box::pin(frames)), budget, is_unary);
            let ended = tokio::time::timeout(2 * MESSAGE_TIMEOUT, passed_or_failed(body)).await;
            assert_eq!(ended.is_ok(), fails);
            if let Ok(error) = ended {
                assert_eq!(error.code(), tonic::Code::DeadlineExceeded, "{error}");
            }
        }
    }

    async fn passed_or_failed(
        mut body: impl HttpBody<Data = Bytes, Error = Status> + Unpin,
    ) -> Status {
        loop {
            match body.frame().await {
                Some(Err(error)) => return error,
                Some(Ok(_)) => {}
                None => panic!("the body ended"),
            }
        }
    }

    #[tokio::test]
    async fn the_bytes_of_all_requests_together_are_bounded() {
        let requests = Arc::new(Requests::new(MAX_REQUESTS_BYTES));
        let begun = &message(2 << 20)[..1 << 20];
        let budgets: Vec<_> = (0..=MAX_REQUESTS_BYTES / begun.len())
            .map(|_| RequestBudget::new(Arc::clone(&requests)))
            .collect();
        let mut refused = 0;
        for budget in &budgets {
            let frames =
                stream::iter([Ok::<_, Status>(Frame::data(Bytes::copy_from_slice(begun)))]);
            let frames = frames.chain(stream::pending());
            let mut body =
                WholeMessages::new(StreamBody::new(Box::pin(frames)), budget.clone(), true);
            let frame = std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut body).poll_frame(cx)));
            if let Poll::Ready(Some(Err(error))) = frame.await {
                assert_eq!(error.code(), tonic::Code::ResourceExhausted, "{error}");
                refused += 1;
            }
        }
        assert_eq!(refused, 1);
        assert!(requests.bytes().0 <= MAX_REQUESTS_BYTES);
        drop(budgets);
        assert_eq!(requests.bytes().0, 0, "all is given back");
    }

    #[tokio::test]
    async fn requests_that_are_held_back_have_a_limit_and_whole_ones_do_not() {
        use futures_util::FutureExt;
        let requests = Arc::new(Requests::new(MAX_REQUESTS_BYTES));
        let held_back = || {
            let nothing = StreamBody::new(stream::pending::<Result<Frame<Bytes>, Status>>());
            let budget = RequestBudget::new(Arc::clone(&requests));
            WholeMessages::new(nothing, budget, true)
        };
        let mut waiting: Vec<_> = std::iter::repeat_with(held_back)
            .take(MAX_UNFINISHED)
            .collect();
        for body in &mut waiting {
            assert!(body.frame().now_or_never().is_none());
        }
        let refused = held_back().frame().await.expect("an error");
        let refused = refused.expect_err("one too many");
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
        let whole = body(vec![message(10)], &requests).collect().await;
        assert_eq!(whole.expect("accepted").to_bytes().len(), PREFIX_BYTES + 10);
        waiting.pop();
        assert!(held_back().frame().now_or_never().is_none(), "room again");
    }
}
