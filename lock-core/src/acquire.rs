//! An acquire: a place in the queue, and what becomes of it.

use std::sync::Arc;
use std::time::Duration;

use crate::background;
use crate::clock::{BootInstant, Clock};
use crate::entry::{EntryId, Metadata, Ticket};
use crate::error::{Error, ErrorKind};
use crate::guard::Guard;
use crate::hold::Hold;
use crate::janitor::SharedSession;
use crate::liveness::State;
use crate::named::seconds;
use crate::retry::{self, Doubt, RetryPolicy, retry};
use crate::rule::{self, Verdict};
use crate::session::{Admission, Enqueued, Placed};
use crate::token::Token;
use crate::wait;
use crate::wait_limit::WaitLimit;

/// Giving a place up is waited for this long, so that the caller who goes on is not in its own way;
/// then it goes on in the background.
const WITHDRAWAL: Duration = Duration::from_secs(1);

/// An entry that is not a hold yet, or may come to be one. Dropped at any await, it leaves its
/// removal to the janitor.
pub(crate) struct Pending {
    shared_session: Arc<SharedSession>,
    ticket: Ticket,
    entry: Option<EntryId>,
    /// When the coordinator said so.
    placed: Option<BootInstant>,
    /// The entry's, once there is one.
    token: Token,
    /// Whether an `enqueue` is under way, or was made whose outcome is not known.
    doubt: Doubt,
}

/// How a wait ended, other than by an error.
enum Turn {
    Granted,
    /// Somebody else has the lock, and we would have to wait.
    Busy,
    /// The limit is at its end.
    TimeUp,
}

impl Pending {
    pub(crate) fn new(shared_session: Arc<SharedSession>, ticket: Ticket) -> Self {
        Pending {
            shared_session,
            ticket,
            entry: None,
            placed: None,
            token: Token(0),
            doubt: Doubt::default(),
        }
    }

    /// Whether the coordinator ever took us into the queue, or may have.
    pub(crate) fn had_a_place(&self) -> bool {
        self.doubt.remains() || self.entry.is_some()
    }

    /// Waits for the lock; `None` if somebody else has it and the limit is at its end. Who waits
    /// `anew` takes a coordinator that is short of something for one that comes back.
    pub(crate) async fn acquire(
        &mut self,
        limit: WaitLimit,
        anew: bool,
    ) -> Result<Option<Guard>, Error> {
        let shared_session = self.shared_session.clone();
        let turn = tokio::select! {
            biased;
            // First of all: a busy coordinator must not make us overstay.
            () = limit.ended() => Ok(Turn::TimeUp),
            reason = shared_session.session().liveness().lost() => Err(Error::session_lost(reason)),
            turn = self.turn(limit, anew) => turn,
        };
        match turn? {
            Turn::Granted => self.hold(),
            Turn::Busy => {
                self.withdraw().await;
                Ok(None)
            }
            Turn::TimeUp => self.end_of_limit().await,
        }
    }

    /// Gives up, and tells whether others had the lock or nobody could be asked.
    async fn end_of_limit(&mut self) -> Result<Option<Guard>, Error> {
        let unheard = self.shared_session.session().liveness().unheard();
        let unheard = self.placed.map_or(unheard, |placed| {
            unheard.min(Clock::system().now().saturating_since(placed))
        });
        // A coordinator that answers now would have told of a grant, too.
        let answers = self.withdraw().await || unheard < WITHDRAWAL;
        let (name, unheard) = (self.ticket.name.as_str(), seconds(unheard));
        let text = match self.placed {
            Some(_) if answers => return Ok(None),
            Some(_) => format!(
                "the time to wait for {name:?} is over, and the coordinator does not say who has it: it last answered {unheard} before"
            ),
            None => format!(
                "the coordinator did not take us into the queue of {name:?} in the time given: it last answered {unheard} before its end"
            ),
        };
        Err(Error::new(ErrorKind::Unreachable, text))
    }

    async fn turn(&mut self, limit: WaitLimit, anew: bool) -> Result<Turn, Error> {
        let Some(Placed { entry, view, .. }) = self.enqueue(limit, anew).await? else {
            return Ok(Turn::Busy);
        };
        match rule::judge(self.ticket.mode, &view) {
            Verdict::Granted => Ok(Turn::Granted),
            Verdict::Blocked(_) if matches!(limit, WaitLimit::Try(_)) => Ok(Turn::Busy),
            // On the background thread from event to grant: each crossing to another thread would
            // be a part of the time in which nobody holds the lock.
            Verdict::Blocked(_) | Verdict::Evicted => {
                let session = self.shared_session.session().clone();
                // In a box: who need not wait does without room for it.
                let waiting = wait::wait_for_grant(session, self.ticket.clone(), entry, view);
                Box::pin(background::run(waiting)).await?;
                Ok(Turn::Granted)
            }
        }
    }

    /// Takes a place in the queue; `None` if the lock is busy and we would not wait.
    async fn enqueue(&mut self, limit: WaitLimit, anew: bool) -> Result<Option<Placed>, Error> {
        let shared_session = self.shared_session.clone();
        let ticket = self.ticket.clone();
        let ask = rule::ask(ticket.mode);
        let admission = match limit {
            WaitLimit::Try(_) => Admission::IfFree,
            WaitLimit::Until(_) | WaitLimit::Forever => Admission::Always,
        };
        let policy = match limit {
            WaitLimit::Try(_) => RetryPolicy::OfTry,
            WaitLimit::Until(_) | WaitLimit::Forever if anew => RetryPolicy::Endless,
            WaitLimit::Until(_) | WaitLimit::Forever => RetryPolicy::Usual,
        };
        let session = shared_session.session();
        let doubt = &self.doubt;
        let enqueued = retry(policy, || {
            doubt.observe(session.enqueue(&ticket, ask, admission))
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

    fn hold(&mut self) -> Result<Option<Guard>, Error> {
        // A grant that was long on its way may find its session over.
        if let State::Lost(reason) = self.shared_session.session().liveness().state() {
            return Err(Error::session_lost(reason));
        }
        let Some(entry) = self.entry.take() else {
            return Err(Error::new(ErrorKind::Internal, "granted without an entry"));
        };
        self.doubt.resolve();
        // The store has the metadata, and only who announces writes them again: who holds many locks
        // need not keep them for each.
        let announces = self.ticket.metadata.held_unix_ms.is_some();
        let ticket = Ticket {
            name: self.ticket.name.clone(),
            metadata: match announces {
                true => self.ticket.metadata.clone(),
                false => Metadata::none(),
            },
            ..self.ticket
        };
        let hold = Hold::new(ticket, entry, self.token);
        self.shared_session.register(&hold);
        Ok(Some(Guard::new(self.shared_session.clone(), hold)))
    }

    /// Gives the place up; whether that is done.
    async fn withdraw(&mut self) -> bool {
        if !self.had_a_place() {
            return true;
        }
        let session = &**self.shared_session.session();
        let removed = retry::remove(session, &self.ticket, self.entry.as_ref());
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

impl Drop for Pending {
    fn drop(&mut self) {
        if self.had_a_place() {
            self.shared_session
                .discard(self.ticket.clone(), self.entry.take());
        }
    }
}
