//! `turnlock serve`: run a coordinator in the foreground, or in the background for a command.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use backend_embedded::server::access::Access;
use backend_embedded::server::{
    BoundServer, Listen, ListenError, Security, Server, Tls, TlsFiles, remove_stale_socket,
};
use backend_embedded::{Config, Coordinator, Error};
use nix::unistd::Group;
use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tracing::level_filters::LevelFilter;

use crate::child::unblock_all;
use crate::cli::Serve;
use crate::commands::rules::to_failure;
use crate::coordinator::local::Home;
use crate::coordinator::log::Log;
use crate::coordinator::{daemon, machine, metrics, system};
use crate::exit::{Exit, Failure, with_causes};
use crate::log;
use crate::output::announce;

/// The time limit for a coordinator that is about to end to finish the requests under way.
const PREDECESSOR: Duration = Duration::from_secs(5);

pub async fn serve(args: Serve) -> Result<Exit, Failure> {
    // The command that started this process may have blocked the signals that are to end it.
    unblock_all();
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
        return serve_in_foreground(&args, &home).await;
    }
    // This fails if the process leads a session already: then it has started over.
    if rustix::process::setsid().is_ok() {
        let error = daemon::start_over();
        let exit = match error.kind() {
            std::io::ErrorKind::NotFound => Exit::Configuration,
            _ => Exit::Internal,
        };
        let message = format!("cannot start in the background: {error}");
        return Err(Failure::new(exit, message));
    }
    serve_in_background(&args, &home).await
}

async fn serve_in_foreground(args: &Serve, home: &Home) -> Result<Exit, Failure> {
    daemon::raise_descriptors();
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    if log::level() == log::Level::Off {
        tracing_subscriber::fmt()
            .with_max_level(LevelFilter::WARN)
            .with_ansi(false)
            .with_writer(std::io::stderr)
            .init();
    }
    home.make_dir()?;
    serve_until_stopped(args, home, |addresses| {
        for address in addresses {
            announce(format!("serving {} on {address}", home.dir().display()));
        }
        Ok(())
    })
    .await
}

/// Reports on stderr why the coordinator did not start, for the command that started it. Once the
/// coordinator serves, all messages go to the log.
async fn serve_in_background(args: &Serve, home: &Home) -> Result<Exit, Failure> {
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
    let outcome =
        match refuse_beside_the_machines(args) {
            Ok(()) => serve_until_stopped(args, home, |addresses| {
                for address in addresses {
                    tracing::info!(
                        pid = std::process::id(),
                        version = env!("CARGO_PKG_VERSION"),
                        "serving {} on {address}",
                        home.dir().display()
                    );
                }
                if let Some(nice) = daemon::find_raised_niceness() {
                    tracing::warn!(
                        "the nice value stays at {nice}, as inherited: on a busy machine, locks \
                         will be slow"
                    );
                }
                serving = true;
                log.take_stderr()
            })
            .await,
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

/// Refuses a user's own coordinator beside the machine's, because it would split every lock in two.
fn refuse_beside_the_machines(args: &Serve) -> Result<(), Failure> {
    if args.chosen_folder || machine::url()?.is_none() {
        return Ok(());
    }
    let message = format!(
        "this machine has a coordinator for all its users: {} names it",
        machine::FILE
    );
    Err(Failure::new(Exit::Configuration, message)
        .hint("run the command again; for locks of your own, set TURNLOCK_HOME"))
}

/// Serves until a signal comes, or until it has been idle for long enough. Calls `ready` once it
/// serves.
async fn serve_until_stopped(
    args: &Serve,
    home: &Home,
    ready: impl FnOnce(&[Listen]) -> std::io::Result<()>,
) -> Result<Exit, Failure> {
    let listeners = parse_listeners(args, home)?;
    let access = open_access(args)?;
    let tls = load_tls(args, &listeners).await?;
    let asked = args.metrics_listen.iter();
    let asked: Vec<Listen> = asked
        .map(|text| metrics::parse_listen(text))
        .collect::<Result<_, _>>()?;
    // The signal is caught before a user or `turnlock stop` can send it.
    let mut terminate = signal(SignalKind::terminate()).map_err(to_internal_failure)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(to_internal_failure)?;
    // While it is caught, a write above the limit fails instead, and the store reports that.
    let _too_large =
        signal(SignalKind::from_raw(Signal::XFSZ.as_raw())).map_err(to_internal_failure)?;
    // In the foreground the signal is not caught, for `nohup`, unless it has a meaning.
    let mut hangup = match args.background || access.is_some() || tls.is_some() {
        true => Some(signal(SignalKind::hangup()).map_err(to_internal_failure)?),
        false => None,
    };

    let limit = if args.background {
        PREDECESSOR
    } else {
        Duration::ZERO
    };
    let coordinator = open_store(home, limit).await?;
    for listen in &listeners {
        // This process owns the data folder, so nobody else uses a socket in it. The machine's
        // socket is served only from this folder.
        if let Listen::Unix(path) | Listen::UnixOfGroup(path, _) = listen
            && (path.starts_with(home.dir()) || args.system)
        {
            remove_stale_socket(path).map_err(|error| {
                Failure::new(Exit::Configuration, format!("{}: {error}", path.display()))
            })?;
        }
    }
    let metrics = metrics::bind(&asked, metrics_socket(args, home, &listeners))?;
    let places: Vec<_> = metrics.iter().map(|it| it.address().to_string()).collect();
    let security = security(args, tls.as_ref(), access.as_ref());
    let server = Server::bind_with(coordinator.clone(), listeners, security)
        .map_err(to_bind_failure)?
        .with_metrics(metrics);
    let server = match args.metrics_etcd_names {
        true => server.with_etcd_metric_names(),
        false => server,
    };
    ready(server.addresses()).map_err(to_internal_failure)?;
    tell_reach(args, &server);
    for place in places {
        match args.background {
            true => tracing::info!("metrics on {place}"),
            false => announce(format!("metrics on {place}")),
        }
    }
    for shortage in daemon::find_shortages() {
        tracing::warn!("{shortage}");
    }
    let idle = wait_until_idle(&coordinator, &server, args.idle);
    let served = server
        .serve(async {
            let hung_up = async {
                let Some(hangup) = &mut hangup else {
                    return std::future::pending().await;
                };
                while hangup.recv().await.is_some() {
                    if access.is_none() && tls.is_none() {
                        return;
                    }
                    if let Some(access) = &access {
                        reload_rules(access);
                    }
                    if let Some(tls) = &tls {
                        reload_certificates(tls).await;
                    }
                }
            };
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                _ = hung_up => {}
                () = idle => tracing::info!("no session for {:?}", args.idle),
            }
        })
        .await;
    // A coordinator that stopped by itself reports the reason here.
    coordinator
        .close()
        .map_err(|error| Failure::new(Exit::Unavailable, error.to_string()))?;
    served.map_err(|error| Failure::new(Exit::Unavailable, error.to_string()))?;
    Ok(Exit::Success)
}

/// Reads the rules and the users, if there are rules.
fn open_access(args: &Serve) -> Result<Option<Access>, Failure> {
    let Some(rules) = &args.rules else {
        return Ok(None);
    };
    let users = args.users.as_deref().map(to_absolute).transpose()?;
    let access = Access::open(to_absolute(rules)?, users).map_err(to_failure)?;
    Ok(Some(access))
}

/// Reads the rules and the users again.
fn reload_rules(access: &Access) {
    match access.reload() {
        Ok(()) => announce("the rules were read again"),
        Err(error) => tracing::error!(%error, "the former rules stay"),
    }
}

fn to_absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path)
        .map_err(|error| Failure::new(Exit::Configuration, format!("{}: {error}", path.display())))
}

