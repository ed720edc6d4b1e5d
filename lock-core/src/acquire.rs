//! The one waiting loop: enqueue, judge, wait for a change, look, judge again.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt, OptionFuture};

use crate::background;
use crate::backoff::Backoff;
use crate::entry::{EntryId, Ticket};
use crate::error::{Error, ErrorKind};
use crate::guard::{Guard, Hold};
use crate::janitor::Tenancy;
use crate::liveness::State;
use crate::rule::{self, Verdict};

/// A watch event can be lost in the store: a wait looks again by itself this often (up to twice it,
/// at random).
const BACKSTOP: Duration = Duration::from_secs(5);

/// How long to wait for a turn.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Patience {
    Try,
    For(Duration),
    Forever,
}

/// An entry that is not a hold yet. Dropped at any await, it leaves its removal to the janitor.
struct Pending<'a> {
    tenancy: &'a Arc<Tenancy>,
    ticket: Option<Ticket>,
    entry: Option<EntryId>,
}

impl Pending<'_> {
    fn granted(mut self, ticket: Ticket, entry: EntryId) -> Result<Option<Guard>, Error> {
        // A grant that was long on its way may find its session over.
        if let State::Lost(reason) = self.tenancy.session().liveness().state() {
            return Err(Error::session_lost(reason));
        }
        self.ticket = None;
        let hold = Hold::new(ticket, entry);
        self.tenancy.register(&hold);
        Ok(Some(Guard::new(self.tenancy.clone(), hold)))
    }

    /// Gives the place up: once, here, so that the caller who goes on is not in its own way; else
    /// the janitor does it.
    async fn withdraw(mut self, ticket: &Ticket, entry: &EntryId) -> Result<Option<Guard>, Error> {
        if self
            .tenancy
            .session()
            .remove(ticket, Some(entry))
            .await
            .is_ok()
        {
            self.ticket = None;
        }
        Ok(None)
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.tenancy.discard(ticket, self.entry.take());
        }
    }
}

pub(crate) async fn acquire(
    tenancy: &Arc<Tenancy>,
    ticket: Ticket,
    patience: Patience,
) -> Result<Option<Guard>, Error> {
    let session = tenancy.session();
    let ask = rule::ask(ticket.mode);
    let mut timeout = pin!(OptionFuture::from(match patience {
        Patience::For(limit) => Some(background::sleep(limit)),
        Patience::Try | Patience::Forever => None,
    }));
    let mut pending = Pending {
        tenancy,
        ticket: Some(ticket.clone()),
        entry: None,
    };

    let enqueued = tokio::select! {
        biased;
        enqueued = persist(tenancy, || session.enqueue(&ticket, ask)) => enqueued?,
        Some(()) = &mut timeout => return Err(Error::new(
            ErrorKind::Unreachable,
            format!("the coordinator did not take us into the queue of {:?} in time", ticket.name.as_str()),
        )),
    };
    let entry = enqueued.entry;
    pending.entry = Some(entry.clone());

    let mut view = enqueued.view;
    let mut watch: Option<(EntryId, BoxFuture<'_, Result<(), Error>>)> = None;
    let mut backoff = Backoff::default();
    loop {
        let blocker = match rule::judge(ticket.mode, &view) {
            Verdict::Granted => return pending.granted(ticket, entry),
            Verdict::Blocked(blocker) => blocker,
            Verdict::Evicted => {
                return Err(Error::new(
                    ErrorKind::Evicted,
                    format!(
                        "our entry in the queue of {:?} was removed while we waited",
                        ticket.name.as_str()
                    ),
                ));
            }
        };
        if let Patience::Try = patience {
            return pending.withdraw(&ticket, &entry).await;
        }
        // A watch that is still good is kept over the looks of the backstop.
        let changed = match &mut watch {
            Some((watched, changed)) if *watched == blocker => changed,
            stale => {
                let entries = [entry.clone(), blocker.clone()];
                let changed = async move { session.changed(&entries).await }.boxed();
                &mut stale.insert((blocker, changed)).1
            }
        };
        let outcome = tokio::select! {
            biased;
            reason = session.liveness().lost() => return Err(Error::session_lost(reason)),
            outcome = changed => Some(outcome),
            Some(()) = &mut timeout => return pending.withdraw(&ticket, &entry).await,
            () = background::sleep(BACKSTOP.mul_f64(1.0 + fastrand::f64())) => None,
        };
        if let Some(outcome) = outcome {
            watch = None;
            match outcome {
                Ok(()) => backoff = Backoff::default(),
                Err(error) if error.is_retryable() => {
                    tracing::debug!(%error, lock = %ticket.name, "a wait was interrupted");
                    background::sleep(backoff.next_pause()).await;
                }
                Err(error) => return Err(error),
            }
        }
        view = tokio::select! {
            biased;
            looked = persist(tenancy, || session.look(&ticket, &entry, ask)) => looked?,
            Some(()) = &mut timeout => return pending.withdraw(&ticket, &entry).await,
        };
    }
}

/// Tries until it succeeds, fails for good, or the session is lost.
async fn persist<T, F>(tenancy: &Tenancy, mut attempt: impl FnMut() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    let liveness = tenancy.session().liveness();
    let mut backoff = Backoff::default();
    loop {
        let outcome = tokio::select! {
            biased;
            outcome = attempt() => outcome,
            reason = liveness.lost() => return Err(Error::session_lost(reason)),
        };
        match outcome {
            Err(error) if error.is_retryable() => {
                tracing::debug!(%error, "a request will be tried again");
                tokio::select! {
                    () = background::sleep(backoff.next_pause()) => {}
                    reason = liveness.lost() => {
                        return Err(Error::session_lost(reason).with_source(error));
                    }
                }
            }
            settled => return settled,
        }
    }
}

/// Opens something with the same patience as the rest of an acquire.
pub(crate) async fn within<T>(
    patience: Patience,
    opening: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    match patience {
        Patience::For(limit) => tokio::select! {
            biased;
            opened = opening => opened,
            () = background::sleep(limit) => Err(Error::new(
                ErrorKind::Unreachable,
                format!("the coordinator did not open a session within {limit:?}"),
            )),
        },
        Patience::Try | Patience::Forever => opening.await,
    }
}
