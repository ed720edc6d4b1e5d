//! The guards of held locks.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use crate::clock::BootInstant;
use crate::entry::{EntryId, Mode};
#[cfg(doc)]
use crate::error::{Effect, ErrorKind};
use crate::error::{Error, LossReason};
use crate::guard_mode::{AnyMode, Exclusive, GuardMode, Shared};
use crate::held_lock::{HeldLock, Release};
use crate::liveness::State;
use crate::name::LockName;
use crate::token::Token;

/// A held lock: exclusively by default, together with other readers as a [`ReadGuard`], or either
/// way as an [`AnyGuard`].
///
/// Dropping a guard releases the lock in the background; [`release`](Guard::release) waits for it
/// and returns how that went. A process that ends right after the drop takes the background thread
/// with it, and the lock stays taken for the time to live: end with `release`, or with
/// [`Locks::close`](crate::Locks::close).
///
/// While the guard lives, the session is renewed on a thread of its own, even while the user's
/// executor is blocked. Two holders can both believe to hold the lock only if the coordinator
/// breaks its lease contract, or a clock or process breaks the stated bounds
/// ([`clock::DRIFT`](crate::clock::DRIFT), [`clock::MARGIN`](crate::clock::MARGIN)). Writes are
/// ordered for certain only by a resource that checks the [`token`](Guard::token).
///
/// ```
/// # futures_executor::block_on(async {
/// # let backend = backend_embedded::EmbeddedBackend::open("embedded:memory").await?;
/// # let locks = lock_core::Locks::new(backend, lock_core::Options::default())?;
/// use lock_core::Release;
///
/// let guard = locks.mutex("accounts/ledger")?.acquire().await?;
/// println!("held for {:?} at least, with token {}", guard.remaining(), guard.token());
/// if let Release::AlreadyGone = guard.release().await? {
///     panic!("another may have written meanwhile");
/// }
/// # Ok::<(), lock_core::Error>(())
/// # }).unwrap();
/// ```
#[must_use = "the lock is released when the guard is dropped"]
pub struct Guard<M = Exclusive> {
    held: HeldLock,
    mode: PhantomData<M>,
}

/// A lock held together with other readers, as [`RwLock::read`](crate::RwLock::read) returns it.
///
/// Readers have no order among each other, so a reader can change no value and has no fencing token
/// that a resource would accept:
///
/// ```compile_fail,E0599
/// async fn change(guard: &lock_core::ReadGuard) {
///     guard.put("accounts/total", "7").await.unwrap();
/// }
/// ```
pub type ReadGuard = Guard<Shared>;

/// A lock held in a mode that was chosen at run time: see
/// [`AcquireOptions::mode`](crate::AcquireOptions::mode). Both other guards convert into it.
pub type AnyGuard = Guard<AnyMode>;

impl<M: GuardMode> Guard<M> {
    pub(crate) fn new(held: HeldLock) -> Self {
        Guard {
            held,
            mode: PhantomData,
        }
    }

    /// Returns the identity of this holder's entry in the queue: what
    /// [`Locks::evict`](crate::Locks::evict) takes to remove it should this process die.
    pub fn entry(&self) -> &EntryId {
        self.held.hold().entry()
    }

    /// Returns the fencing token, which is higher than that of every earlier grant of this lock. The
    /// holds that one process has of a [sticky](crate::Mutex::sticky) lock without giving it up are
    /// one grant, and share its token.
    pub fn token(&self) -> Token {
        self.held.hold().token()
    }

    /// Returns which hold with this token it is, from 0 on. It is above 0 only for a
    /// [sticky](crate::Mutex::sticky) lock that this process took again without giving it up. The
    /// token orders the holds of different processes; token and turn together order all holds.
    pub fn turn(&self) -> u64 {
        self.held.turn()
    }

    /// Returns the name of the lock.
    pub fn name(&self) -> &LockName {
        &self.held.hold().ticket().name
    }

    /// Returns how the lock is held.
    pub fn mode(&self) -> Mode {
        self.held.hold().ticket().mode
    }

