//! `etcdserverpb.Watch`: many watches on one stream.
//!
//! The response stream does the work when it is polled, and HTTP/2 polls it only when the client
//! has room. So a slow client's events wait in the coordinator's bounded queues and nowhere else.
//! When a queue overflows, its watch is cancelled with a reason.

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;

use etcd_client::proto::{PbWatchRequest, PbWatchRequestUnion, PbWatchResponse, PbWatchService};
use futures_util::future::{AbortHandle, Abortable};
use futures_util::stream::FuturesUnordered;
use futures_util::{Stream, StreamExt, stream};
use prost::Message;
use tokio::sync::watch;
use tokio::task::yield_now;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};
use tonic::{Request, Response, Status, Streaming};

use super::bodies::AnswerBudget;
use super::encode::to_i64;
use super::fragment::split_response;
use super::progress::ProgressRequest;
use super::state::Shared;
use super::watch_options::Options;
use super::{MAX_MESSAGE_BYTES, decode, status};
use crate::coordinator::{Coordinator, WatchBatch, Watcher};
use crate::error::Error;
use crate::machine::op::{KeyRange, Revision};

/// The watch id that means no watch, or all watches of a stream.
const NO_WATCH: i64 = -1;

const EMPTY_RANGE: &str = "mvcc: watcher range is empty";
const DUPLICATE_ID: &str = "mvcc: duplicate watch ID provided on the WatchStream";

/// After how many bytes of responses a stream lets others have their turn.
const MAX_BYTES_IN_TURN: usize = 4 * 1024;

/// The watch service.
pub(super) struct Watch(pub(super) Shared);

#[tonic::async_trait]
impl PbWatchService for Watch {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<PbWatchResponse, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<Streaming<PbWatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let coordinator = self.0.coordinator_for(&request);
        let answer = AnswerBudget::of(&request)?;
        let shared = Arc::clone(&self.0);
        let watch_stream = WatchStream::new(shared, coordinator, request.into_inner(), answer);
        let responses = stream::try_unfold(watch_stream, |mut watch_stream| async move {
            let response = watch_stream.next_in_turn().await?;
            Ok(Some((response, watch_stream)))
        });
        Ok(Response::new(Box::pin(responses)))
    }
}

/// One watch of a stream.
struct StreamWatch {
    options: Options,
    /// Cancels the wait for its next [`Wakeup`].
    abort: AbortHandle,
    /// Whether no event was sent since the last tick.
    idle: bool,
    /// Whether a progress notification is due.
    progress_due: bool,
}

/// The end of one wait for a watch. It hands the watcher back.
struct Wakeup {
    id: i64,
    watcher: Watcher,
    reason: WakeReason,
}

enum WakeReason {
    Batch(WatchBatch),
    Failed(Error),
    /// Woken only to check the progress.
    ProgressCheck,
}

type Wakeups = FuturesUnordered<Abortable<Pin<Box<dyn Future<Output = Wakeup> + Send>>>>;

/// A watch stream of a client.
struct WatchStream {
    shared: Shared,
    /// Shows what the client may see.
    coordinator: Coordinator,
    requests: Streaming<PbWatchRequest>,
    /// Whether the client has closed its side. Its watches continue.
    half_closed: bool,
    ending: Pin<Box<dyn Future<Output = ()> + Send>>,
    watches: BTreeMap<i64, StreamWatch>,
    wakeups: Wakeups,
    next_id: i64,
    /// Responses ready to be sent, filled by one step of the loop and emptied before the next.
    responses: VecDeque<PbWatchResponse>,
    progress_check: watch::Sender<()>,
    progress_request: Option<ProgressRequest>,
    /// Whether another progress request came during `progress_request`.
    progress_again: bool,
    tick: Interval,
    /// The room for responses that the client has not taken yet.
    answer: AnswerBudget,
    /// Bytes of responses since others had their turn.
    bytes_in_turn: usize,
}

