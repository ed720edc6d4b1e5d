//! What an acquire asks for.

use std::time::Duration;

use crate::entry::Mode;
use crate::guard_mode::{AnyMode, Exclusive, GuardMode, Shared};
use crate::options::OnSessionLoss;
use crate::wait_limit::WaitLimit;

/// What an acquire asks for: the mode, how long to wait, and what becomes of the wait when the
/// session is lost. The general form of `acquire`, `read`, `write` and their variants.
///
/// The mode decides the type of the guard: [`Guard`](crate::Guard), [`ReadGuard`](crate::ReadGuard)
/// after [`shared`](AcquireOptions::shared), or [`AnyGuard`](crate::AnyGuard) after
/// [`mode`](AcquireOptions::mode).
///
/// ```
/// # futures_executor::block_on(async {
/// # let backend = backend_embedded::EmbeddedBackend::open("embedded:memory").await?;
/// # let locks = lock_core::Locks::new(backend, lock_core::Options::default())?;
/// use std::time::Duration;
/// use lock_core::{AcquireOptions, OnSessionLoss};
///
/// let lock = locks.rwlock("accounts/ledger")?;
/// let patient = AcquireOptions::new()
///     .shared()
///     .timeout(Duration::from_secs(30))
///     .on_session_loss(OnSessionLoss::Requeue);
/// let Some(reader) = lock.acquire_with(patient).await? else {
///     println!("a writer has it");
///     return Ok(());
/// };
/// assert!(lock.acquire_with(AcquireOptions::new().no_wait()).await?.is_none());
/// # drop(reader);
/// # Ok::<(), lock_core::Error>(())
/// # }).unwrap();
/// ```
#[derive(Debug, Clone, Copy)]
#[must_use = "options do nothing before they are given to `acquire_with`"]
pub struct AcquireOptions<M = Exclusive> {
    mode: M,
    wait: Wait,
    on_session_loss: Option<OnSessionLoss>,
}

#[derive(Debug, Clone, Copy)]
enum Wait {
    None,
    AtMost(Duration),
    Forever,
}

impl AcquireOptions {
    /// Returns options that ask for the lock exclusively, wait without a limit, and do on the loss
    /// of the session what the [`Options`](crate::Options) of the locks say.
    pub fn new() -> Self {
        AcquireOptions {
            mode: Exclusive,
            wait: Wait::Forever,
            on_session_loss: None,
        }
    }
}

impl Default for AcquireOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl<M: GuardMode> AcquireOptions<M> {
    /// Asks to hold the lock alone.
    pub fn exclusive(self) -> AcquireOptions<Exclusive> {
        self.with_mode(Exclusive)
    }

    /// Asks to hold the lock together with other readers.
    pub fn shared(self) -> AcquireOptions<Shared> {
        self.with_mode(Shared)
    }

    /// Asks to hold the lock in a mode that is known at run time only.
    pub fn mode(self, mode: Mode) -> AcquireOptions<AnyMode> {
        self.with_mode(AnyMode(mode))
    }

    /// Waits for at most this long.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.wait = Wait::AtMost(limit);
        self
    }

    /// Takes the lock only if it is free: if nobody holds it or waits for it in a conflicting mode.
    pub fn no_wait(mut self) -> Self {
        self.wait = Wait::None;
        self
    }

    /// Does this when the session is lost during the wait, whatever
    /// [`Options::on_session_loss`](crate::Options::on_session_loss) says.
    pub fn on_session_loss(mut self, policy: OnSessionLoss) -> Self {
        self.on_session_loss = Some(policy);
        self
    }

    fn with_mode<N>(self, mode: N) -> AcquireOptions<N> {
        AcquireOptions {
            mode,
            wait: self.wait,
            on_session_loss: self.on_session_loss,
        }
    }

    pub(crate) fn to_mode(&self) -> Mode {
        self.mode.to_mode()
    }

    /// Returns the limit, which counts from now.
    pub(crate) fn to_wait_limit(&self) -> WaitLimit {
        match self.wait {
            Wait::None => WaitLimit::for_try(),
            Wait::AtMost(limit) => WaitLimit::from_duration(limit),
            Wait::Forever => WaitLimit::Forever,
        }
    }

    /// Returns the policy of this acquire, or else that of the locks.
    pub(crate) fn session_loss_policy(&self, default: OnSessionLoss) -> OnSessionLoss {
        self.on_session_loss.unwrap_or(default)
    }
}
