//! Retries: how long a failure that may pass is tried again, and what several tries of one
//! operation have done together. Nothing else in the workspace retries a whole operation: a backend
//! makes one attempt and reports what it knows of its effect.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::TryFutureExt;
use tokio::sync::Semaphore;

use crate::background;
use crate::backoff::Backoff;
use crate::clock::{BootInstant, Clock};
use crate::entry::{EntryId, Ticket};
use crate::error::{Effect, Error, ErrorKind, LossReason};
use crate::gate::{Gate, Try};
use crate::liveness::State;
use crate::name::LockName;
use crate::observe::{Observed, ObservedRetries};
use crate::operation::Operation;
use crate::session::{Backend, Removal, Removed, Session};

/// How long a coordinator that is there but short of something is asked again, and how long a
/// `try` asks one that does not answer.
pub(crate) const RETRY_TIME: Duration = Duration::from_secs(5);

/// [`RetryPolicy::Brief`] begins no try later than this after the first one.
const BRIEF_TIME: Duration = Duration::from_secs(4);

/// How long a try that has failed keeps its turn, so that those that take turns do not fail as fast as
/// they can. The gate may be switched off.
const FAILED_TURN: Duration = Duration::from_secs(1);

/// [`RetryPolicy::Brief`] makes so many tries of a request that cannot even be sent. With the
/// pauses in between, they take about half a second where connections are refused at once. Each
/// goes to another server if the coordinator has several.
const UNSENT_TRIES: u32 = 6;

/// How long an operation that fails in a way that may pass is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RetryPolicy {
    /// A few seconds at most: the caller wants to know, or somebody else goes on trying.
    Brief,
    /// [`RETRY_TIME`], and not at all if the coordinator is short of something.
    OfTry,
    /// [`RETRY_TIME`] if the coordinator is short of something. Without a limit if it cannot be
    /// reached: a request may have taken effect, and the coordinator may come back while our
    /// session lives.
    Usual,
    /// As `Usual`, for a place in a queue. Without a limit as soon as a try may have taken one: the place
    /// is kept while the coordinator is short of something, too.
    OfEnqueue,
    /// As long as the session lives: there is a place in a queue to keep, or one was lost before.
    Endless,
}

/// Tries an operation until it succeeds, fails for good, or has failed for too long. Returns the
/// last error then. The caller watches for the end of the session.
pub(crate) async fn retry<T, F>(
    policy: RetryPolicy,
    observed: ObservedRetries<'_>,
    mut attempt: impl FnMut() -> F,
) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    let begun = begin(policy);
    match attempt().await {
        Ok(done) => Ok(done),
        // In a box: an operation that succeeds at once does without the memory.
        Err(error) => {
            let tries = Tries::new(policy, begun, None);
            let attempt = |_| attempt().map_err(Failed::Sent);
            Box::pin(retry_failed(
                None,
                Failed::Sent(error),
                tries,
                observed,
                attempt,
            ))
            .await
        }
    }
}

/// Does the same for an operation whose every try has to pass this gate, and that the caller ends
/// at this instant, if at any. It fails at once if no try can be [expected](Error::retry_after) to
/// succeed before.
pub(crate) async fn retry_through<T, F>(
    gate: &Gate,
    end: Option<BootInstant>,
    policy: RetryPolicy,
    observed: ObservedRetries<'_>,
    mut attempt: impl FnMut() -> F,
) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    let begun = begin(policy);
    match try_through(gate, Try::First, attempt()).await {
        Ok(done) => Ok(done),
        Err(failed) => {
            let tries = Tries::new(policy, begun, end);
            let attempt = |which| try_through(gate, which, attempt());
            Box::pin(retry_failed(Some(gate), failed, tries, observed, attempt)).await
        }
    }
}

/// Does the same for an operation that can wait, for as long as the session lives. Each try takes
/// one of these turns, and none of them counts as a first one. `failed` is how a try ended that was
/// made before, without a turn.
pub(crate) async fn retry_in_turn<T, F>(
    gate: &Gate,
    turns: &Semaphore,
    failed: Option<Error>,
    observed: ObservedRetries<'_>,
    mut attempt: impl FnMut() -> F,
) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    let mut attempt = |which| {
        let attempt = attempt();
        async move {
            // The semaphore is never closed, so there is always a turn.
            let _turn = turns.acquire().await;
            let outcome = try_through(gate, which, attempt).await;
            if let Err(Failed::Sent(error)) = &outcome
                && error.is_retryable()
            {
                background::sleep(FAILED_TURN).await;
            }
            outcome
        }
    };
    let failed = match failed {
        Some(error) => Failed::Sent(error),
        None => match attempt(Try::Again).await {
            Ok(done) => return Ok(done),
            Err(failed) => failed,
        },
    };
    let tries = Tries::new(RetryPolicy::Endless, None, None);
    Box::pin(retry_failed(Some(gate), failed, tries, observed, attempt)).await
}

