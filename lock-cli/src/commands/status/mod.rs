//! `turnlock status`: show which coordinator is used, what decided that, and how it does.

mod measure;
mod report;
#[cfg(feature = "embedded")]
mod usage;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "etcd")]
use turnlock::registry::Scheme;
use turnlock::{Backend, Error};

use crate::cli::Global;
use crate::coordinator::{Choice, NamedBy, choose, machine};
use crate::exit::{Exit, Failure};
use crate::output::{print, print_json};

use self::report::{Clock, Report};
#[cfg(feature = "etcd")]
use self::report::{Size, Version};

pub async fn status(global: Global) -> Result<Exit, Failure> {
    let mut report = match choose(global.backend.as_deref())? {
        Choice::Named(url, by) => report_named(&url, by).await?,
        Choice::Own => report_own().await?,
    };
    report.uptime = report.pid.and_then(read_uptime);
    match global.json {
        true => print_json(&report.to_json()),
        false => print(report.to_text()),
    }?;
    match report.trouble {
        None => Ok(Exit::Success),
        Some(_) => Ok(Exit::Unavailable),
    }
}

async fn report_named(url: &str, by: NamedBy) -> Result<Report, Failure> {
    let mut report = Report {
        kind: match by {
            NamedBy::Machine => "machine",
            NamedBy::User => "named",
        },
        place: url.to_owned(),
        decided_by: match by {
            NamedBy::Machine => machine::FILE.to_owned(),
            NamedBy::User if std::env::var("TURNLOCK_BACKEND").as_deref() == Ok(url) => {
                "TURNLOCK_BACKEND".to_owned()
            }
            NamedBy::User => "--backend".to_owned(),
        },
        pid: match machine::socket_path(url) {
            Some(socket) => find_server(socket).await,
            None => None,
        },
        clock: match machine::socket_path(url) {
            Some(_) => Clock::Same,
            None => Clock::Unknown,
        },
        ..Report::default()
    };
    crate::coordinator::refuse_in_process(url)?;
    #[cfg(feature = "etcd")]
    if Scheme::of(url).is_some_and(|scheme| scheme.feature == "etcd") {
        let config = turnlock::etcd::Config::from_url(url)?;
        let backend = turnlock::etcd::EtcdBackend::new(config)?;
        let asked = ask_etcd(&mut report, backend, machine::socket_path(url)).await;
        report.record(asked)?;
        return Ok(report);
    }
    let backend = turnlock::backend(url)?;
    let asked = ask(&mut report, backend).await;
    report.record(asked)?;
    Ok(report)
}

/// Returns what a coordinator says in its metrics, if it gives them beside this socket.
#[cfg(feature = "embedded")]
async fn read_usage(socket: &Path) -> Option<usage::Usage> {
    use crate::coordinator::metrics;
    let text = metrics::fetch(&metrics::socket_beside(socket)).await.ok()?;
    Some(usage::Usage::parse(&text))
}

/// Returns the process that serves a socket, if it is in our process namespace.
async fn find_server(socket: &Path) -> Option<u32> {
    let stream = tokio::net::UnixStream::connect(socket).await.ok()?;
    let pid = stream.peer_cred().ok()?.pid()?;
    u32::try_from(pid).ok().filter(|pid| *pid != 0)
}

#[cfg(feature = "embedded")]
async fn report_own() -> Result<Report, Failure> {
    use crate::coordinator::local::{Home, ServerState};
    use crate::coordinator::location::FolderSource;
    let home = Home::of_user()?;
    let mut report = Report {
        kind: "own",
        clock: Clock::Same,
        place: home.dir().display().to_string(),
        decided_by: match home.source() {
            FolderSource::Named => "TURNLOCK_HOME",
            FolderSource::StateHome => "XDG_STATE_HOME",
            FolderSource::Home => "HOME",
            FolderSource::UserDatabase => "the user database, because HOME is another user's",
        }
        .to_owned(),
        ..Report::default()
    };
    match home.find_settled().await? {
        ServerState::Absent => {
            report.trouble = Some("none runs; the first command that needs it starts it".to_owned())
        }
        ServerState::Unresponsive(pid) => {
            report.pid = pid;
            report.trouble = Some(home.to_unresponsive_failure(pid).message);
        }
        ServerState::Serving(pid) => {
            report.pid = pid.and_then(|pid| u32::try_from(pid.as_raw_nonzero().get()).ok());
            let keyspace = turnlock::etcd::Keyspace::default();
            match home.open_existing(keyspace).await? {
                Some(backend) => {
                    let asked = ask_etcd(&mut report, backend, Some(&home.socket())).await;
                    report.record(asked)?;
                }
                None => report.trouble = Some("it has just ended".to_owned()),
            }
        }
    }
    Ok(report)
}

#[cfg(not(feature = "embedded"))]
async fn report_own() -> Result<Report, Failure> {
    crate::coordinator::connect_existing(None, turnlock::Options::default()).await?;
    Ok(Report::default())
}

/// Asks a coordinator that speaks the etcd API for what that API tells, and the one behind a socket of
/// this machine also for its metrics.
#[cfg(feature = "etcd")]
async fn ask_etcd(
    report: &mut Report,
    backend: Arc<turnlock::etcd::EtcdBackend>,
    socket: Option<&Path>,
) -> Result<(), Error> {
    ask(report, backend.clone()).await?;
    #[cfg(feature = "embedded")]
    if let Some(socket) = socket {
        report.usage = read_usage(socket).await;
    }
    #[cfg(not(feature = "embedded"))]
    let _ = socket;
    let mut client = backend.client().await?;
    // A coordinator may serve locks and refuse to report on itself.
    if let Ok(status) = client.maintenance_client().status().await {
        let version = Version::parse(status.version());
        let used = match version.is_ours() {
            // That is what its limit counts.
            true => status.raft_used_db_size(),
            false => status.db_size(),
        };
        let limit = u64::try_from(status.db_size_quota()).ok();
        report.store = u64::try_from(used).ok().map(|used| Size {
            used,
            limit: limit.filter(|limit| *limit > 0),
        });
        report.warnings.clone_from(&status.0.errors);
        report.version = Some(version);
    }
    if let Ok(leases) = client.leases().await {
        report.sessions = Some(leases.leases().len());
    }
    Ok(())
}

/// Asks a coordinator for its locks, and measures how long it takes to reply.
async fn ask(report: &mut Report, backend: Arc<dyn Backend>) -> Result<(), Error> {
    report.round_trip = Some(measure::round_trip(&*backend).await?);
    report.load = Some(measure::load(backend).await?);
    Ok(())
}

/// Returns how long a process has run.
fn read_uptime(pid: u32) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_the_name) = stat.rsplit_once(") ")?;
    // The 22nd field is the start time. The name, which is the second field, is cut off here.
    let ticks: u64 = after_the_name.split(' ').nth(19)?.parse().ok()?;
    let started = ticks * 1000 / rustix::param::clock_ticks_per_second().max(1);
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let now = u64::try_from(now.tv_sec).ok()? * 1000;
    Some(Duration::from_millis(now.saturating_sub(started)))
}
