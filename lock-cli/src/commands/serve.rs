//! `turnlock serve`: a coordinator in the foreground.

use std::future::Future;
use std::time::Duration;

use backend_embedded::server::{BoundServer, Listen, Server, remove_stale_socket};
use backend_embedded::{Config, Coordinator};
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::Serve;
use crate::coordinator::local::Home;
use crate::exit::{Exit, Failure};
use crate::output::say;

pub async fn serve(args: Serve) -> Result<Exit, Failure> {
    if args.background {
        // A session of its own: the caller's terminal and its signals are not ours. It fails only
        // if we lead one already.
        let _ = rustix::process::setsid();
    }
    let home = match &args.data {
        Some(dir) => Home::at(dir)?,
        None => Home::of_user()?,
    };
    home.create_dir()
        .map_err(|error| Failure::new(Exit::Configuration, error.to_string()))?;
    let listeners = listeners(&args.listen, &home)?;
    // Before the signals of a person or of `turnlock stop` can come in.
    let mut terminate = signal(SignalKind::terminate()).map_err(internal)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(internal)?;

    let coordinator = Coordinator::open(Config::new(home.dir()))
        .map_err(|error| Failure::new(Exit::Configuration, error.to_string()))?;
    for listen in &listeners {
        // We own the data folder, so a socket in it that is left over belongs to nobody else.
        if let Listen::Unix(path) = listen
            && path.starts_with(home.dir())
        {
            remove_stale_socket(path).map_err(|error| {
                Failure::new(Exit::Configuration, format!("{}: {error}", path.display()))
            })?;
        }
    }
    let server = Server::bind(coordinator.clone(), listeners)
        .map_err(|error| Failure::new(Exit::Configuration, error.to_string()))?;
    for address in server.addresses() {
        say(format!("serving {} on {address}", home.dir().display()));
    }
    let idle = idle(&coordinator, &server, args.idle);
    server
        .serve(async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                () = idle => {}
            }
        })
        .await;
    // A coordinator that stopped by itself says why here.
    match coordinator.close() {
        Ok(()) => Ok(Exit::Success),
        Err(error) => Err(Failure::new(Exit::Unavailable, error.to_string())),
    }
}

fn listeners(given: &[String], home: &Home) -> Result<Vec<Listen>, Failure> {
    if given.is_empty() {
        return Ok(vec![Listen::Unix(home.socket())]);
    }
    let parse = |text: &String| {
        text.parse()
            .map_err(|error| Failure::new(Exit::Usage, format!("--listen {text}: {error}")))
    };
    given.iter().map(parse).collect()
}

/// Resolves after this long without a session and without a request on its way to open one.
fn idle(
    coordinator: &Coordinator,
    server: &BoundServer,
    limit: Option<Duration>,
) -> impl Future<Output = ()> + use<> {
    let mut leases = coordinator.live_leases();
    let mut connections = server.connections();
    async move {
        let Some(limit) = limit else {
            return std::future::pending().await;
        };
        loop {
            let quiet = async {
                // An idle connection does not keep it alive; a new one starts the time anew.
                connections.mark_unchanged();
                if leases.wait_for(|n| *n == 0).await.is_err() {
                    return std::future::pending().await;
                }
                tokio::select! {
                    () = tokio::time::sleep(limit) => true,
                    _ = leases.wait_for(|n| *n > 0) => false,
                    _ = connections.changed() => false,
                }
            };
            if quiet.await {
                return;
            }
        }
    }
}

fn internal(error: std::io::Error) -> Failure {
    Failure::new(Exit::Internal, error.to_string())
}
