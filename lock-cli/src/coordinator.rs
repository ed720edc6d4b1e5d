//! Which coordinator the command talks to: the one that a URL names, that of the machine, or the
//! user's own.

#[cfg(feature = "conformance")]
use std::sync::Arc;

#[cfg(feature = "bench")]
use load::Target;
#[cfg(feature = "conformance")]
use turnlock::Backend;
#[cfg(feature = "conformance")]
use turnlock::registry::Scheme;
use turnlock::{Locks, Options};

use crate::exit::{Exit, Failure};

#[cfg(feature = "embedded")]
pub mod daemon;
#[cfg(feature = "embedded")]
pub mod ending;
#[cfg(feature = "embedded")]
pub mod folder;
#[cfg(feature = "embedded")]
pub mod local;
#[cfg(feature = "embedded")]
pub mod log;
pub mod machine;
#[cfg(feature = "embedded")]
pub mod others;
#[cfg(feature = "embedded")]
pub mod place;
#[cfg(feature = "embedded")]
pub mod system;

/// Which coordinator a command uses.
#[derive(Debug)]
pub enum Choice {
    /// The one that a URL names, and where that URL stands.
    Named(String, By),
    /// The user's own on this machine.
    Own,
}

/// Who named a coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// An option, or `TURNLOCK_BACKEND`.
    User,
    /// [`machine::FILE`].
    Machine,
}

/// The coordinator of this URL, or else of `TURNLOCK_HOME`, or else of the machine, or else the user's
/// own. Nobody is asked: where a coordinator is down, no other one is used.
pub fn choose(url: Option<&str>) -> Result<Choice, Failure> {
    if let Some(url) = url {
        return Ok(Choice::Named(url.to_owned(), By::User));
    }
    if std::env::var_os("TURNLOCK_HOME").is_some_and(|dir| !dir.is_empty()) {
        return Ok(Choice::Own);
    }
    Ok(match machine::url()? {
        Some(url) => Choice::Named(url, By::Machine),
        None => Choice::Own,
    })
}

/// This URL, or else that of the machine's coordinator, where no folder is named; `None` for the user's
/// own.
#[cfg(feature = "conformance")]
pub fn url(given: Option<&str>) -> Result<Option<String>, Failure> {
    Ok(match choose(given)? {
        Choice::Named(url, _) => Some(url),
        Choice::Own => None,
    })
}

/// A client of the coordinator of this URL, or of the machine's or the user's own, in the namespace of
/// this name below the one that locks are in. The name needs no escaping.
#[cfg(feature = "conformance")]
pub fn backend_below(url: Option<&str>, name: &str) -> Result<Arc<dyn Backend>, Failure> {
    let url = match choose(url)? {
        Choice::Named(url, _) => url,
        Choice::Own => return own_below(name),
    };
    refuse_in_process(&url)?;
    let url = below(&url, name);
    Ok(turnlock::backend(&url)?)
}

/// The URL with another namespace.
#[cfg(feature = "conformance")]
pub fn below(url: &str, name: &str) -> String {
    let (place, query) = url.split_once('?').unwrap_or((url, ""));
    let (mut namespace, mut parameters) = ("turnlock", String::new());
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        match parameter.strip_prefix("namespace=") {
            Some(given) => namespace = given,
            None => parameters.push_str(&format!("{parameter}&")),
        }
    }
    // An `@` would be taken for the end of a password.
    let name = name.replace('@', "%40");
    format!("{place}?{parameters}namespace={namespace}/{name}")
}

pub fn refuse_in_process(url: &str) -> Result<(), Failure> {
    if !Scheme::of(url).is_some_and(|scheme| scheme.in_process) {
        return Ok(());
    }
    let message =
        format!("the backend {url:?} lives inside one process, so no two commands could share it");
    Err(Failure::new(Exit::Configuration, message)
        .hint("leave --backend out for your own coordinator, or run `turnlock serve --data DIR`"))
}

/// Locks on the coordinator of this URL, or on the machine's or the user's own if there is none. The
/// user's own is started if need be.
pub async fn connect(url: Option<&str>, options: Options) -> Result<Locks, Failure> {
    match choose(url)? {
        Choice::Named(url, _) => named(&url, options).await,
        Choice::Own => own(options),
    }
}

