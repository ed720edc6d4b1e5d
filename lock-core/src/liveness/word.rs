//! The one atomic word of a session's liveness: a deadline, or the reason of the loss.
//!
//! All changes go through a compare-and-swap of this word: that of a reader that finds the deadline
//! passed, and that of a renewal that moves it. So no "lost" is ever followed by a "held", and the
//! first reason stays. The tests in `loom_tests.rs` try every order of these steps.

use std::sync::atomic::Ordering;

use crate::clock::BootInstant;
use crate::error::LossReason;
use crate::sync::AtomicU64;

/// The nanoseconds of the boot clock at the deadline, or the reason of the loss: see [`Packed`].
#[derive(Debug)]
pub(super) struct Word(AtomicU64);

/// The content of the word.
#[derive(Debug, Clone, Copy)]
pub(super) enum Packed {
    Until(BootInstant),
    Lost(LossReason),
}

/// The session is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Loss {
    pub(super) reason: LossReason,
    /// Whether the call that returned this is the one that ended the session.
    pub(super) is_new: bool,
}

/// A loss is stored as its index in this list: no deadline is so few nanoseconds after boot.
const REASONS: [LossReason; 5] = [
    LossReason::Expired,
    LossReason::SessionGone,
    LossReason::EntryGone,
    LossReason::Closed,
    LossReason::StoreGone,
];

impl Packed {
    fn of(word: u64) -> Packed {
        match usize::try_from(word).ok().and_then(|w| REASONS.get(w)) {
            Some(reason) => Packed::Lost(*reason),
            None => Packed::Until(BootInstant::from_nanos(word)),
        }
    }

    fn lost(reason: LossReason) -> u64 {
        REASONS
            .iter()
            .position(|r| *r == reason)
            .map_or(0, |i| i as u64)
    }
}

impl Word {
    pub(super) fn new(deadline: BootInstant) -> Self {
        Word(AtomicU64::new(deadline.as_nanos()))
    }

    /// Returns the content, without a look at the clock.
    fn read(&self) -> (u64, Packed) {
        let word = self.0.load(Ordering::SeqCst);
        (word, Packed::of(word))
    }

    /// Turns a passed deadline into a loss. Otherwise moves the deadline by the function, and returns
    /// the old one with an instant at which it had not passed.
    pub(super) fn move_deadline(
        &self,
        now: impl Fn() -> BootInstant,
        moved: impl Fn(BootInstant) -> BootInstant,
    ) -> Result<(BootInstant, BootInstant), Loss> {
        loop {
            let (word, packed) = self.read();
            let deadline = match packed {
                Packed::Lost(reason) => {
                    return Err(Loss {
                        reason,
                        is_new: false,
                    });
                }
                Packed::Until(deadline) => deadline,
            };
            // Read after the deadline, so that the result is never older than the call.
            let now = now();
            if now >= deadline {
                let reason = LossReason::Expired;
                if self.swap(word, Packed::lost(reason)) {
                    return Err(Loss {
                        reason,
                        is_new: true,
                    });
                }
                continue;
            }
            let moved = moved(deadline);
            if moved == deadline || self.swap(word, moved.as_nanos()) {
                return Ok((deadline, now));
            }
        }
    }

    /// Ends the session for this reason, unless it was lost before. Returns whether this call ended it.
    pub(super) fn lose(&self, reason: LossReason) -> bool {
        loop {
            match self.read() {
                (_, Packed::Lost(_)) => return false,
                (word, Packed::Until(_)) if self.swap(word, Packed::lost(reason)) => return true,
                (_, Packed::Until(_)) => {}
            }
        }
    }

    fn swap(&self, from: u64, to: u64) -> bool {
        self.0
            .compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
    }
}

#[cfg(all(test, loom))]
#[path = "loom_tests.rs"]
mod loom_tests;
