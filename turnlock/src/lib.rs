//! Locks that processes on one or many machines can trust: first come first served, with a fencing
//! token and a deadline on every hold.
//!
//! With the feature `etcd`, a build needs Google's `protoc`: `apt-get install protobuf-compiler`, or
//! `cargo install protox --features bin` and `PROTOC="$HOME/.cargo/bin/protox"` in the environment.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! use turnlock::{Release, State};
//!
//! // In production a URL such as etcd://etcd-1:2379,etcd-2:2379 or embedded:///var/lib/myapp/locks.
//! let locks = turnlock::connect("embedded:memory").await?;
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
//! assert_eq!(guard.release().await, Release::Released);
//! # Ok::<(), turnlock::Error>(())
//! # }).unwrap();
//! ```
//!
//! What is small can be kept in the coordinator, where only the holder of the lock changes it:
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! # let locks = turnlock::connect("embedded:memory").await?;
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
//! token where the damage would be done: the module [`fence`] does, for files and for anything else.
//!
//! # Fork
//!
//! Sessions are renewed on a thread that is started when a lock is first used, and a fork does not
//! take threads along. So the child of a process that has used a lock can use none: everything that
//! asks a coordinator fails there with [`ErrorKind::Forked`] at once, [`Guard::release`] answers
//! [`Release::Unknown`], [`Guard::lost`] resolves, and to drop what was the parent's does nothing.
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
//! One a backend: `embedded` (the default), `etcd` and `zk`. They change which URLs [`connect`] takes,
//! nothing else.

use std::sync::Arc;

pub use lock_core::{
    Backend, Effect, Entry, EntryId, Error, ErrorKind, Guard, LockName, Locks, LossReason,
    Metadata, Mode, Mutex, NameError, NameRule, OnRequeue, OnSessionLoss, Options, Queue, Raised,
    Release, Removed, RwLock, SessionId, State, Token, TokenOffset, clock,
};
pub use lock_core::{DEFAULT_TTL, MAX_TTL, MIN_TTL};

pub use lock_fence as fence;

#[cfg(feature = "embedded")]
pub use backend_embedded as embedded;
#[cfg(feature = "etcd")]
pub use backend_etcd as etcd;
#[cfg(feature = "zk")]
pub use backend_zk as zk;

/// Connects to the coordinator that the URL names, with the default [`Options`].
///
/// - `embedded:///DIR`: the coordinator in this process, durable in the folder DIR, which no other
///   process can open meanwhile.
/// - `embedded:memory`: the same in memory, for tests and for the tasks of one process.
/// - `etcd://HOST[:PORT][,HOST[:PORT]...]`: an etcd cluster, or a `turnlock serve`.
/// - `etcds://HOST[:PORT][,HOST[:PORT]...]`: an etcd cluster, over TLS.
/// - `etcd+unix:///SOCKET`: a `turnlock serve` on this machine.
/// - `zk://HOST[:PORT][,HOST[:PORT]...][/CHROOT]`: a ZooKeeper ensemble.
/// - `zks://HOST[:PORT][,HOST[:PORT]...][/CHROOT]`: a ZooKeeper ensemble, over TLS.
///
/// Connections are opened when they are first needed.
///
/// # Errors
/// [`ErrorKind::Configuration`] if the URL is malformed or names a backend that was not compiled in
/// (the message names the Cargo feature to enable), or the folder cannot be opened.
pub async fn connect(url: &str) -> Result<Locks, Error> {
    connect_with(url, Options::default()).await
}

/// As [`connect`], with these options.
///
/// # Errors
/// As [`connect`]; [`ErrorKind::InvalidArgument`] if an option is out of bounds.
pub async fn connect_with(url: &str, options: Options) -> Result<Locks, Error> {
    Locks::new(backend(url).await?, options)
}

