//! The choice of the coordinator: the one that a URL names, the machine's, or the user's own.

#[cfg(feature = "conformance")]
use std::sync::Arc;

#[cfg(feature = "bench")]
use load::Target;
#[cfg(feature = "conformance")]
use turnlock::Backend;
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
pub mod location;
#[cfg(feature = "embedded")]
pub mod log;
pub mod machine;
#[cfg(feature = "embedded")]
pub mod metrics;
#[cfg(feature = "embedded")]
pub mod system;
#[cfg(feature = "embedded")]
mod takeover;
#[cfg(feature = "embedded")]
pub mod users;

/// The coordinator that a command uses.
#[derive(Debug)]
pub enum Choice {
    /// The coordinator of a URL, and the person who gave the URL.
    Named(String, NamedBy),
    /// The user's own coordinator on this machine.
    Own,
}

/// The person who gave the URL of a coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NamedBy {
    /// The user, by an option or `TURNLOCK_BACKEND`.
    User,
    /// Root, in [`machine::FILE`].
    Machine,
}

/// Chooses the coordinator: that of this URL, or else of `TURNLOCK_HOME`, or else the machine's, or
/// else the user's own. It does not depend on which of them reply: if the chosen one is down, no
/// other one is used.
pub fn choose(url: Option<&str>) -> Result<Choice, Failure> {
    if let Some(url) = url {
        return Ok(Choice::Named(url.to_owned(), NamedBy::User));
    }
    if std::env::var_os("TURNLOCK_HOME").is_some_and(|dir| !dir.is_empty()) {
        return Ok(Choice::Own);
    }
    Ok(match machine::url()? {
        Some(url) => Choice::Named(url, NamedBy::Machine),
        None => Choice::Own,
    })
}

/// Returns the URL of the coordinator that is chosen; `None` if that is the user's own.
#[cfg(feature = "conformance")]
pub fn choose_url(given: Option<&str>) -> Result<Option<String>, Failure> {
    Ok(match choose(given)? {
        Choice::Named(url, _) => Some(url),
        Choice::Own => None,
    })
}

/// Opens a client of the chosen coordinator. Its namespace has this name, and lies below the one
/// that locks are in. The name needs no escaping.
#[cfg(feature = "conformance")]
pub fn open_below(url: Option<&str>, name: &str) -> Result<Arc<dyn Backend>, Failure> {
    let url = match choose(url)? {
        Choice::Named(url, _) => url,
        Choice::Own => return open_own_below(name),
    };
    refuse_in_process(&url)?;
    let url = extend_namespace(&url, name);
    Ok(turnlock::backend(&url)?)
}

/// Returns the URL with this name appended to its namespace.
#[cfg(feature = "conformance")]
pub fn extend_namespace(url: &str, name: &str) -> String {
    let (place, query) = url.split_once('?').unwrap_or((url, ""));
    let (mut namespace, mut parameters) = ("turnlock", String::new());
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        match parameter.strip_prefix("namespace=") {
            Some(given) => namespace = given,
            None => parameters.push_str(&format!("{parameter}&")),
        }
    }
    // A plain `@` would be taken for the end of a password.
    let name = name.replace('@', "%40");
    format!("{place}?{parameters}namespace={namespace}/{name}")
}

/// Refuses the URL of a coordinator that lives inside one process.
pub fn refuse_in_process(url: &str) -> Result<(), Failure> {
    if !Scheme::of(url).is_some_and(|scheme| scheme.in_process) {
        return Ok(());
    }
    let message =
        format!("the backend {url:?} lives inside one process, so no two commands could share it");
    Err(Failure::new(Exit::Configuration, message)
        .hint("leave --backend out for your own coordinator, or run `turnlock serve --data DIR`"))
}

/// Connects to the chosen coordinator. The user's own is started if it does not run.
pub async fn connect(url: Option<&str>, options: Options) -> Result<Locks, Failure> {
    let options = observe(options);
    match choose(url)? {
        Choice::Named(url, _) => connect_named(&url, options).await,
        Choice::Own => connect_own(options).await,
    }
}

