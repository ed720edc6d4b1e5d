//! One acquire: it takes a place in the queue and waits until that is granted, or gives it up.

use std::sync::Arc;
use std::time::Duration;

use crate::background;
use crate::clock::{BootInstant, Clock};
use crate::entry::{EntryId, Metadata, Ticket};
use crate::error::{Error, ErrorKind};
use crate::gate::Gate;
use crate::held_lock::HeldLock;
use crate::hold::Hold;
use crate::janitor::SharedSession;
use crate::liveness::State;
use crate::named::format_seconds;
use crate::observe::AcquireRecord;
use crate::operation::Operation;
use crate::retry::{Doubt, RetryPolicy, retry_through};
use crate::rule::{self, Verdict};
use crate::session::{Admission, Enqueued, Placed};
use crate::token::Token;
use crate::wait::{self, Asides};
use crate::wait_limit::WaitLimit;

/// How long an acquire that gave up waits for the removal of its entry, so that the next acquire of
/// its caller does not queue behind it. Then the removal goes on in the background.
const WITHDRAWAL: Duration = Duration::from_secs(1);

/// An acquire that has no hold yet. When it is dropped, at any await, the janitor removes the entry
/// that it has or may have.
pub(crate) struct Pending<'a> {
    shared_session: Arc<SharedSession>,
    ticket: Ticket,
    gate: &'a Gate,
    record: &'a AcquireRecord<'a>,
    entry: Option<EntryId>,
    /// When the place in the queue was asked for, if the time to wait for it is limited.
    asked: Option<BootInstant>,
    /// Whether the acquire had to wait for another contender.
    is_contended: bool,
    /// When the coordinator reported the place in the queue.
    placed: Option<BootInstant>,
    /// The entry's token, once there is an entry.
    token: Token,
    /// Whether an `enqueue` is under way, or was made whose outcome is not known.
    doubt: Doubt,
}

/// How a wait ended, other than by an error.
enum Outcome {
    Granted,
    /// Another contender has the lock, and this acquire does not wait.
    Busy,
    /// The time to wait is over.
    TimeUp,
}

impl<'a> Pending<'a> {
    pub(crate) fn new(
        shared_session: Arc<SharedSession>,
        ticket: Ticket,
        gate: &'a Gate,
        record: &'a AcquireRecord<'a>,
    ) -> Self {
        Pending {
            shared_session,
            ticket,
            gate,
            record,
            entry: None,
            asked: None,
            is_contended: false,
            placed: None,
            token: Token(0),
            doubt: Doubt::default(),
        }
    }

    /// Returns whether there is an entry of this acquire in the queue, or may be one.
    pub(crate) fn may_have_entry(&self) -> bool {
        self.doubt.remains() || self.entry.is_some()
    }

    /// Waits for the lock. Returns `None` if another contender has it at the end of the limit. With
    /// `anew`, the acquire had lost an earlier place in the queue: then it also waits while the
    /// coordinator is short of something.
    pub(crate) async fn acquire(
        &mut self,
        limit: WaitLimit,
        anew: bool,
    ) -> Result<Option<HeldLock>, Error> {
        let shared_session = self.shared_session.clone();
        let outcome = tokio::select! {
            biased;
            // First of all: a busy coordinator must not make us exceed the limit.
            () = limit.wait_for_end() => Ok(Outcome::TimeUp),
            // Before the loss, whose first poll sets a timer: a lock that is free needs none. A loss
            // that came first is noticed when the hold is taken.
            outcome = self.wait_for_turn(limit, anew) => outcome,
            reason = shared_session.session().liveness().lost() => Err(Error::session_lost(reason)),
        };
        match outcome? {
            Outcome::Granted => self.take_hold(),
            Outcome::Busy => {
                self.withdraw().await;
                Ok(None)
            }
            Outcome::TimeUp => self.give_up().await,
        }
    }

    /// Gives up at the end of the limit. Returns `None` if others had the lock, and an error if the
    /// coordinator could not be asked.
    async fn give_up(&mut self) -> Result<Option<HeldLock>, Error> {
        let now = Clock::system().now();
        let silence = self.shared_session.session().liveness().silence();
        let silence = self
            .placed
            .map_or(silence, |placed| silence.min(now.saturating_since(placed)));
        let unanswered = self.asked.is_some_and(|asked| {
            let unanswered = silence.min(now.saturating_since(asked));
            self.doubt.remains() && unanswered >= WITHDRAWAL
        });
        // A coordinator that answers now would also have reported a grant.
        let withdrawn = self.withdraw().await;
        let answers = withdrawn || silence < WITHDRAWAL;
        let (name, silence) = (self.ticket.name.as_str(), format_seconds(silence));
        let text = match self.placed {
            Some(_) if answers => return Ok(None),
            Some(_) => format!(
                "the time to wait for {name:?} is over, and the coordinator does not say who has \
                 it: it last answered {silence} before"
            ),
            None => format!(
                "the coordinator did not take us into the queue of {name:?} in the time given: it \
                 last answered {silence} before its end"
            ),
        };
        let error = Error::new(ErrorKind::Unreachable, text);
        // The request is given up before the backend would report that nobody answers.
        if unanswered && !withdrawn {
            self.gate.note_silence(&error);
        }
        Err(error)
    }

