//! Locks that processes on one or many machines can trust: first come first served, with a fencing
//! token and a deadline on every hold.
//!
//! With the feature `etcd`, a build needs Google's `protoc`: `apt-get install protobuf-compiler`,
//! or `cargo install protox --features bin` and `PROTOC="$HOME/.cargo/bin/protox"` in the
//! environment.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! use turnlock::{Release, State};
//!
//! // In production a URL such as etcd://etcd-1:2379,etcd-2:2379 or embedded:///var/lib/myapp/locks.
//! let locks = turnlock::connect("embedded:memory")?;
//! let ledger = locks.mutex("accounts/ledger")?;
//!
//! let guard = ledger.acquire().await?;
//! // Hand the token along with every write; the resource refuses a lower one than it has seen.
//! println!("ours, with token {}, for {:?} at least", guard.token(), guard.remaining());
//! assert_eq!(guard.state(), State::Held);
//! tokio::select! {
//!     reason = guard.lost() => panic!("stop writing: {reason}"),
//!     () = async { /* the work */ } => {}
//! }
//! assert_eq!(guard.release().await?, Release::Released);
//! # Ok::<(), turnlock::Error>(())
//! # }).unwrap();
//! ```
//!
//! What is small can be kept in the coordinator, where only the holder of the lock changes it:
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! # let locks = turnlock::connect("embedded:memory")?;
//! let guard = locks.mutex("nightly")?.acquire().await?;
//! guard.put("nightly/done", "2026-11-25").await?;
//! // By anybody, with or without a lock.
//! assert_eq!(locks.get("nightly/done").await?.as_deref(), Some(&b"2026-11-25"[..]));
//! # Ok::<(), turnlock::Error>(())
//! # }).unwrap();
//! ```
//!
//! # What is promised, and what is not
//!
//! Writes that a resource accepts by token are ordered by token, always. Two holders believe at
//! once only if the coordinator breaks its lease contract, or a clock or process breaks the stated
//! bounds ([`clock::DRIFT`], [`clock::MARGIN`]): no lock over a network can do better, so check the
//! token where the damage would be done: the module [`fence`] does, for files and for anything
//! else.
//!
//! # Fork
//!
//! Sessions are renewed on a thread that is started when a lock is first used, and a fork does not
//! take threads along. So the child of a process that has used a lock can use none: everything that
//! asks a coordinator, [`Guard::release`] too, fails there with [`ErrorKind::Forked`] at once,
//! [`Guard::lost`] resolves, and to drop what was the parent's does nothing.
//! The locks stay the parent's. A process that turns into a daemon forks before it uses a lock; a
//! child that executes a program, as [`std::process::Command`] has it, starts anew and is not
//! meant. A future that was polled before the fork must not be polled in the child.
//!
//! # Short of descriptors or threads
//!
//! Where the operating system refuses the thread or its descriptors, the first use of a lock fails
//! with [`ErrorKind::Exhausted`], and a later one tries again.
//!
//! # Features
//!
//! One a backend: `embedded` (the default), `etcd` and `zk`. They change which URLs [`connect`]
//! takes, nothing else. `prometheus` adds the metrics of the module of that name, and `otel` that
//! which puts locks into the traces of OpenTelemetry.

pub mod blocking;
#[macro_use]
pub mod registry;

use std::sync::Arc;

pub use lock_core::{
    AcquireOptions, AnyGuard, Backend, Effect, Entry, EntryId, Error, ErrorKind, Guard,
    Incarnation, Liveness, LockName, Locks, LossReason, Metadata, Mode, Mutex, NameError, NameRule,
    OnRequeue, OnSessionLoss, Operation, Options, Queue, Raised, ReadGuard, Release, Removed,
    RwLock, SessionId, State, Sticky, StickyStats, Token, TokenOffset, clock, data, guard_mode,
    nesting, observe, rule,
};
pub use lock_core::{DEFAULT_TTL, MAX_TTL, MIN_TTL};

pub use lock_fence as fence;

#[cfg(feature = "otel")]
pub use observe_otel as otel;
#[cfg(feature = "prometheus")]
pub use observe_prometheus as prometheus;

#[cfg(feature = "embedded")]
pub use backend_embedded as embedded;
#[cfg(feature = "etcd")]
pub use backend_etcd as etcd;
#[cfg(feature = "zk")]
pub use backend_zk as zk;

/// Returns the locks of the coordinator that the URL names, with the default [`Options`]:
///
#[doc = rows!(list)]
///
/// Does no I/O and needs no executor: connections and folders are opened when they are first
/// needed.
///
/// # Errors
/// [`ErrorKind::Configuration`] if the URL is malformed or names a backend that was not compiled
/// in; the message names the Cargo feature to enable. The first request fails with the same kind if
/// the folder of an `embedded:` URL cannot be opened.
pub fn connect(url: &str) -> Result<Locks, Error> {
    connect_with(url, Options::default())
}

/// Returns the locks of the coordinator that the URL names, with these options.
///
/// # Errors
/// As [`connect`]; [`ErrorKind::InvalidArgument`] if an option is out of bounds.
pub fn connect_with(url: &str, options: Options) -> Result<Locks, Error> {
    Locks::new(backend(url)?, options)
}

/// Returns the coordinator that the URL names, as [`connect`] takes it: for programs that want
/// several sessions on it, each with a [`Locks::new`]. Does no I/O.
///
/// ```
/// use turnlock::{Locks, Options};
///
/// let backend = turnlock::backend("embedded:memory")?;
/// let one = Locks::new(backend.clone(), Options::default())?;
/// let other = Locks::new(backend, Options::default())?;
/// # Ok::<(), turnlock::Error>(())
/// ```
///
/// # Errors
/// As [`connect`].
pub fn backend(url: &str) -> Result<Arc<dyn Backend>, Error> {
    registry::open(url)
}

/// Compiles the README's example with the others.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

/// Compiles the example of the page about fencing with the others.
#[cfg(doctest)]
#[doc = include_str!("../../docs/files-and-fencing.md")]
struct FilesAndFencing;

/// Compiles the example of the page about sticky locks with the others.
#[cfg(doctest)]
#[doc = include_str!("../../docs/sticky-locks.md")]
struct StickyLocks;

/// Compiles the example of this crate's README with the others.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct CrateReadme;