/// The coordinator that the URL names, as [`connect`] takes it: for those who want several sessions
/// on it, each with a [`Locks::new`], or do more with it than hold locks. Does no I/O, except for
/// `embedded:` URLs: else it is ready at once.
///
/// # Errors
/// As [`connect`].
pub async fn backend(url: &str) -> Result<Arc<dyn Backend>, Error> {
    let Some((scheme, rest)) = url.split_once(':') else {
        return Err(malformed(url, "it has no scheme"));
    };
    match scheme {
        #[cfg(feature = "embedded")]
        "embedded" => {
            let _ = rest;
            Ok(backend_embedded::EmbeddedBackend::open(url).await?)
        }
        #[cfg(feature = "etcd")]
        "etcd" | "etcds" | "etcd+unix" => {
            let _ = rest;
            Ok(backend_etcd::EtcdBackend::new(
                backend_etcd::Config::from_url(url)?,
            )?)
        }
        #[cfg(feature = "zk")]
        "zk" | "zks" => {
            let _ = rest;
            Ok(backend_zk::ZkBackend::new(backend_zk::Config::from_url(
                url,
            )?)?)
        }
        #[cfg(not(feature = "embedded"))]
        "embedded" => Err(not_compiled_in(url, rest, "embedded")),
        #[cfg(not(feature = "etcd"))]
        "etcd" | "etcds" | "etcd+unix" => Err(not_compiled_in(url, rest, "etcd")),
        #[cfg(not(feature = "zk"))]
        "zk" | "zks" => Err(not_compiled_in(url, rest, "zk")),
        _ => Err(malformed(
            url,
            &format!("the scheme {scheme:?} is not known"),
        )),
    }
}

/// The URL without what stands before an `@`, which may be a password.
fn shown(url: &str) -> String {
    let scheme = url.find("://").map_or(0, |i| i + 3);
    match url.rfind('@') {
        Some(at) => format!("{}...{}", url.get(..scheme).unwrap_or(""), &url[at..]),
        None => url.to_owned(),
    }
}

fn malformed(url: &str, why: &str) -> Error {
    let url = shown(url);
    Error::new(
        ErrorKind::Configuration,
        format!(
            "the backend URL {url:?} is not valid: {why}; give embedded:///DIR, embedded:memory, etcd://HOST:PORT, etcds://HOST:PORT, etcd+unix:///SOCKET, zk://HOST:PORT or zks://HOST:PORT"
        ),
    )
}

#[cfg(not(all(feature = "embedded", feature = "etcd", feature = "zk")))]
fn not_compiled_in(url: &str, _: &str, feature: &str) -> Error {
    let url = shown(url);
    Error::new(
        ErrorKind::Configuration,
        format!("the backend of {url:?} was not compiled in: enable the Cargo feature `{feature}`"),
    )
}

/// Compiles the README's example with the others.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

/// Compiles the example of the page about fencing with the others.
#[cfg(doctest)]
#[doc = include_str!("../../docs/files-and-fencing.md")]
struct FilesAndFencing;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bad_urls_name_the_input_and_the_remedy() {
        for url in [
            "",
            "nowhere",
            "redis://x",
            "embedded:relative",
            "embedded://host/x",
        ] {
            let error = connect(url).await.expect_err(url);
            assert_eq!(error.kind(), ErrorKind::Configuration);
            let text = error.to_string();
            assert!(text.contains(&format!("{url:?}")), "{text}");
        }
    }

    #[tokio::test]
    async fn what_may_be_a_password_is_not_shown() {
        for url in ["u:secret@h", "redis://u:secret@h"] {
            let text = connect(url).await.expect_err(url).to_string();
            assert!(!text.contains("secret") && text.contains("@h"), "{text}");
        }
    }

    #[cfg(not(feature = "etcd"))]
    #[tokio::test]
    async fn a_backend_not_compiled_in_names_its_feature() {
        let error = connect("etcd://localhost")
            .await
            .expect_err("not compiled in");
        assert!(error.to_string().contains("`etcd`"), "{error}");
    }
}
