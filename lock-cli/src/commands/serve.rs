//! `turnlock serve`: a coordinator in the foreground.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use backend_embedded::server::{BoundServer, Listen, Server, remove_stale_socket};
use backend_embedded::{Config, Coordinator, Error};
use nix::unistd::Group;
use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tracing::level_filters::LevelFilter;

use crate::child::accept_all;
use crate::cli::Serve;
use crate::coordinator::local::Home;
use crate::coordinator::log::Log;
use crate::coordinator::{daemon, machine, system};
use crate::exit::{Exit, Failure};
use crate::output::say;

/// A coordinator on its way out answers what is under way for some seconds.
const PREDECESSOR: Duration = Duration::from_secs(5);

pub async fn serve(args: Serve) -> Result<Exit, Failure> {
    // Whoever needs us first may have blocked those that are to end us.
    accept_all();
    let args = match args.system {
        true => Serve {
            data: Some(system::DATA.into()),
            listen: vec![format!("unix:{}", system::SOCKET)],
            group: Some(system::GROUP.to_owned()),
            ..args
        },
        false => args,
    };
    let home = match &args.data {
        Some(dir) => Home::at(dir)?,
        None => Home::of_user()?,
    };
    if !args.background {
        return in_foreground(&args, &home).await;
    }
    // Fails when we are the first of a session already: then we have started over.
    if rustix::process::setsid().is_ok() {
        let error = daemon::start_over();
        let exit = match error.kind() {
            std::io::ErrorKind::NotFound => Exit::Configuration,
            _ => Exit::Internal,
        };
        let message = format!("cannot start in the background: {error}");
        return Err(Failure::new(exit, message));
    }
    in_background(&args, &home).await
}

async fn in_foreground(args: &Serve, home: &Home) -> Result<Exit, Failure> {
    daemon::raise_descriptors();
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    tracing_subscriber::fmt()
        .with_max_level(LevelFilter::WARN)
        .with_ansi(false)
        .with_writer(std::io::stderr)
        .init();
    home.make_dir()?;
    run(args, home, |addresses| {
        for address in addresses {
            say(format!("serving {} on {address}", home.dir().display()));
        }
        Ok(())
    })
    .await
}

/// Whoever started us reads on stderr why we did not start. From when we serve, all goes to the log.
async fn in_background(args: &Serve, home: &Home) -> Result<Exit, Failure> {
    home.make_dir()?;
    let path = home.log();
    let log = Log::open(&path).map_err(|error| {
        Failure::new(Exit::Configuration, format!("{}: {error}", path.display()))
    })?;
    let log = Arc::new(log);
    tracing_subscriber::fmt()
        .with_max_level(LevelFilter::INFO)
        .with_ansi(false)
        .with_target(false)
        .with_writer(log.clone())
        .init();
    let mut serving = false;
    let outcome = match refuse_beside_the_machines(args) {
        Ok(()) => {
            run(args, home, |addresses| {
                for address in addresses {
                    tracing::info!(
                        pid = std::process::id(),
                        version = env!("CARGO_PKG_VERSION"),
                        "serving {} on {address}",
                        home.dir().display()
                    );
                }
                if let Some(nice) = daemon::niceness() {
                    tracing::warn!("the nice value of whoever started us stays, {nice}: a busy machine lets us wait");
                }
                serving = true;
                log.take_stderr()
            })
            .await
        }
        Err(failure) => Err(failure),
    };
    match outcome {
        Err(failure) => {
            tracing::error!("{}", failure.message);
            match serving {
                true => Ok(failure.exit),
                false => Err(failure),
            }
        }
        ended => {
            tracing::info!("ended");
            ended
        }
    }
}

/// A coordinator of one user's own beside that of the machine would split locks in two.
fn refuse_beside_the_machines(args: &Serve) -> Result<(), Failure> {
    if args.chosen_folder || machine::url()?.is_none() {
        return Ok(());
    }
    let message = format!(
        "this machine has a coordinator for all its users: {} names it",
        machine::FILE
    );
    Err(Failure::new(Exit::Configuration, message)
        .hint("start the command anew; for locks of your own, set TURNLOCK_HOME"))
}

