//! `turnlock serve`: run a coordinator in the foreground, or in the background for a command.

mod addresses;
mod ending;
mod security;

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use backend_embedded::server::{Listen, MetricsListener, Server};
use backend_embedded::{Config, Coordinator, Error, Limits};
use lock_core::background;
use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tracing::level_filters::LevelFilter;

use self::addresses::{has_tcp, metrics_socket, parse_listeners, remove_stale_sockets};
use self::ending::{Caught, Signals, to_internal_failure, wait_until_idle};
use self::security::{Protection, tell_reach, to_bind_failure};
use crate::child::unblock_all;
use crate::cli::{Serve, limits};
use crate::coordinator::local::Home;
use crate::coordinator::log::Log;
use crate::coordinator::{daemon, machine, metrics, system};
use crate::exit::{Exit, Failure};
use crate::log;
use crate::output::announce;
use crate::service_manager::{Notifier, watchdog_interval};

/// The time limit for a coordinator that is about to end to finish the requests under way.
const PREDECESSOR: Duration = Duration::from_secs(10);

/// The time that the end takes at most beside the last answers: streams are told, and what is pending
/// is recorded.
const END: Duration = Duration::from_secs(15);

pub async fn serve(args: Serve) -> Result<Exit, Failure> {
    // The command that started this process may have blocked the signals that are to end it.
    unblock_all();
    let args = match args.system {
        true => Serve {
            data: Some(system::DATA.into()),
            listen: match args.inherited.locks.is_empty() {
                true => vec![format!("unix:{}", system::SOCKET)],
                false => Vec::new(),
            },
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
        return serve_in_foreground(args, &home).await;
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
    serve_in_background(args, &home).await
}

async fn serve_in_foreground(args: Serve, home: &Home) -> Result<Exit, Failure> {
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
async fn serve_in_background(args: Serve, home: &Home) -> Result<Exit, Failure> {
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
        match refuse_beside_the_machines(&args) {
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

/// Says something on stderr, or in the log of a coordinator in the background.
fn tell(args: &Serve, message: impl AsRef<str>) {
    match args.background {
        true => tracing::info!("{}", message.as_ref()),
        false => announce(message),
    }
}

/// Serves until a signal comes, or until it has been idle for long enough. Calls `ready` once it
/// serves.
async fn serve_until_stopped(
    mut args: Serve,
    home: &Home,
    ready: impl FnOnce(&[Listen]) -> std::io::Result<()>,
) -> Result<Exit, Failure> {
    let listeners = parse_listeners(&args, home)?;
    let protection = Protection::load(&args, has_tcp(&args, &listeners)).await?;
    let asked = args.metrics_listen.iter();
    let asked: Vec<Listen> = asked
        .map(|text| metrics::parse_listen(text))
        .collect::<Result<_, _>>()?;
    let notifier = Notifier::from_env();
    // The signals are caught before a user or `turnlock stop` can send one. In the foreground a
    // hangup is not caught, for `nohup`, unless it has a meaning.
    let mut signals =
        Signals::catch(args.background || protection.has_files() || notifier.is_heard())?;
    // While it is caught, a write above the limit fails instead, and the store reports that.
    let _too_large =
        signal(SignalKind::from_raw(Signal::XFSZ.as_raw())).map_err(to_internal_failure)?;

    let patience = match args.background {
        true => PREDECESSOR,
        false => Duration::ZERO,
    };
    let (limits, server_limits) = limits::apply(&args.limit, args.max_waiters);
    let coordinator = open_store(home, limits, patience).await?;
    remove_stale_sockets(&args, home, &listeners)?;
    let inherited = std::mem::take(&mut args.inherited);
    let beside = metrics_socket(&args, home)?;
    // One that the service manager made there stays as it is.
    let is_inherited = inherited.metrics.iter().any(|it| it.is_at(&beside));
    let mut metrics = metrics::bind(&asked, (!is_inherited).then_some(beside))?;
    for listener in inherited.metrics {
        metrics.push(MetricsListener::inherit(listener).map_err(to_bind_failure)?);
    }
    let places: Vec<_> = metrics.iter().map(|it| it.address().to_string()).collect();
    let security = protection.to_security(&args);
    let mut server = Server::bind_with(coordinator.clone(), listeners, security)
        .map_err(to_bind_failure)?
        .with_limits(server_limits)
        .with_metrics(metrics)
        .with_drain_limit(args.drain);
    for listener in inherited.locks {
        server = server.with_inherited(listener).map_err(to_bind_failure)?;
    }
    if args.metrics_etcd_names {
        server = server.with_etcd_metric_names();
    }
    ready(server.addresses()).map_err(to_internal_failure)?;
    tell_reach(&args, &server);
    for place in places {
        tell(&args, format!("metrics on {place}"));
    }
    for shortage in daemon::find_shortages() {
        tracing::warn!("{shortage}");
    }
    let status = format!("serving {}", home.dir().display());
    notifier.tell_ready(&status);

    let idle = wait_until_idle(&coordinator, &server, args.idle);
    let (end, ended) = oneshot::channel::<()>();
    let stopping = async {
        tokio::pin!(idle);
        loop {
            let caught = tokio::select! {
                caught = signals.next() => Some(caught),
                () = &mut idle => None,
            };
            match caught {
                Some(Caught::Hangup) if protection.has_files() || notifier.is_heard() => {
                    notifier.tell_reloading();
                    protection.reload().await;
                    notifier.tell_ready(&status);
                    continue;
                }
                Some(caught) => tell_of_drain(&args, caught),
                None => tracing::info!("no session for {:?}", args.idle),
            }
            break;
        }
        notifier.tell_stopping(args.drain.saturating_add(END));
        let _ = end.send(());
        while signals.next().await == Caught::Hangup {}
    };
    let ending = async {
        let served = server.serve(async { _ = ended.await }).await;
        let sessions = coordinator.status().leases;
        // On another thread: the disk may be slow, and a second signal ends this, too.
        let closing = coordinator.clone();
        let closed = background::block(move || closing.close()).await;
        (
            served,
            sessions,
            closed.unwrap_or_else(|_| coordinator.close()),
        )
    };
    let (served, sessions, closed) = tokio::select! {
        ended = ending => ended,
        () = stopping => {
            // What was acknowledged is on the disk, as it is at every moment.
            tell(&args, "ends at once");
            return Ok(Exit::Success);
        }
        never = report_to_watchdog(&coordinator, &notifier) => match never {},
    };
    // A coordinator that stopped by itself reports the reason here.
    closed.map_err(|error| Failure::new(Exit::Unavailable, error.to_string()))?;
    served.map_err(|error| Failure::new(Exit::Unavailable, error.to_string()))?;
    if sessions > 0 {
        tell(
            &args,
            format!("ended; sessions that go on when the folder is served again: {sessions}"),
        );
    }
    Ok(Exit::Success)
}

/// Says what a signal to end makes the coordinator do.
fn tell_of_drain(args: &Serve, caught: Caught) {
    let (name, drain) = (caught.name(), args.drain);
    tell(
        args,
        format!(
            "{name}: no new sessions; answers under way have {drain:?}; holders keep their locks; \
             a second signal ends at once"
        ),
    );
}

/// Tells the service manager again and again that the coordinator works, if it wants to know. It does
/// if this thread goes on and the state can be read. A slow disk is no reason for a restart: leases
/// are renewed without it.
async fn report_to_watchdog(coordinator: &Coordinator, notifier: &Notifier) -> Infallible {
    let Some(interval) = watchdog_interval() else {
        return pending().await;
    };
    loop {
        let _ = coordinator.status();
        notifier.tell_alive();
        tokio::time::sleep(interval).await;
    }
}

/// Opens the data folder. Waits up to this time for a coordinator that is about to release it.
async fn open_store(
    home: &Home,
    limits: Limits,
    patience: Duration,
) -> Result<Coordinator, Failure> {
    let started = tokio::time::Instant::now();
    loop {
        let config = Config::new(home.dir()).with_limits(limits.clone());
        match Coordinator::open(config) {
            Err(Error::AlreadyOpen { .. }) if started.elapsed() < patience => {
                tokio::time::sleep(PREDECESSOR / 400).await;
            }
            Err(error) => {
                // For the command that started this in the background, a predecessor that still ends
                // passes.
                let exit = match &error {
                    Error::AlreadyOpen { .. } if !patience.is_zero() => Exit::Unavailable,
                    _ => Exit::Configuration,
                };
                return Err(Failure::new(exit, error.to_string()));
            }
            Ok(coordinator) => return Ok(coordinator),
        }
    }
}
