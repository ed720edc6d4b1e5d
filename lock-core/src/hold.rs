//! What the guard and the janitor know of one held lock: its entry, and why it is over.

use std::future::{Future, poll_fn};
use std::sync::atomic::{Ordering, fence};
use std::sync::{Arc, OnceLock};
use std::task::Poll;

use futures_util::FutureExt;
use futures_util::task::AtomicWaker;
use tokio::sync::{Mutex, Notify};

use crate::entry::{EntryId, Ticket};
use crate::error::LossReason;
use crate::token::Token;

/// What the guard and the janitor share of one hold.
#[derive(Debug)]
pub(crate) struct Hold {
    ticket: Ticket,
    entry: EntryId,
    token: Token,
    /// Why it is over; set once.
    end: OnceLock<End>,
    /// Who watches the entry: told of the end.
    watcher: AtomicWaker,
    /// Most holders never need it.
    waits: OnceLock<Box<Waits>>,
}

/// What a hold is waited with.
#[derive(Debug, Default)]
pub(crate) struct Waits {
    ended: Notify,
    /// Held by the access that is under way: each is done before the next one begins.
    pub(crate) access: Mutex<()>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Lost(LossReason),
    /// The guard is giving the lock back, or is gone.
    Released,
}

impl Hold {
    pub(crate) fn new(ticket: Ticket, entry: EntryId, token: Token) -> Arc<Self> {
        Arc::new(Hold {
            ticket,
            entry,
            token,
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

    pub(crate) fn serial(&self) -> u64 {
        self.ticket.serial
    }

    /// The lock is not ours any more. Answers the reason that came first, which stays.
    pub(crate) fn lose(&self, reason: LossReason) -> LossReason {
        match self.end(End::Lost(reason)) {
            End::Lost(first) => first,
            End::Released => LossReason::Closed,
        }
    }

    pub(crate) fn end(&self, end: End) -> End {
        let mut first = false;
        let settled = *self.end.get_or_init(|| {
            first = true;
            end
        });
        if first {
            // With the one in `over`: either the end is seen there, or who waits is seen here.
            fence(Ordering::SeqCst);
            if let Some(waits) = self.waits.get() {
                waits.ended.notify_waiters();
            }
            self.watcher.wake();
        }
        settled
    }

    pub(crate) fn is_over(&self) -> bool {
        self.end.get().is_some()
    }

    pub(crate) fn loss(&self) -> Option<LossReason> {
        match self.end.get() {
            Some(End::Lost(reason)) => Some(*reason),
            Some(End::Released) | None => None,
        }
    }

    pub(crate) fn waits(&self) -> &Waits {
        self.waits.get_or_init(Box::default)
    }

    /// Resolves once it is lost or released.
    pub(crate) async fn over(&self) {
        let ended = self.waits().ended.notified();
        fence(Ordering::SeqCst);
        if !self.is_over() {
            ended.await;
        }
    }

    /// Resolves as the watch on its entry does, or with `None` once it is over. For the janitor,
    /// who has one of these for each hold: a waker takes a quarter of the room of a wait for `over`.
    pub(crate) fn unless_over<W: Future + Unpin>(
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::entry::{Metadata, Mode};
    use crate::incarnation::Incarnation;
    use crate::name::LockName;

    impl Hold {
        /// Of the lock `a`, by nobody.
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
            Hold::new(ticket, entry, Token(serial))
        }
    }

    #[test]
    fn the_end_is_seen_by_who_begins_to_wait_for_it_just_then() {
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
                let over =
                    async { tokio::time::timeout(Duration::from_secs(60), hold.over()).await };
                runtime.block_on(over).expect("told");
            });
            assert_eq!(hold.loss(), Some(LossReason::EntryGone));
        }
    }
}
