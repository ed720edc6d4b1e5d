//! `turnlock serve`: a coordinator in the foreground.

use std::future::Future;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use backend_embedded::server::{BoundServer, Listen, Server, remove_stale_socket};
use backend_embedded::{Config, Coordinator, Error};
use tokio::signal::unix::{SignalKind, signal};

use crate::child::{accept_all, this_program};
use crate::cli::Serve;
use crate::coordinator::local::Home;
use crate::exit::{Exit, Failure};
use crate::output::say;

/// A coordinator on its way out answers what is under way for some seconds.
const PREDECESSOR: Duration = Duration::from_secs(5);

pub async fn serve(args: Serve) -> Result<Exit, Failure> {
    // Whoever needs us first may have blocked those that are to end us.
    accept_all();
    if args.background && rustix::process::setsid().is_ok() {
        return Err(become_daemon());
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

    let patience = if args.background {
        PREDECESSOR
    } else {
        Duration::ZERO
    };
    let coordinator = open(&home, patience).await?;
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
        .map_err(|error| Failure::new(Exit::Configuration, chain(&error)))?;
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

/// Starts this program over, in a session of its own by now, so that the caller's terminal and its
/// signals are not ours; and without the descriptors that the caller had left open: a lock or a
/// pipe of a script must not live as long as we do. Returns only if that fails.
fn become_daemon() -> Failure {
    close_fds::set_fds_cloexec(3, &[]);
    let again = this_program().map(|program| {
        Command::new(program)
            .arg0("turnlock")
            .args(std::env::args_os().skip(1))
            .exec()
    });
    let error = again.unwrap_or_else(|error| error);
    Failure::new(
        Exit::Internal,
        format!("cannot start in the background: {error}"),
    )
}

/// Opens the data folder; waits so long for one that is about to let go of it.
async fn open(home: &Home, patience: Duration) -> Result<Coordinator, Failure> {
    let started = tokio::time::Instant::now();
    loop {
        match Coordinator::open(Config::new(home.dir())) {
            Err(Error::AlreadyOpen { .. }) if started.elapsed() < patience => {
                tokio::time::sleep(PREDECESSOR / 200).await;
            }
            Err(error) => return Err(Failure::new(Exit::Configuration, error.to_string())),
            Ok(coordinator) => return Ok(coordinator),
        }
    }
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
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