    /// Returns the state of the hold now, by the clock and by all that the coordinator has
    /// reported. Costs no round trip. A hold that was lost once stays lost.
    pub fn state(&self) -> State {
        self.held.state()
    }

    /// Returns the time for which the lock is certainly held if nothing is renewed from now on;
    /// zero once it is lost.
    pub fn remaining(&self) -> Duration {
        self.deadline().map_or(Duration::ZERO, |deadline| {
            let now = self.held.liveness().clock().now();
            deadline.saturating_since(now)
        })
    }

    /// Returns the time to live that the coordinator granted, which may be less or more than
    /// [`Options::ttl`](crate::Options::ttl) asked for. Without a renewal the lock is free so long
    /// after the last one.
    pub fn ttl(&self) -> Duration {
        self.held.liveness().ttl()
    }

    /// Returns the least that [`remaining`](Guard::remaining) ever is while every renewal is
    /// answered at once. What is to be done between the first sign of trouble and the deadline must
    /// fit into this time.
    pub fn min_remaining(&self) -> Duration {
        self.held.liveness().min_remaining()
    }

    /// Returns the instant up to which the coordinator cannot have given the lock to anybody else,
    /// as proven so far. Renewals move it on. `None` once the lock is lost.
    pub fn deadline(&self) -> Option<BootInstant> {
        match self.held.hold().loss() {
            Some(_) => None,
            None => self.held.liveness().deadline(),
        }
    }

    /// Waits until the lock is lost, and returns the reason. It resolves at the deadline at the
    /// latest, and earlier if the coordinator reports that the session or the entry is gone.
    ///
    /// # Cancel safety
    /// Cancel safe: it changes nothing.
    ///
    /// ```
    /// # futures_executor::block_on(async {
    /// # let backend = backend_embedded::EmbeddedBackend::open("embedded:memory").await?;
    /// # let locks = lock_core::Locks::new(backend, lock_core::Options::default())?;
    /// # let guard = locks.mutex("nightly")?.acquire().await?;
    /// # async fn work() {}
    /// tokio::select! {
    ///     reason = guard.lost() => println!("stopped, because {reason}"),
    ///     () = work() => println!("done"),
    /// }
    /// # Ok::<(), lock_core::Error>(())
    /// # }).unwrap();
    /// ```
    pub async fn lost(&self) -> LossReason {
        self.held.lost().await
    }

    /// Returns the value at this key, read while the lock is certainly held. One round trip.
    ///
    /// If the reply to an earlier write of this guard was lost, the read settles whether that was
    /// made. On etcd, it then writes the session's own key, and may take two round trips.
    ///
    /// # Errors
    /// - [`ErrorKind::SessionLost`] or [`ErrorKind::Evicted`]: the lock is lost.
    /// - [`ErrorKind::InvalidArgument`]: the key breaks a rule of lock names.
    /// - [`ErrorKind::Refused`]: the coordinator denies the access.
    ///
    /// A coordinator that does not answer is asked again for as long as the lock is held.
    ///
    /// # Cancel safety
    /// Cancel safe: it changes no value.
    pub async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        self.held.get(key).await
    }

    /// Records in the entry that the lock is held since now, for everybody who looks at the queue.
    /// An entry by itself shows only when it was queued. One write, to be made after a long wait by
    /// clients whose [`Options::announces`](crate::Options::announces) is set. No caller needs to
    /// wait for it.
    ///
    /// # Errors
    /// - [`ErrorKind::InvalidArgument`]: the option is not set.
    /// - [`ErrorKind::SessionLost`] or [`ErrorKind::Evicted`]: the lock is lost.
    /// - [`ErrorKind::Unreachable`] or [`ErrorKind::Refused`]: the coordinator does not answer, or
    ///   denies the write. It is not tried again.
    ///
    /// # Cancel safety
    /// Cancel safe: the entry may or may not show it.
    pub async fn announce(&self) -> Result<(), Error> {
        self.held.announce().await
    }

    /// Gives the lock back, and returns what the coordinator found. One round trip, or none for a
    /// [sticky](crate::Mutex::sticky) lock that is kept.
    ///
    /// # Errors
    /// - [`ErrorKind::Unreachable`], [`ErrorKind::Exhausted`] (those that [are
    ///   retryable](Error::is_retryable)) and [`ErrorKind::SessionLost`]: it is not known whether
    ///   the lock is free. The release goes on in the background until it is done or the session is
    ///   over.
    /// - Any other kind, such as [`ErrorKind::Refused`]: the coordinator denies the release. The
    ///   lock stays taken until the session ends: [`Locks::close`](crate::Locks::close) ends it.
    /// - [`ErrorKind::Forked`]: this is a forked child, and the lock is the parent's.
    ///
    /// # Cancel safety
    /// Dropped at any await, the release goes on in the background.
    pub async fn release(self) -> Result<Release, Error> {
        self.held.release().await
    }
}