/// Reads the certificates, if there are any.
async fn load_tls(args: &Serve, listeners: &[Listen]) -> Result<Option<Tls>, Failure> {
    let (Some(cert), Some(key)) = (&args.tls_cert, &args.tls_key) else {
        return Ok(None);
    };
    if !listeners.iter().any(|it| matches!(it, Listen::Tcp(_))) {
        let message = "--tls-cert: there is no address that could speak TLS";
        return Err(Failure::new(Exit::Usage, message).hint("give --listen HOST:PORT too"));
    }
    let mut files = TlsFiles::new(to_absolute(cert)?, to_absolute(key)?);
    if let Some(path) = &args.client_ca {
        files = files.with_client_ca(to_absolute(path)?);
    }
    for path in &args.client_crl {
        files = files.with_client_crl(to_absolute(path)?);
    }
    let loaded = Tls::load(files).await;
    loaded
        .map(Some)
        .map_err(|error| Failure::new(Exit::Configuration, error.to_string()))
}

fn security(args: &Serve, tls: Option<&Tls>, access: Option<&Access>) -> Security {
    let mut security = Security::default();
    if args.insecure {
        security = security.insecure();
    }
    if let Some(tls) = tls {
        security = security.with_tls(tls.clone());
    }
    if let Some(access) = access {
        security = security.with_access(access.clone());
    }
    security
}

fn to_bind_failure(error: ListenError) -> Failure {
    let failure = Failure::new(Exit::Configuration, with_causes(&error));
    match error {
        ListenError::NotLoopback { .. } => failure.hint(
            "give --tls-cert FILE and --tls-key FILE, and --client-ca FILE or --rules FILE; or let \
             everybody in with --insecure",
        ),
        _ => failure,
    }
}

/// Says who can use the TCP addresses.
fn tell_reach(args: &Serve, server: &BoundServer) {
    for address in server.addresses() {
        if !matches!(address, Listen::Tcp(_)) {
            continue;
        }
        let reach = server.reach(address);
        match args.background {
            true => tracing::info!("{address} is open to {reach}"),
            false => announce(format!("{address} is open to {reach}")),
        }
    }
}

/// Reads the certificates again. The server itself says what is wrong with them.
async fn reload_certificates(tls: &Tls) {
    match tls.reload().await {
        Ok(true) => announce("the certificates have changed: new connections get the new ones"),
        Ok(false) => announce("the certificates are as before"),
        Err(_) => {}
    }
}

/// Opens the data folder. Waits up to this limit for a coordinator that is about to release it.
async fn open_store(home: &Home, limit: Duration) -> Result<Coordinator, Failure> {
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

fn parse_listeners(args: &Serve, home: &Home) -> Result<Vec<Listen>, Failure> {
    if args.listen.is_empty() {
        return Ok(vec![Listen::Unix(home.socket())]);
    }
    let group = args.group.as_deref().map(find_group).transpose()?;
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

/// Returns the socket for metrics: beside the machine's socket, for the users of its group, or in the
/// folder of the data.
fn metrics_socket(args: &Serve, home: &Home, listeners: &[Listen]) -> Listen {
    match listeners {
        [Listen::UnixOfGroup(path, group)] if args.system => {
            Listen::UnixOfGroup(metrics::socket_beside(path), *group)
        }
        _ => Listen::Unix(metrics::socket_beside(&home.socket())),
    }
}

/// Returns the number of a group.
fn find_group(name: &str) -> Result<u32, Failure> {
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

/// Waits until there has been neither a session nor a new connection for this long.
fn wait_until_idle(
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

fn to_internal_failure(error: std::io::Error) -> Failure {
    Failure::new(Exit::Internal, error.to_string())
}