/// Serves until a signal comes, or nobody needs it. `ready` is called once it does.
async fn run(
    args: &Serve,
    home: &Home,
    ready: impl FnOnce(&[Listen]) -> std::io::Result<()>,
) -> Result<Exit, Failure> {
    let listeners = listeners(args, home)?;
    // Before the signals of a person or of `turnlock stop` can come in.
    let mut terminate = signal(SignalKind::terminate()).map_err(internal)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(internal)?;
    // Caught, it lets the write fail that goes over the limit, and the store says so.
    let _too_large = signal(SignalKind::from_raw(Signal::XFSZ.as_raw())).map_err(internal)?;
    // In the foreground, `nohup` is to have its way.
    let mut hangup = match args.background {
        true => Some(signal(SignalKind::hangup()).map_err(internal)?),
        false => None,
    };

    let limit = if args.background {
        PREDECESSOR
    } else {
        Duration::ZERO
    };
    let coordinator = open(home, limit).await?;
    for listen in &listeners {
        // We own the data folder, so a socket in it that is left over belongs to nobody else; and
        // the machine's socket is served from this folder alone.
        if let Listen::Unix(path) | Listen::UnixOfGroup(path, _) = listen
            && (path.starts_with(home.dir()) || args.system)
        {
            remove_stale_socket(path).map_err(|error| {
                Failure::new(Exit::Configuration, format!("{}: {error}", path.display()))
            })?;
        }
    }
    let server = Server::bind(coordinator.clone(), listeners)
        .map_err(|error| Failure::new(Exit::Configuration, chain(&error)))?;
    ready(server.addresses()).map_err(internal)?;
    for shortage in daemon::shortages() {
        tracing::warn!("{shortage}");
    }
    let idle = idle(&coordinator, &server, args.idle);
    let served = server
        .serve(async {
            let hung_up = async {
                match &mut hangup {
                    Some(hangup) => hangup.recv().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                _ = hung_up => {}
                () = idle => tracing::info!("nobody has needed it for {:?}", args.idle),
            }
        })
        .await;
    // A coordinator that stopped by itself says why here.
    coordinator
        .close()
        .map_err(|error| Failure::new(Exit::Unavailable, error.to_string()))?;
    served.map_err(|error| Failure::new(Exit::Unavailable, error.to_string()))?;
    Ok(Exit::Success)
}

/// Opens the data folder; waits so long for one that is about to let go of it.
async fn open(home: &Home, limit: Duration) -> Result<Coordinator, Failure> {
    let started = tokio::time::Instant::now();
    loop {
        match Coordinator::open(Config::new(home.dir())) {
            Err(Error::AlreadyOpen { .. }) if started.elapsed() < limit => {
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

fn listeners(args: &Serve, home: &Home) -> Result<Vec<Listen>, Failure> {
    if args.listen.is_empty() {
        return Ok(vec![Listen::Unix(home.socket())]);
    }
    let group = args.group.as_deref().map(group).transpose()?;
    let mut listeners = Vec::with_capacity(args.listen.len());
    for text in &args.listen {
        let listen = text
            .parse()
            .map_err(|error| Failure::new(Exit::Usage, format!("--listen {text}: {error}")))?;
        listeners.push(match (listen, group) {
            (Listen::Unix(path), Some(group)) => {
                if args.system {
                    system::make_runtime_folder(&path, group)?;
                }
                Listen::UnixOfGroup(path, group)
            }
            (listen, _) => listen,
        });
    }
    Ok(listeners)
}

/// The number of a group.
fn group(name: &str) -> Result<u32, Failure> {
    match Group::from_name(name) {
        Ok(Some(group)) => Ok(group.gid.as_raw()),
        Ok(None) => Err(Failure::new(
            Exit::Configuration,
            format!("there is no group {name:?} on this machine"),
        )
        .hint(format!("root makes it: groupadd --system {name}"))),
        Err(error) => Err(Failure::new(
            Exit::Configuration,
            format!("cannot look up the group {name:?}: {error}"),
        )),
    }
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