    async fn wait_for_turn(&mut self, limit: WaitLimit, anew: bool) -> Result<Outcome, Error> {
        let Some(Placed { entry, view, .. }) = self.enqueue(limit, anew).await? else {
            return Ok(Outcome::Busy);
        };
        match rule::judge(self.ticket.mode, &view) {
            Verdict::Granted => Ok(Outcome::Granted),
            Verdict::Blocked(_) if matches!(limit, WaitLimit::Try(_)) => Ok(Outcome::Busy),
            // On the background thread from the event to the grant: nobody holds the lock
            // meanwhile, and each crossing to another thread would add to that time.
            Verdict::Blocked(_) | Verdict::Evicted => {
                self.is_contended = true;
                let is_traced = self.ticket.metadata.traceparent.is_some();
                let blocked = self.record.note_contention(is_traced);
                let handoff = self.shared_session.handoff().clone();
                let ticket = self.ticket.clone();
                let asides = Asides {
                    self_wait: self.shared_session.holders().check_wait(&ticket.name),
                    blocked,
                };
                // In a box: an acquire that need not wait does without the memory.
                let waiting = wait::wait_for_grant(handoff, ticket, entry, view, asides);
                Box::pin(background::run(waiting)).await?;
                Ok(Outcome::Granted)
            }
        }
    }

    /// Takes a place in the queue. Returns `None` if the lock is busy and this acquire does not
    /// wait.
    async fn enqueue(&mut self, limit: WaitLimit, anew: bool) -> Result<Option<Placed>, Error> {
        let shared_session = self.shared_session.clone();
        let ticket = self.ticket.clone();
        let admission = match limit {
            WaitLimit::Try(_) => Admission::IfFree,
            WaitLimit::Until(_) | WaitLimit::Forever => Admission::Always,
        };
        let policy = match limit {
            WaitLimit::Try(_) => RetryPolicy::OfTry,
            WaitLimit::Until(_) | WaitLimit::Forever if anew => RetryPolicy::Endless,
            WaitLimit::Until(_) | WaitLimit::Forever => RetryPolicy::OfEnqueue,
        };
        if let WaitLimit::Until(_) = limit {
            self.asked = Some(Clock::system().now());
        }
        let handoff = shared_session.handoff();
        let doubt = &self.doubt;
        let observed = shared_session.session().liveness().observed();
        let observed = observed.of_retries(Operation::Acquire);
        let enqueued = retry_through(self.gate, limit.end(), policy, observed, || {
            // Before this try: its own future is in doubt from the first poll on.
            let again = doubt.remains();
            doubt.observe(handoff.enqueue(&ticket, admission, again))
        });
        match enqueued.await? {
            Enqueued::Busy => Ok(None),
            Enqueued::Placed(placed) => {
                self.entry = Some(placed.entry.clone());
                self.placed = Some(Clock::system().now());
                self.token = placed.token;
                Ok(Some(placed))
            }
        }
    }

    /// Turns the granted place into a guard.
    fn take_hold(&mut self) -> Result<Option<HeldLock>, Error> {
        // The session may have ended while the grant was on its way.
        if let State::Lost(reason) = self.shared_session.session().liveness().state() {
            return Err(Error::session_lost(reason));
        }
        let Some(entry) = self.entry.take() else {
            return Err(Error::new(ErrorKind::Internal, "granted without an entry"));
        };
        self.doubt.resolve();
        // The store has the metadata. Only a holder that announces its holds writes them again, so
        // a process with many holds need not keep them for each.
        let announces = self.ticket.metadata.held_unix_ms.is_some();
        let ticket = Ticket {
            name: self.ticket.name.clone(),
            metadata: match announces {
                true => self.ticket.metadata.clone(),
                false => Metadata::none(),
            },
            ..self.ticket
        };
        let observed = self.shared_session.session().liveness().observed();
        let session = self.shared_session.session().id();
        let acquired = self.record.succeed(self.token, session, self.placed);
        let (serial, observed) = (ticket.serial, observed.clone());
        let hold = Hold::new(serial, ticket, entry, self.token, observed, acquired, None);
        self.shared_session.register(&hold);
        let held = HeldLock::new(self.shared_session.clone(), hold, self.is_contended);
        Ok(Some(held))
    }

    /// Removes the entry. Returns whether that is done within [`WITHDRAWAL`].
    async fn withdraw(&mut self) -> bool {
        if !self.may_have_entry() {
            return true;
        }
        let handoff = self.shared_session.handoff();
        let removed = handoff.remove(&self.ticket, self.entry.as_ref());
        let done = tokio::select! {
            removed = removed => removed.is_ok(),
            () = background::sleep(WITHDRAWAL) => false,
        };
        if done {
            self.entry = None;
            self.doubt.resolve();
        }
        done
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        if self.may_have_entry() {
            self.shared_session
                .discard(self.ticket.clone(), self.entry.take());
        }
    }
}