impl Guard {
    /// Stores a value in the coordinator, where everybody can read it with
    /// [`Locks::get`](crate::Locks::get). The write is one transaction with the proof that the lock
    /// is still held, so a holder that was paused changes nothing after it has lost the lock. One
    /// round trip; on ZooKeeper a few for the first value at a key.
    ///
    /// Any lock can guard any key: let every writer of a key hold the same lock. A key
    /// is 1 to 1,024 bytes, by the rules of lock names; a value at most
    /// [`MAX_VALUE_BYTES`](crate::data::MAX_VALUE_BYTES).
    ///
    /// A request whose answer is lost is sent again for as long as the lock is held. That makes no
    /// difference, because nobody else can have written meanwhile, and the accesses of one guard
    /// are made one after another.
    ///
    /// # Errors
    /// - [`ErrorKind::SessionLost`] or [`ErrorKind::Evicted`]: the lock is lost. Nothing was
    ///   changed after that, and with [`Effect::None`] nothing at all.
    /// - [`ErrorKind::InvalidArgument`]: the key or the value breaks a limit. Nothing was sent.
    /// - [`ErrorKind::Refused`]: the coordinator denies the write.
    ///
    /// # Cancel safety
    /// Dropped at any await, the write may have been made, or may yet be made as long as the lock
    /// is held, but not after a later access of this guard has returned.
    ///
    /// ```
    /// # futures_executor::block_on(async {
    /// # let backend = backend_embedded::EmbeddedBackend::open("embedded:memory").await?;
    /// # let locks = lock_core::Locks::new(backend, lock_core::Options::default())?;
    /// let guard = locks.mutex("nightly")?.acquire().await?;
    /// guard.put("nightly/done", "2026-11-25").await?;
    /// assert_eq!(guard.get("nightly/done").await?.as_deref(), Some(&b"2026-11-25"[..]));
    /// guard.delete("nightly/done").await?;
    /// assert_eq!(locks.get("nightly/done").await?, None);
    /// # Ok::<(), lock_core::Error>(())
    /// # }).unwrap();
    /// ```
    pub async fn put(&self, key: &str, value: impl AsRef<[u8]>) -> Result<(), Error> {
        self.held.put(key, value.as_ref()).await
    }

    /// Removes the value at this key, if there is one, under the same proof as [`put`](Guard::put).
    /// One round trip.
    ///
    /// # Errors
    /// The kinds of [`put`](Guard::put).
    ///
    /// # Cancel safety
    /// That of [`put`](Guard::put).
    pub async fn delete(&self, key: &str) -> Result<(), Error> {
        self.held.delete(key).await
    }
}

impl From<Guard> for AnyGuard {
    fn from(guard: Guard) -> Self {
        Guard::new(guard.held)
    }
}

/// Returns the guard itself as the error if it holds the lock together with other readers.
impl TryFrom<AnyGuard> for Guard {
    type Error = AnyGuard;

    fn try_from(guard: AnyGuard) -> Result<Self, AnyGuard> {
        match guard.mode() {
            Mode::Exclusive => Ok(Guard::new(guard.held)),
            Mode::Shared => Err(guard),
        }
    }
}

impl From<ReadGuard> for AnyGuard {
    fn from(guard: ReadGuard) -> Self {
        Guard::new(guard.held)
    }
}

impl<M: GuardMode> fmt::Debug for Guard<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard")
            .field("name", self.name())
            .field("mode", &self.mode())
            .field("token", &self.token())
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}
