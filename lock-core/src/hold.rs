//! One held lock, as its guard and the janitor share it: its entry, and why the hold ended.

use std::future::{Future, poll_fn};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::Poll;

use futures_util::FutureExt;
use tokio::sync::Mutex;

use crate::clock::{BootInstant, Clock};
use crate::entry::{EntryId, Ticket};
use crate::error::LossReason;
use crate::observe::{Event, HoldEnd, Observed};
use crate::self_wait::CallerKey;
use crate::sticky::Slot;
use crate::sync::{AtomicWaker, Notify, OnceLock, fence};
use crate::token::Token;

/// One hold of a lock, shared by its guard and the janitor.
///
/// The end is set by one thread and awaited by others. Each side first writes its own word, then
/// issues a sequentially consistent fence, then reads the word of the other side: the ending side
/// writes `end` and reads `waits`, the waiting side writes `waits` (and registers with it) and
/// reads `end`. Of two such fences one comes first, so at least one side sees the write of the
/// other: either the waiter sees the end, or the ending side sees the waiter and wakes it. The
/// `watcher` needs no fence of ours: an [`AtomicWaker`] gives this order between its `register` and
/// its `wake`. The tests in `hold/loom_tests.rs` try every order of these steps, also without the
/// fences.
#[derive(Debug)]
pub(crate) struct Hold {
    /// A number that no other hold of the session has.
    serial: u64,
    ticket: Ticket,
    entry: EntryId,
    token: Token,
    /// The task that acquired the lock.
    caller: CallerKey,
    observed: Observed,
    /// When the lock was acquired, if somebody observes it.
    acquired: Option<BootInstant>,
    /// The slot of a sticky lock, which learns of a loss, and the number that it knows the hold by.
    slot: Option<(Weak<Slot>, u64)>,
    /// Whether its guard is removing the entry.
    is_releasing: AtomicBool,
    /// How the hold ended; set once.
    end: OnceLock<HoldEnd>,
    /// Wakes the watch on the entry at the end.
    watcher: AtomicWaker,
    /// Made by the first wait; most holds never need it.
    waits: OnceLock<Box<Waits>>,
}

/// The means to wait for a hold.
#[derive(Debug, Default)]
pub(crate) struct Waits {
    ended: Notify,
    /// Held by the access that is under way, so that each is done before the next one begins.
    pub(crate) access: Mutex<()>,
    /// Whether a change of a value may yet be carried out, because its outcome is not known.
    pub(crate) has_change_in_doubt: AtomicBool,
}

impl Hold {
    /// Creates the hold of the calling task. To be called on the task that acquires.
    pub(crate) fn new(
        serial: u64,
        ticket: Ticket,
        entry: EntryId,
        token: Token,
        observed: Observed,
        acquired: Option<BootInstant>,
        slot: Option<(Weak<Slot>, u64)>,
    ) -> Arc<Self> {
        Arc::new(Hold {
            serial,
            caller: CallerKey::of_caller(&ticket.name),
            ticket,
            entry,
            token,
            observed,
            acquired,
            slot,
            is_releasing: AtomicBool::new(false),
            end: OnceLock::new(),
            watcher: AtomicWaker::new(),
            waits: OnceLock::new(),
        })
    }

    pub(crate) fn ticket(&self) -> &Ticket {
        &self.ticket
    }

    pub(crate) fn entry(&self) -> &EntryId {
        &self.entry
    }

    pub(crate) fn token(&self) -> Token {
        self.token
    }

    /// Returns the task that acquired the lock.
    pub(crate) fn caller(&self) -> CallerKey {
        self.caller
    }

    pub(crate) fn serial(&self) -> u64 {
        self.serial
    }

    /// Ends the hold for this reason, unless it ended before. Returns the first reason, which
    /// stays.
    pub(crate) fn lose(&self, reason: LossReason) -> LossReason {
        match self.end(HoldEnd::Lost(reason)) {
            HoldEnd::Lost(first) => first,
            _ => LossReason::Closed,
        }
    }

    /// Notes that the guard removes the entry from now on.
    pub(crate) fn begin_release(&self) {
        self.is_releasing.store(true, Ordering::Release);
    }