/// The same for those who only look: where the user's own coordinator does not run, nobody holds a lock
/// on it, and none is started.
pub async fn connect_existing(
    url: Option<&str>,
    options: Options,
) -> Result<Option<Locks>, Failure> {
    match choose(url)? {
        Choice::Named(url, _) => named(&url, options).await.map(Some),
        Choice::Own => own_existing(options).await,
    }
}

async fn named(url: &str, options: Options) -> Result<Locks, Failure> {
    refuse_in_process(url)?;
    Ok(turnlock::connect_with(url, options)?)
}

/// The coordinator of this URL, or the machine's or the user's own if there is none, to be measured.
/// Here a coordinator inside this process is as good as any.
#[cfg(feature = "bench")]
pub async fn target(url: Option<&str>) -> Result<Target, Failure> {
    match choose(url)? {
        Choice::Named(url, _) => Ok(Target::connect(&url).await?),
        Choice::Own => own_peer(),
    }
}

#[cfg(all(feature = "embedded", feature = "bench"))]
fn own_peer() -> Result<Target, Failure> {
    let backend = local::Home::of_user()?.backend(turnlock::etcd::Keyspace::default())?;
    Ok(Target::with_baseline("served", backend))
}

#[cfg(feature = "embedded")]
fn own(options: Options) -> Result<Locks, Failure> {
    let backend = local::Home::of_user()?.backend(turnlock::etcd::Keyspace::default())?;
    Ok(Locks::new(backend, options)?)
}

#[cfg(feature = "embedded")]
async fn own_existing(options: Options) -> Result<Option<Locks>, Failure> {
    let home = local::Home::of_user()?;
    match home.existing(turnlock::etcd::Keyspace::default()).await? {
        Some(backend) => Ok(Some(Locks::new(backend, options)?)),
        None => Ok(None),
    }
}

#[cfg(all(feature = "embedded", feature = "conformance"))]
fn own_below(name: &str) -> Result<Arc<dyn Backend>, Failure> {
    let keyspace = turnlock::etcd::Keyspace::new(&format!("turnlock/{name}"))?;
    Ok(local::Home::of_user()?.backend(keyspace)?)
}

#[cfg(not(feature = "embedded"))]
fn own(_: Options) -> Result<Locks, Failure> {
    Err(unnamed())
}

#[cfg(not(feature = "embedded"))]
async fn own_existing(_: Options) -> Result<Option<Locks>, Failure> {
    Err(unnamed())
}

#[cfg(all(not(feature = "embedded"), feature = "bench"))]
fn own_peer() -> Result<Target, Failure> {
    Err(unnamed())
}

#[cfg(all(not(feature = "embedded"), feature = "conformance"))]
fn own_below(_: &str) -> Result<Arc<dyn Backend>, Failure> {
    Err(unnamed())
}

#[cfg(not(feature = "embedded"))]
fn unnamed() -> Failure {
    Failure::new(Exit::Configuration, "no coordinator is named")
        .hint("give --backend URL or set TURNLOCK_BACKEND; a build with the Cargo feature `embedded` starts one of its own")
}

#[cfg(all(test, feature = "conformance"))]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_below_keeps_the_rest_of_the_url() {
        for (url, expected) in [
            ("etcd://h", "etcd://h?namespace=turnlock/%40x"),
            (
                "zk://h:1/a?tick_time=2s",
                "zk://h:1/a?tick_time=2s&namespace=turnlock/%40x",
            ),
            (
                "etcd://h?namespace=a%2Fb&user=u",
                "etcd://h?user=u&namespace=a%2Fb/%40x",
            ),
        ] {
            assert_eq!(below(url, "@x"), expected);
        }
    }

    #[test]
    fn a_coordinator_inside_one_process_is_refused() {
        let refused = backend_below(Some("embedded:memory"), "x").expect_err("refused");
        assert!(refused.hint.is_some() && refused.message.contains("embedded:memory"));
    }
}