/// Connects to the chosen coordinator for a command that only reads. Returns `None` if that
/// coordinator is the user's own and does not run: nobody holds a lock on it then, and it is not
/// started.
pub async fn connect_existing(
    url: Option<&str>,
    options: Options,
) -> Result<Option<Locks>, Failure> {
    let options = observe(options);
    match choose(url)? {
        Choice::Named(url, _) => connect_named(&url, options).await.map(Some),
        Choice::Own => connect_own_existing(options).await,
    }
}

/// Has what happens to the locks told to the log and to the trace of this run, if there are such.
fn observe(options: Options) -> Options {
    match crate::trace::observer() {
        Some(observer) => options.with_observer(observer),
        None => options,
    }
}

async fn connect_named(url: &str, options: Options) -> Result<Locks, Failure> {
    refuse_in_process(url)?;
    Ok(turnlock::connect_with(url, options)?)
}

/// Opens the chosen coordinator for measuring. A coordinator inside this process is allowed here.
#[cfg(feature = "bench")]
pub async fn open_target(url: Option<&str>) -> Result<Target, Failure> {
    match choose(url)? {
        Choice::Named(url, _) => Ok(Target::connect(&url).await?),
        Choice::Own => open_own_target(),
    }
}

#[cfg(all(feature = "embedded", feature = "bench"))]
fn open_own_target() -> Result<Target, Failure> {
    let backend = local::Home::of_user()?.open(turnlock::etcd::Keyspace::default())?;
    Ok(Target::with_baseline("served", backend))
}

#[cfg(feature = "embedded")]
async fn connect_own(options: Options) -> Result<Locks, Failure> {
    let home = local::Home::of_user()?;
    home.take_over().await;
    let backend = home.open(turnlock::etcd::Keyspace::default())?;
    Ok(Locks::new(backend, options)?)
}

#[cfg(feature = "embedded")]
async fn connect_own_existing(options: Options) -> Result<Option<Locks>, Failure> {
    let home = local::Home::of_user()?;
    match home
        .open_existing(turnlock::etcd::Keyspace::default())
        .await?
    {
        Some(backend) => Ok(Some(Locks::new(backend, options)?)),
        None => Ok(None),
    }
}

#[cfg(all(feature = "embedded", feature = "conformance"))]
fn open_own_below(name: &str) -> Result<Arc<dyn Backend>, Failure> {
    let keyspace = turnlock::etcd::Keyspace::new(&format!("turnlock/{name}"))?;
    Ok(local::Home::of_user()?.open(keyspace)?)
}

#[cfg(not(feature = "embedded"))]
async fn connect_own(_: Options) -> Result<Locks, Failure> {
    Err(no_coordinator_named())
}

#[cfg(not(feature = "embedded"))]
async fn connect_own_existing(_: Options) -> Result<Option<Locks>, Failure> {
    Err(no_coordinator_named())
}

#[cfg(all(not(feature = "embedded"), feature = "bench"))]
fn open_own_target() -> Result<Target, Failure> {
    Err(no_coordinator_named())
}

#[cfg(all(not(feature = "embedded"), feature = "conformance"))]
fn open_own_below(_: &str) -> Result<Arc<dyn Backend>, Failure> {
    Err(no_coordinator_named())
}

#[cfg(not(feature = "embedded"))]
fn no_coordinator_named() -> Failure {
    Failure::new(Exit::Configuration, "no coordinator is named").hint(
        "give --backend URL or set TURNLOCK_BACKEND; a build with the Cargo feature \
             `embedded` starts one of its own",
    )
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
            assert_eq!(extend_namespace(url, "@x"), expected);
        }
    }

    #[test]
    fn a_coordinator_inside_one_process_is_refused() {
        let refusal = open_below(Some("embedded:memory"), "x").expect_err("refused");
        assert!(refusal.hint.is_some() && refusal.message.contains("embedded:memory"));
    }
}