/// Reads something through this gate, as [`retry_briefly`] does. Fails at once if the coordinator
/// would not be asked now.
pub(crate) async fn read_through<T, F>(gate: &Gate, attempt: impl FnMut() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    gate.check()?;
    let nobody = Observed::nobody().of_retries(Operation::ReadQueue);
    retry_through(gate, None, RetryPolicy::Brief, nobody, attempt).await
}

/// Returns when an operation of this policy begins, if that counts.
fn begin(policy: RetryPolicy) -> Option<BootInstant> {
    (policy == RetryPolicy::Brief).then(|| Clock::system().now())
}

/// Makes one try, if the gate lets it pass.
async fn try_through<T>(
    gate: &Gate,
    which: Try,
    attempt: impl Future<Output = Result<T, Error>>,
) -> Result<T, Failed> {
    let passage = gate.enter(which);
    let passage = passage.map_err(|refusal| Failed::HeldBack(refusal.into_error()))?;
    let outcome = attempt.await;
    passage.end(&outcome);
    outcome.map_err(Failed::Sent)
}

/// How the latest try ended, with the latest error that a request met.
enum Failed {
    Sent(Error),
    /// The gate held the request back.
    HeldBack(Error),
}

impl Failed {
    fn error(&self) -> &Error {
        match self {
            Failed::Sent(error) | Failed::HeldBack(error) => error,
        }
    }

    fn into_error(self) -> Error {
        match self {
            Failed::Sent(error) | Failed::HeldBack(error) => error,
        }
    }

    /// Returns how the operation stands after another try. What a request met says more than that
    /// the next one was not sent.
    fn and_then(self, next: Failed) -> Failed {
        match next {
            Failed::Sent(error) => Failed::Sent(error),
            Failed::HeldBack(refusal) => {
                let pause = refusal.retry_after().unwrap_or_default();
                Failed::HeldBack(self.into_error().with_retry_after(pause))
            }
        }
    }
}

/// Goes on after the first try, which failed.
async fn retry_failed<T, F>(
    gate: Option<&Gate>,
    mut failed: Failed,
    mut tries: Tries,
    observed: ObservedRetries<'_>,
    mut attempt: impl FnMut(Try) -> F,
) -> Result<T, Error>
where
    F: Future<Output = Result<T, Failed>>,
{
    let clock = Clock::system();
    let mut backoff = match tries.policy {
        RetryPolicy::Brief => Backoff::of_brief_retry(),
        RetryPolicy::OfTry | RetryPolicy::Usual | RetryPolicy::OfEnqueue | RetryPolicy::Endless => {
            Backoff::default()
        }
    };
    let mut recovery = gate.map(Gate::recovery);
    loop {
        if !tries.allow_another(&failed, clock.now()) {
            return Err(failed.into_error());
        }
        // Those who were told the same time do not return together.
        let asked = failed.error().retry_after().unwrap_or_default();
        let pause = asked + backoff.next_pause();
        if let Failed::Sent(error) = &failed {
            tracing::debug!(%error, ?pause, "a request will be tried again");
            observed.tell(error, pause);
        }
        match (&failed, &mut recovery) {
            (Failed::HeldBack(_), Some(recovery)) => recovery.wait_at_most(pause).await,
            _ => background::sleep(pause).await,
        }
        let which = match failed.error().kind() {
            ErrorKind::Exhausted => Try::AfterRefusal,
            _ => Try::Again,
        };
        failed = match attempt(which).await {
            Ok(done) => return Ok(done),
            Err(next) => failed.and_then(next),
        };
    }
}

/// The tries of one operation so far.
struct Tries {
    policy: RetryPolicy,
    /// When the first try began. Only a brief retry counts from then: to the others each reading of
    /// the clock would be a cost without a use.
    begun: Option<BootInstant>,
    /// When the caller ends the operation.
    end: Option<BootInstant>,
    failing_since: Option<BootInstant>,
    /// The latest tries in a row that reached no coordinator.
    unsent: u32,
    /// Whether a try may have taken effect.
    may_be_done: bool,
}

