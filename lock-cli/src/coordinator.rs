//! Which coordinator the command talks to: the one that a URL names, or the user's own on this
//! machine.

use benches::Peer;
use turnlock::{Locks, Options};

use crate::exit::{Exit, Failure};

#[cfg(feature = "embedded")]
pub mod local;

/// Locks on the coordinator of this URL, or on the user's own if there is none.
pub async fn connect(url: Option<&str>, options: Options) -> Result<Locks, Failure> {
    match url {
        Some(url) if url.starts_with("embedded:") => Err(Failure::new(
            Exit::Configuration,
            format!(
                "the backend {url:?} lives inside one process, so no two commands could share it"
            ),
        )
        .hint("leave --backend out for your own coordinator, or run `turnlock serve --data DIR`")),
        Some(url) => Ok(turnlock::connect_with(url, options).await?),
        None => own(options),
    }
}

/// The coordinator of this URL, or the user's own if there is none, to be measured. Here a
/// coordinator inside this process is as good as any.
pub async fn peer(url: Option<&str>) -> Result<Peer, Failure> {
    match url {
        Some(url) => Ok(Peer::connect(url).await?),
        None => own_peer(),
    }
}

#[cfg(feature = "embedded")]
fn own_peer() -> Result<Peer, Failure> {
    let backend = local::Home::of_user()?.backend()?;
    Ok(Peer::with_floor("served", backend))
}

#[cfg(feature = "embedded")]
fn own(options: Options) -> Result<Locks, Failure> {
    local::Home::of_user()?.connect(options)
}

#[cfg(not(feature = "embedded"))]
fn own(_: Options) -> Result<Locks, Failure> {
    Err(unnamed())
}

#[cfg(not(feature = "embedded"))]
fn own_peer() -> Result<Peer, Failure> {
    Err(unnamed())
}

#[cfg(not(feature = "embedded"))]
fn unnamed() -> Failure {
    Failure::new(Exit::Configuration, "no coordinator is named")
        .hint("give --backend URL or set TURNLOCK_BACKEND; a build with the Cargo feature `embedded` starts one of its own")
}