impl WatchStream {
    fn new(
        shared: Shared,
        coordinator: Coordinator,
        requests: Streaming<PbWatchRequest>,
        answer: AnswerBudget,
    ) -> Self {
        let lifecycle = shared.lifecycle.clone();
        let period = shared.progress_interval;
        let mut tick = interval_at(Instant::now() + period, period);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            shared,
            coordinator,
            requests,
            half_closed: false,
            ending: Box::pin(async move { lifecycle.wait_for_ending().await }),
            watches: BTreeMap::new(),
            wakeups: FuturesUnordered::new(),
            next_id: 0,
            responses: VecDeque::new(),
            progress_check: watch::Sender::new(()),
            progress_request: None,
            progress_again: false,
            tick,
            answer,
            bytes_in_turn: 0,
        }
    }

    /// Returns the next response, after others had their turn if this stream had much of late. All
    /// responses that are ready are encoded in one go, also for a client that takes none of them.
    async fn next_in_turn(&mut self) -> Result<PbWatchResponse, Status> {
        if self.bytes_in_turn > MAX_BYTES_IN_TURN {
            yield_now().await;
            self.bytes_in_turn = 0;
        }
        let response = self.next().await?;
        self.bytes_in_turn += response.encoded_len();
        Ok(response)
    }

    /// Returns the next response. An error ends the stream.
    async fn next(&mut self) -> Result<PbWatchResponse, Status> {
        loop {
            if let Some(response) = self.responses.pop_front() {
                return Ok(response);
            }
            tokio::select! {
                () = &mut self.ending => return Err(self.shared.stop_status()),
                request = self.requests.message(), if !self.half_closed => match request? {
                    Some(request) => self.handle_request(request)?,
                    None => self.half_closed = true,
                },
                // The wait of a cancelled watch ends with an error, which is ignored.
                Some(wakeup) = self.wakeups.next() => if let Ok(wakeup) = wakeup {
                    if let WakeReason::Batch(batch) = &wakeup.reason {
                        // Before the events are encoded. Clients go on elsewhere, or later, after
                        // this error.
                        self.answer.reserve_for_done(batch.bytes()).await?;
                    }
                    self.handle_wakeup(wakeup)?;
                },
                _ = self.tick.tick() => self.report_idle(),
            }
        }
    }

    fn handle_request(&mut self, request: PbWatchRequest) -> Result<(), Status> {
        match request.request_union {
            Some(PbWatchRequestUnion::CreateRequest(create)) => {
                let options = Options {
                    prev_kv: create.prev_kv,
                    progress_notify: create.progress_notify,
                    fragment: create.fragment,
                    ..Options::default()
                };
                let options = options.with_filters(&create.filters);
                // An empty key means the first of all keys.
                let key = if create.key.is_empty() {
                    vec![0]
                } else {
                    create.key
                };
                let keys = decode::key_range(key, create.range_end);
                self.create_watch(create.watch_id, keys, create.start_revision, options)?;
            }
            Some(PbWatchRequestUnion::CancelRequest(cancel)) => self.cancel_watch(cancel.watch_id),
            Some(PbWatchRequestUnion::ProgressRequest(_)) => self.request_progress(),
            // As in etcd, an unknown request does not end the stream.
            None => {}
        }
        Ok(())
    }

    fn create_watch(
        &mut self,
        requested_id: i64,
        keys: KeyRange,
        start: i64,
        options: Options,
    ) -> Result<(), Status> {
        let Ok(start) = Revision::try_from(start) else {
            self.reject_create(status::COMPACTED.to_owned());
            return Ok(());
        };
        if is_empty(&keys) {
            self.reject_create(EMPTY_RANGE.to_owned());
            return Ok(());
        }
        let id = match requested_id {
            0 => self.allocate_id(),
            used if self.watches.contains_key(&used) => {
                self.reject_create(DUPLICATE_ID.to_owned());
                return Ok(());
            }
            free => free,
        };
        match self.coordinator.watch(keys, (start > 0).then_some(start)) {
            Ok(watcher) => {
                // A watch that starts now reports the present revision: it misses nothing after
                // that.
                let revision = match start {
                    0 => watcher.start_revision().saturating_sub(1),
                    _ => self.shared.coordinator.status().revision,
                };
                self.respond(revision, id).created = true;
                let abort = self.push_wait(id, watcher);
                let watch = StreamWatch {
                    options,
                    abort,
                    idle: false,
                    progress_due: false,
                };
                self.watches.insert(id, watch);
                if let Some(request) = &mut self.progress_request {
                    request.add_watch(id);
                    self.progress_check.send_replace(());
                }
            }
            Err(Error::Compacted {
                compact_revision, ..
            }) => {
                let revision = self.shared.coordinator.status().revision;
                self.respond(revision, id).created = true;
                let response = self.respond(revision, id);
                response.canceled = true;
                response.compact_revision = to_i64(compact_revision);
                response.cancel_reason = status::COMPACTED.to_owned();
            }
            Err(err @ (Error::Stopped { .. } | Error::Displaced { .. })) => {
                return Err(err.into());
            }
            Err(err) => self.reject_create(cancel_reason(&err)),
        }
        Ok(())
    }

    fn allocate_id(&mut self) -> i64 {
        while self.watches.contains_key(&self.next_id) {
            self.next_id += 1;
        }
        let id = self.next_id;
        self.next_id += 1;
        id
    }

    fn cancel_watch(&mut self, id: i64) {
        if self.remove_watch(id) {
            let revision = self.shared.coordinator.status().revision;
            self.respond(revision, id).canceled = true;
        }
    }

    /// Removes a watch of this stream. Returns whether it existed.
    fn remove_watch(&mut self, id: i64) -> bool {
        let Some(watch) = self.watches.remove(&id) else {
            return false;
        };
        watch.abort.abort();
        if let Some(request) = &mut self.progress_request {
            request.remove_watch(id);
        }
        self.finish_progress_request();
        true
    }

    /// Adds the wait for the next event of a watch.
    fn push_wait(&mut self, id: i64, mut watcher: Watcher) -> AbortHandle {
        let (abort, registration) = AbortHandle::new_pair();
        let mut check = self.progress_check.subscribe();
        let wait = async move {
            let reason = tokio::select! {
                biased;
                batch = watcher.next() => match batch {
                    Ok(batch) => WakeReason::Batch(batch),
                    Err(err) => WakeReason::Failed(err),
                },
                _ = check.changed() => WakeReason::ProgressCheck,
            };
            Wakeup {
                id,
                watcher,
                reason,
            }
        };
        self.wakeups
            .push(Abortable::new(Box::pin(wait), registration));
        abort
    }

    fn handle_wakeup(&mut self, wakeup: Wakeup) -> Result<(), Status> {
        let Wakeup {
            id,
            watcher,
            reason,
        } = wakeup;
        match reason {
            WakeReason::Batch(batch) => self.deliver(id, &batch),
            WakeReason::ProgressCheck => {}
            WakeReason::Failed(err @ (Error::Stopped { .. } | Error::Displaced { .. })) => {
                return Err(err.into());
            }
            WakeReason::Failed(err) => {
                self.remove_watch(id);
                let revision = self.shared.coordinator.status().revision;
                let response = self.respond(revision, id);
                response.canceled = true;
                response.cancel_reason = cancel_reason(&err);
                return Ok(());
            }
        }
        if let Some(revision) = watcher.progress() {
            self.report_progress(id, revision);
        }
        let abort = self.push_wait(id, watcher);
        if let Some(watch) = self.watches.get_mut(&id) {
            watch.abort = abort;
        }
        Ok(())
    }

    fn deliver(&mut self, id: i64, batch: &WatchBatch) {
        let Some(watch) = self.watches.get_mut(&id) else {
            return;
        };
        let options = watch.options;
        let events = options.select_events(batch);
        if events.is_empty() {
            return;
        }
        watch.idle = false;
        let response = PbWatchResponse {
            header: Some(self.shared.header(batch.revision)),
            watch_id: id,
            events,
            ..PbWatchResponse::default()
        };
        if options.fragment {
            self.responses
                .extend(split_response(response, MAX_MESSAGE_BYTES));
        } else {
            self.responses.push_back(response);
        }
    }

    /// Requests progress notifications for the watches that asked for them and had no event for an
    /// interval.
    fn report_idle(&mut self) {
        let mut due = false;
        for watch in self.watches.values_mut() {
            if watch.options.progress_notify {
                watch.progress_due |= watch.idle;
                watch.idle = true;
                due |= watch.progress_due;
            }
        }
        if due {
            self.progress_check.send_replace(());
        }
    }

    /// Makes the stream report a revision once every watch has delivered everything up to it.
    fn request_progress(&mut self) {
        if self.progress_request.is_some() {
            self.progress_again = true;
            return;
        }
        let revision = self.shared.coordinator.status().revision;
        self.progress_request = Some(ProgressRequest::new(self.watches.keys().copied(), revision));
        self.progress_check.send_replace(());
        self.finish_progress_request();
    }

    fn report_progress(&mut self, id: i64, revision: Revision) {
        if let Some(watch) = self.watches.get_mut(&id)
            && std::mem::take(&mut watch.progress_due)
        {
            self.respond(revision, id);
        }
        if let Some(request) = &mut self.progress_request {
            request.record_progress(id, revision);
        }
        self.finish_progress_request();
    }

    fn finish_progress_request(&mut self) {
        let Some(revision) = self
            .progress_request
            .as_ref()
            .and_then(ProgressRequest::revision)
        else {
            return;
        };
        self.progress_request = None;
        self.respond(revision, NO_WATCH);
        if std::mem::take(&mut self.progress_again) {
            self.request_progress();
        }
    }

    fn reject_create(&mut self, reason: String) {
        let revision = self.shared.coordinator.status().revision;
        let response = self.respond(revision, NO_WATCH);
        response.created = true;
        response.canceled = true;
        response.cancel_reason = reason;
    }

    /// Appends a response without events, which the caller completes.
    fn respond(&mut self, revision: Revision, id: i64) -> &mut PbWatchResponse {
        let response = PbWatchResponse {
            header: Some(self.shared.header(revision)),
            watch_id: id,
            ..PbWatchResponse::default()
        };
        let index = self.responses.len();
        self.responses.push_back(response);
        &mut self.responses[index]
    }
}

/// Returns the text for a watch that ends for this reason.
fn cancel_reason(err: &Error) -> String {
    match err {
        Error::PermissionDenied => status::WATCH_DENIED.to_owned(),
        err => format!("turnlock: {err}"),
    }
}

fn is_empty(keys: &KeyRange) -> bool {
    match keys {
        KeyRange::One(_) => false,
        KeyRange::Span { start, end } => end.as_ref().is_some_and(|end| end <= start),
    }
}