    /// Ends the hold because its entry was seen to be gone. During a release the entry may be gone
    /// by that: only the reply to the removal says whether it was gone before.
    pub(crate) fn lose_entry(&self) {
        // Whoever sees that the entry is gone by the release got to know it over the coordinator,
        // after the store.
        if !self.is_releasing.load(Ordering::Acquire) {
            self.lose(LossReason::EntryGone);
        }
    }

    /// Ends the hold in this way, unless it ended before. Returns the first end, which stays.
    pub(crate) fn end(&self, end: HoldEnd) -> HoldEnd {
        let mut first = false;
        let final_end = *self.end.get_or_init(|| {
            first = true;
            end
        });
        if first {
            // Pairs with the fence in `wait_for_end`: see the type.
            fence(Ordering::SeqCst);
            if let Some(waits) = self.waits.get() {
                waits.ended.notify_waiters();
            }
            self.watcher.wake();
            self.tell_end(final_end);
            if let (HoldEnd::Lost(reason), Some((slot, number))) = (final_end, &self.slot)
                && let Some(slot) = slot.upgrade()
            {
                slot.note_loss(*number, reason);
            }
        }
        final_end
    }

    fn tell_end(&self, end: HoldEnd) {
        let Some(acquired) = self.acquired else {
            return;
        };
        self.observed.emit(|| Event::HoldEnded {
            lock: &self.ticket.name,
            mode: self.ticket.mode,
            token: self.token,
            held: Clock::system().now().saturating_since(acquired),
            end,
        });
    }

    pub(crate) fn is_over(&self) -> bool {
        self.end.get().is_some()
    }

    pub(crate) fn loss(&self) -> Option<LossReason> {
        match self.end.get() {
            Some(HoldEnd::Lost(reason)) => Some(*reason),
            _ => None,
        }
    }

    /// Returns whether a change of a value may yet be carried out while the entry is there.
    pub(crate) fn has_change_in_doubt(&self) -> bool {
        let waits = self.waits.get();
        waits.is_some_and(|waits| waits.has_change_in_doubt.load(Ordering::Acquire))
    }

    pub(crate) fn waits(&self) -> &Waits {
        self.waits.get_or_init(Box::default)
    }

    /// Resolves once the hold is lost or released.
    pub(crate) async fn wait_for_end(&self) {
        let ended = self.waits().ended.notified();
        fence(Ordering::SeqCst);
        if !self.is_over() {
            ended.await;
        }
    }

    /// Resolves as the watch on the entry does, or with `None` once the hold is over. The janitor
    /// has one of these for each hold: a waker takes a quarter of the memory of a `wait_for_end`.
    pub(crate) fn watch_until_end<W: Future + Unpin>(
        &self,
        mut watch: W,
    ) -> impl Future<Output = Option<W::Output>> {
        poll_fn(move |context| {
            self.watcher.register(context.waker());
            match self.is_over() {
                true => Poll::Ready(None),
                false => watch.poll_unpin(context).map(Some),
            }
        })
    }
}

#[cfg(all(test, loom))]
mod loom_tests;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::entry::{Metadata, Mode};
    use crate::incarnation::Incarnation;
    use crate::name::LockName;

    impl Hold {
        /// Returns a hold of the lock `a` that no session has.
        pub(crate) fn sample(serial: u64) -> Arc<Self> {
            let ticket = Ticket {
                name: LockName::new("a").expect("valid"),
                mode: Mode::Exclusive,
                serial,
                metadata: Metadata::none(),
            };
            let entry = EntryId {
                key: b"key".as_slice().into(),
                incarnation: Incarnation::new(serial),
            };
            Hold::new(
                serial,
                ticket,
                entry,
                Token(serial),
                Observed::default(),
                None,
                None,
            )
        }
    }

    #[test]
    fn a_wait_that_begins_at_the_same_time_sees_the_end() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("the operating system gives an event queue");
        for serial in 0..2000 {
            let hold = Hold::sample(serial);
            let both = std::sync::Barrier::new(2);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    both.wait();
                    hold.lose(LossReason::EntryGone);
                });
                both.wait();
                let over = async {
                    tokio::time::timeout(Duration::from_secs(60), hold.wait_for_end()).await
                };
                runtime.block_on(over).expect("woken");
            });
            assert_eq!(hold.loss(), Some(LossReason::EntryGone));
        }
    }
}
