//! `Maintenance.Snapshot`: the whole state at one revision, in pieces.
//!
//! Each piece is made after the client has taken the previous one. Until then the snapshot keeps the
//! keys and values that the store replaces, up to a limit.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use etcd_client::proto::{PbResponseHeader, PbSnapshotResponse};
use futures_util::{Stream, stream};
use lock_core::surroundings::Surroundings;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::Instant;
use tonic::Status;

use super::bodies::AnswerBudget;
use super::maintenance::VERSION;
use super::state::Shared;
use crate::coordinator::{Coordinator, Retained, to_clock_revision};
use crate::error::Error;
use crate::snapshot::Encoder;

/// How long a client may take for a piece, if it has taken those before in time.
const MAX_PATIENCE: Duration = Duration::from_secs(30);

/// How much of that time each piece gives back that the client takes. So 256 KiB in 2 s is the
/// slowest that a snapshot can go on.
const PATIENCE_FOR_A_PIECE: Duration = Duration::from_secs(2);

/// How many bytes of keys and values a snapshot may keep that were replaced in the store.
const MAX_RETAINED_BYTES: usize = 128 << 20;

type Piece = Result<PbSnapshotResponse, Status>;

pub(super) type SnapshotStream = Pin<Box<dyn Stream<Item = Piece> + Send>>;

/// Begins a snapshot. There is one at a time.
#[expect(
    clippy::disallowed_methods,
    reason = "tasks of a server run where it serves"
)]
pub(super) async fn open(
    shared: &Shared,
    coordinator: Coordinator,
    answer: AnswerBudget,
) -> Result<SnapshotStream, Status> {
    let turn = Arc::clone(&shared.snapshot_turn).try_acquire_owned();
    let turn = turn.map_err(|_| {
        let error = Error::SnapshotUnderWay;
        coordinator.figures().count_refusal(&error);
        error
    })?;
    let taken_at = to_clock_revision(Surroundings::current().wall_clock());
    let state = coordinator.copy(0).await?;
    let header = shared.header(state.revision);
    let snapshot = SnapshotTask {
        retained: coordinator.retain(state.revision),
        coordinator,
        header,
        answer,
        patience: MAX_PATIENCE,
        _turn: turn,
    };
    let encoder = Encoder::new(state, header.cluster_id, taken_at);
    let (sender, receiver) = mpsc::channel(1);
    let ending = shared.lifecycle.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = snapshot.send(encoder, &sender) => {}
            () = ending.wait_for_ending() => {}
        }
    });
    let shared = Arc::clone(shared);
    let pieces = stream::unfold(Some(receiver), move |receiver| {
        let shared = Arc::clone(&shared);
        async move {
            let mut receiver = receiver?;
            let piece = receiver.recv().await;
            // Whoever does not get the end must not take what there is for the whole.
            let piece = piece.unwrap_or_else(|| Err(cut_off(&shared)));
            let goes_on = !is_last(&piece);
            Some((piece, goes_on.then_some(receiver)))
        }
    });
    Ok(Box::pin(pieces))
}

fn cut_off(shared: &Shared) -> Status {
    match shared.lifecycle.is_draining() {
        true => shared.stop_status(),
        false => too_slow(),
    }
}

fn too_slow() -> Status {
    Status::deadline_exceeded(format!(
        "turnlock: the client takes the snapshot too slowly: a piece may take {} s, or {} s in the \
         long run, and {MAX_RETAINED_BYTES} bytes of it may be replaced in the store meanwhile",
        MAX_PATIENCE.as_secs(),
        PATIENCE_FOR_A_PIECE.as_secs()
    ))
}

/// A snapshot that is being sent.
struct SnapshotTask {
    coordinator: Coordinator,
    header: PbResponseHeader,
    retained: Arc<Retained>,
    answer: AnswerBudget,
    /// How much longer the client may let the server wait.
    patience: Duration,
    _turn: OwnedSemaphorePermit,
}

impl SnapshotTask {
    /// Sends all pieces, or an error, or nothing more if the client does not take them.
    async fn send(mut self, mut encoder: Encoder, sender: &mpsc::Sender<Piece>) {
        loop {
            let Some(room) = self.wait_for_room(sender).await else {
                return;
            };
            match self.make_piece(encoder).await {
                Ok((piece, next)) => {
                    encoder = next;
                    let piece = Ok(piece);
                    let is_last = is_last(&piece);
                    room.send(piece);
                    if is_last {
                        return;
                    }
                }
                Err(error) => return room.send(Err(error)),
            }
        }
    }

    /// Waits until the client has taken the piece before. Returns nothing if it does not.
    async fn wait_for_room<'a>(
        &mut self,
        sender: &'a mpsc::Sender<Piece>,
    ) -> Option<mpsc::Permit<'a, Piece>> {
        /// How often it is looked whether too much is kept meanwhile.
        const CHECK_INTERVAL: Duration = Duration::from_secs(1);
        loop {
            let begun = Instant::now();
            let room = tokio::time::timeout(CHECK_INTERVAL, sender.reserve()).await;
            self.patience = self.patience.saturating_sub(begun.elapsed());
            if let Ok(room) = room {
                self.patience = MAX_PATIENCE.min(self.patience + PATIENCE_FOR_A_PIECE);
                return room.ok();
            }
            if self.patience.is_zero() || self.retained.bytes() > MAX_RETAINED_BYTES {
                tracing::warn!("a client takes a snapshot too slowly: it is cut off");
                return None;
            }
        }
    }

    /// Makes the next piece, and hands the encoder back.
    async fn make_piece(
        &self,
        mut encoder: Encoder,
    ) -> Result<(PbSnapshotResponse, Encoder), Status> {
        if self.retained.bytes() > MAX_RETAINED_BYTES {
            return Err(too_slow());
        }
        let made = self.coordinator.run_heavy(move || {
            let blob = encoder.next_piece();
            (blob, encoder)
        });
        let (blob, encoder) = made.await?;
        self.answer.reserve(blob.len()).await?;
        let piece = PbSnapshotResponse {
            header: Some(self.header),
            remaining_bytes: encoder.remaining(),
            blob: blob.into(),
            version: VERSION.to_owned(),
        };
        Ok((piece, encoder))
    }
}

/// Returns whether nothing follows this piece.
fn is_last(piece: &Piece) -> bool {
    piece
        .as_ref()
        .map_or(true, |piece| piece.remaining_bytes == 0)
}