impl Tries {
    fn new(policy: RetryPolicy, begun: Option<BootInstant>, end: Option<BootInstant>) -> Self {
        Tries {
            policy,
            begun,
            end,
            failing_since: None,
            unsent: 0,
            may_be_done: false,
        }
    }

    /// Counts a failure, and returns whether the policy allows another try.
    fn allow_another(&mut self, failed: &Failed, now: BootInstant) -> bool {
        let error = failed.error();
        let failing_since = *self.failing_since.get_or_insert(now);
        let earliest = now + error.retry_after().unwrap_or_default();
        if error.retry_after().is_some() && self.end.is_some_and(|end| earliest >= end) {
            return false;
        }
        let failing_briefly = earliest.saturating_since(failing_since) < RETRY_TIME;
        if let Failed::Sent(error) = failed {
            self.may_be_done |= error.effect() == Effect::Unknown;
            self.unsent = match (error.kind(), error.effect()) {
                (ErrorKind::Unreachable, Effect::None) => self.unsent + 1,
                _ => 0,
            };
        }
        match self.policy {
            RetryPolicy::Brief => {
                // Where a coordinator has lost its store, another one serves soon.
                let passing = error.is_retryable()
                    || error.kind() == ErrorKind::SessionLost(LossReason::StoreGone);
                let early = |begun| earliest.saturating_since(begun) < BRIEF_TIME;
                let early = self.begun.is_some_and(early);
                passing && early && self.unsent < UNSENT_TRIES
            }
            RetryPolicy::OfTry => error.kind() == ErrorKind::Unreachable && failing_briefly,
            RetryPolicy::Usual | RetryPolicy::OfEnqueue => {
                let may_have_place = self.policy == RetryPolicy::OfEnqueue && self.may_be_done;
                let for_longer = error.kind() == ErrorKind::Unreachable || may_have_place;
                error.is_retryable() && (for_longer || failing_briefly)
            }
            RetryPolicy::Endless => error.is_retryable(),
        }
    }
}

/// Whether an earlier try of an operation may have done it: the effects of all tries, folded.
#[derive(Debug, Default)]
pub(crate) struct Doubt(AtomicBool);

impl Doubt {
    /// Makes one try and keeps what is known of its effect. The operation is in doubt while a try
    /// is under way, and stays so if this future is dropped.
    pub(crate) async fn observe<T>(
        &self,
        attempt: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        // Only the operation's own task changes this, so the order of other memory is no matter.
        let before = self.0.swap(true, Ordering::Relaxed);
        let outcome = attempt.await;
        let unknown = matches!(&outcome, Err(error) if error.effect() == Effect::Unknown);
        self.0.store(before || unknown, Ordering::Relaxed);
        outcome
    }

