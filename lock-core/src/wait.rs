//! The one waiting loop: wait for a change, look, judge.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};

use crate::background;
use crate::backoff::Backoff;
use crate::entry::{EntryId, Ticket};
use crate::error::{Error, ErrorKind};
use crate::retry::{RetryPolicy, retry};
use crate::rule::{self, Verdict, View};
use crate::session::{AsOf, Session};

/// A watch event can be lost in the store: a wait looks again by itself this often (up to twice it,
/// at random).
const BACKSTOP: Duration = Duration::from_secs(5);

/// Behind one blocker for longer than this, a waiter watches its own entry too. A lock that is
/// handed over faster is not worth the requests.
const OWN_WATCH: Duration = Duration::from_millis(50);

/// Waits until it is this entry's turn, from what was seen of the queue when it was made.
pub(crate) async fn wait_for_grant(
    session: Arc<dyn Session>,
    ticket: Ticket,
    entry: EntryId,
    mut view: View,
) -> Result<(), Error> {
    let session = &*session;
    let ask = rule::ask(ticket.mode);
    let mut watch: Option<(EntryId, BoxFuture<'_, Result<(), Error>>)> = None;
    let mut backoff = Backoff::default();
    loop {
        let blocker = match rule::judge(ticket.mode, &view) {
            Verdict::Granted => return Ok(()),
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
        // A watch that is still good is kept over the looks of the backstop.
        let changed = match &mut watch {
            Some((watched, changed)) if *watched == blocker => changed,
            stale => {
                let changed = changed(session, entry.clone(), blocker.clone()).boxed();
                &mut stale.insert((blocker.clone(), changed)).1
            }
        };
        let woken = tokio::select! {
            biased;
            changed = changed => Some(changed),
            () = background::sleep(BACKSTOP.mul_f64(1.0 + fastrand::f64())) => None,
        };
        let mut as_of = AsOf::Now;
        if let Some(changed) = woken {
            watch = None;
            match changed {
                Err(error) if !error.is_retryable() => return Err(error),
                Err(error) => {
                    tracing::debug!(%error, lock = %ticket.name, "a wait was interrupted");
                    background::sleep(backoff.next_pause()).await;
                }
                Ok(()) => as_of = AsOf::Change,
            }
        }
        view = retry(RetryPolicy::Endless, || {
            session.look(&ticket, &entry, ask, as_of)
        })
        .await?;
        // Woken for nothing: allowed, but not as fast as we can.
        match rule::judge(ticket.mode, &view) {
            Verdict::Blocked(still) if still == blocker && watch.is_none() => {
                background::sleep(backoff.next_pause()).await;
            }
            _ => backoff = Backoff::default(),
        }
    }
}

/// Resolves when our own entry or the one that we wait for is gone.
async fn changed(session: &dyn Session, own: EntryId, blocker: EntryId) -> Result<(), Error> {
    let evicted = async {
        background::sleep(OWN_WATCH).await;
        session.changed(&own, &own).await
    };
    tokio::select! {
        changed = session.changed(&blocker, &own) => changed,
        changed = evicted => changed,
    }
}