    /// Returns whether a try may have taken effect whose outcome is not known.
    pub(crate) fn remains(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Ends the doubt: whatever the tries did has been found out, or undone.
    pub(crate) fn resolve(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    /// Adds the doubt to the error of the last try, which knows of its own effect alone.
    pub(crate) fn apply(&self, error: Error) -> Error {
        match self.remains() {
            true => error.with_effect(Effect::Unknown),
            false => error,
        }
    }

    /// Interprets what the last try of a removal found: an entry that is gone after an earlier try
    /// of unknown effect was removed by that try.
    pub(crate) fn apply_to_removal(&self, found: Removed) -> Removed {
        match self.remains() {
            true => Removed::Removed,
            false => found,
        }
    }
}

/// Tries one call of a [`Backend`] as [`Locks`](crate::Locks) does: for 4 s at most, and about half
/// a second if no request can even be sent. For programs and tests that call a backend by
/// themselves; a backend makes one attempt for each call.
///
/// # Errors
/// Those of the last try.
///
/// # Cancel safety
/// That of the call.
///
/// # Examples
/// ```
/// use lock_core::{Backend, Error, LockName, Queue, retry};
///
/// async fn waiting(backend: &dyn Backend, name: &LockName) -> Result<usize, Error> {
///     let queue: Queue = retry::retry_briefly(|| backend.queue(name)).await?;
///     Ok(queue.entries.len() - queue.holders())
/// }
/// ```
pub async fn retry_briefly<T, F>(attempt: impl FnMut() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    let nobody = Observed::nobody().of_retries(Operation::ReadQueue);
    retry(RetryPolicy::Brief, nobody, attempt).await
}

/// Removes an entry as [`Guard::release`](crate::Guard::release) does: tries for 4 s at most, and
/// returns [`Removed::Removed`] also if an earlier try removed the entry and its reply was lost.
///
/// # Errors
/// Those of the last try.
///
/// # Cancel safety
/// The entry may or may not have been removed. The caller may call again.
pub async fn remove(
    session: &dyn Session,
    ticket: &Ticket,
    entry: Option<&EntryId>,
) -> Result<Removed, Error> {
    let removal = remove_before(session, ticket, entry, &[]).await?;
    Ok(removal.removed)
}

/// Does the same, and returns those of the waiters' entries that the last try found.
pub(crate) async fn remove_before(
    session: &dyn Session,
    ticket: &Ticket,
    entry: Option<&EntryId>,
    waiters: &[EntryId],
) -> Result<Removal, Error> {
    let doubt = Doubt::default();
    let attempt = || doubt.observe(session.remove(ticket, entry, waiters));
    let observed = session.liveness().observed();
    let observed = observed.of_retries(Operation::Release);
    let found = retry(RetryPolicy::Brief, observed, attempt).await?;
    let removed = match session.liveness().state() {
        // The end of the session may have removed the entry before any try did.
        State::Lost(_) => found.removed,
        State::Held | State::Jeopardy => doubt.apply_to_removal(found.removed),
    };
    Ok(Removal { removed, ..found })
}

/// Evicts an entry; see [`Backend::evict`]. An entry that is gone after a try of unknown effect
/// counts as removed.
pub(crate) async fn evict(
    backend: &dyn Backend,
    name: &LockName,
    entry: &EntryId,
) -> Result<Removed, Error> {
    let doubt = Doubt::default();
    let found = retry_briefly(|| doubt.observe(backend.evict(name, entry))).await?;
    Ok(doubt.apply_to_removal(found))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(kind: ErrorKind, effect: Effect) -> Error {
        Error::new(kind, "for a test").with_effect(effect)
    }

    /// Returns the number of tries that a policy allows if each takes this long and fails like
    /// this, up to a thousand.
    fn count_tries(policy: RetryPolicy, each: Duration, kind: ErrorKind, effect: Effect) -> u32 {
        let start = BootInstant::from_nanos(1_000_000_000);
        let mut tries = Tries::new(policy, Some(start), None);
        let failed = |number| start + each * number;
        (1..1000)
            .find(|number| {
                !tries.allow_another(&Failed::Sent(error(kind, effect)), failed(*number))
            })
            .unwrap_or(1000)
    }

    #[test]
    fn a_brief_retry_ends_after_four_seconds_and_sooner_where_nothing_can_be_sent() {
        use Effect::{None, Unknown};
        use ErrorKind::{Exhausted, Refused, Unreachable};
        let brief = |each, kind, effect| {
            count_tries(
                RetryPolicy::Brief,
                Duration::from_millis(each),
                kind,
                effect,
            )
        };
        assert_eq!(brief(10, Unreachable, None), UNSENT_TRIES);
        assert_eq!(brief(1_000, Unreachable, None), 4);
        assert_eq!(brief(10, Unreachable, Unknown), 400);
        assert_eq!(brief(10, Exhausted, None), 400);
        assert_eq!(brief(5_000, Unreachable, Unknown), 1);
        assert_eq!(brief(10, Refused, None), 1);
        let moved = ErrorKind::SessionLost(LossReason::StoreGone);
        assert_eq!(brief(10, moved, Unknown), 400);
        let gone = ErrorKind::SessionLost(LossReason::SessionGone);
        assert_eq!(brief(10, gone, None), 1);
    }

    #[test]
    fn an_acquire_waits_longer_for_a_coordinator_out_of_reach_than_for_one_that_is_short() {
        use ErrorKind::{Exhausted, Refused, Unreachable};
        use RetryPolicy::{Endless, OfEnqueue, OfTry, Usual};
        let each = Duration::from_millis(100);
        for effect in [Effect::None, Effect::Unknown] {
            let tries = |policy, kind| count_tries(policy, each, kind, effect);
            assert_eq!(tries(OfTry, Exhausted), 1);
            assert_eq!(tries(OfTry, Unreachable), 51);
            assert_eq!(tries(Usual, Exhausted), 51);
            assert_eq!(tries(Usual, Unreachable), 1000);
            assert_eq!(tries(OfEnqueue, Unreachable), 1000);
            assert_eq!(tries(Endless, Exhausted), 1000);
            for policy in [OfTry, Usual, OfEnqueue, Endless] {
                assert_eq!(tries(policy, Refused), 1, "{policy:?}");
            }
        }
        assert_eq!(count_tries(OfEnqueue, each, Exhausted, Effect::None), 51);
    }

    #[test]
    fn an_acquire_that_may_have_a_place_keeps_it_while_the_coordinator_is_short() {
        let start = BootInstant::from_nanos(1_000_000_000);
        let minute = start + Duration::from_secs(60);
        let goes_on = |policy, first_effect| {
            let mut tries = Tries::new(policy, None, None);
            let short = |effect| Failed::Sent(error(ErrorKind::Exhausted, effect));
            let begins = tries.allow_another(&short(first_effect), start);
            begins && tries.allow_another(&short(Effect::None), minute)
        };
        assert!(goes_on(RetryPolicy::OfEnqueue, Effect::Unknown));
        assert!(!goes_on(RetryPolicy::OfEnqueue, Effect::None));
        assert!(!goes_on(RetryPolicy::Usual, Effect::Unknown), "a value");
    }

    #[test]
    fn no_try_is_made_that_cannot_be_in_time() {
        let now = BootInstant::from_nanos(1_000_000_000);
        let later = |seconds| {
            let error = error(ErrorKind::Unreachable, Effect::None);
            Failed::Sent(error.with_retry_after(Duration::from_secs(seconds)))
        };
        let may_try = |policy, failed: &Failed| {
            let end = Some(now + Duration::from_secs(3));
            Tries::new(policy, Some(now), end).allow_another(failed, now)
        };
        for policy in [RetryPolicy::Usual, RetryPolicy::Endless, RetryPolicy::OfTry] {
            assert!(may_try(policy, &later(2)), "{policy:?}");
            assert!(!may_try(policy, &later(3)), "{policy:?}");
        }
        let without_end = |policy, failed: &Failed| {
            Tries::new(policy, Some(now), None).allow_another(failed, now)
        };
        assert!(without_end(RetryPolicy::Usual, &later(60)));
        assert!(!without_end(RetryPolicy::Brief, &later(4)));
        assert!(!without_end(RetryPolicy::OfTry, &later(5)));
    }

    #[tokio::test]
    async fn the_next_try_is_not_earlier_than_the_coordinator_asked_for() {
        let asked = Duration::from_millis(100);
        let begun = Clock::system().now();
        let mut tries = 0;
        let attempt = || {
            tries += 1;
            let error = error(ErrorKind::Exhausted, Effect::None);
            let failed = error.with_retry_after(asked);
            std::future::ready(if tries == 1 { Err(failed) } else { Ok(()) })
        };
        let nobody = Observed::nobody().of_retries(Operation::Acquire);
        let done = retry(RetryPolicy::Usual, nobody, attempt).await;
        done.expect("the second try");
        assert!(Clock::system().now() >= begun + asked);
    }

    #[tokio::test]
    async fn a_doubt_stays_over_later_tries_and_over_a_try_that_is_dropped() {
        let doubt = Doubt::default();
        let unsent =
            || std::future::ready(Err::<(), _>(error(ErrorKind::Unreachable, Effect::None)));
        doubt.observe(unsent()).await.expect_err("as made");
        assert!(!doubt.remains());
        assert_eq!(
            doubt.apply_to_removal(Removed::AlreadyGone),
            Removed::AlreadyGone
        );
        let lost = error(ErrorKind::Unreachable, Effect::Unknown);
        let lost = doubt.observe(std::future::ready(Err::<(), _>(lost))).await;
        lost.expect_err("as made");
        let last = doubt.observe(unsent()).await.expect_err("as made");
        assert_eq!(last.effect(), Effect::None);
        assert_eq!(doubt.apply(last).effect(), Effect::Unknown);
        assert_eq!(
            doubt.apply_to_removal(Removed::AlreadyGone),
            Removed::Removed
        );
        doubt.resolve();
        assert!(!doubt.remains());
        let hanging = doubt.observe(std::future::pending::<Result<(), Error>>());
        assert!(futures_util::FutureExt::now_or_never(hanging).is_none());
        assert!(doubt.remains());
    }
}
