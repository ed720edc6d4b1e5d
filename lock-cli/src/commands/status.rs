//! `turnlock status`: show which coordinator is used, what decided that, and whether it replies.

use std::time::Duration;

use serde_json::json;
#[cfg(feature = "etcd")]
use turnlock::registry::Scheme;
use turnlock::{Backend, Error};

use crate::cli::Global;
use crate::coordinator::{Choice, NamedBy, choose, machine};
use crate::exit::{Exit, Failure};
use crate::output::{escape_controls, format_duration, format_table, print};

/// The facts shown about the coordinator.
#[derive(Default)]
struct Report {
    /// The kind: `own`, `machine` or `named`.
    kind: &'static str,
    /// The URL, or the folder.
    place: String,
    /// The option, variable or file that decided on it.
    decided_by: String,
    pid: Option<u32>,
    uptime: Option<Duration>,
    version: Option<Version>,
    /// The reason why it does not reply.
    trouble: Option<String>,
}

/// The coordinator's program, and the version of the etcd API that it speaks, if it does.
#[derive(Debug, PartialEq, Eq)]
struct Version {
    program: String,
    api: String,
}

pub async fn status(global: Global) -> Result<Exit, Failure> {
    let mut report = match choose(global.backend.as_deref())? {
        Choice::Named(url, by) => report_named(&url, by).await?,
        Choice::Own => report_own().await?,
    };
    report.uptime = report.pid.and_then(read_uptime);
    match global.json {
        true => print(report.to_json().to_string()).ok(),
        false => print(report.to_text()).ok(),
    };
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
        ..Report::default()
    };
    crate::coordinator::refuse_in_process(url)?;
    #[cfg(feature = "etcd")]
    if Scheme::of(url).is_some_and(|scheme| scheme.feature == "etcd") {
        let config = turnlock::etcd::Config::from_url(url)?;
        report.record(fetch_version(&*turnlock::etcd::EtcdBackend::new(config)?).await)?;
        return Ok(report);
    }
    let backend = turnlock::backend(url)?;
    report.record(probe(&*backend).await.map(|()| None))?;
    Ok(report)
}

/// Returns the process that serves a socket, if it is in our process namespace.
async fn find_server(socket: &std::path::Path) -> Option<u32> {
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
                Some(backend) => report.record(fetch_version(&backend).await)?,
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

/// Asks the coordinator for its version.
#[cfg(feature = "etcd")]
async fn fetch_version(backend: &turnlock::etcd::EtcdBackend) -> Result<Option<Version>, Error> {
    // A coordinator may serve locks and refuse to report its version.
    probe(backend).await?;
    let client = backend.client().await?;
    let status = client.maintenance_client().status().await;
    Ok(status.ok().map(|status| Version::parse(status.version())))
}

#[cfg(feature = "etcd")]
impl Version {
    /// Parses the version of the API. Turnlock's own stands behind it, as build metadata.
    fn parse(text: &str) -> Self {
        let (api, program) = match text.split_once("+turnlock.") {
            Some((api, version)) => (api, format!("turnlock {version}")),
            None => (text, format!("etcd {text}")),
        };
        Version {
            program,
            api: api.to_owned(),
        }
    }
}

/// Asks for a list of locks, to see whether the coordinator serves them.
async fn probe(backend: &dyn Backend) -> Result<(), Error> {
    let listed = lock_core::retry::retry_briefly(|| backend.locks("", None, 1));
    listed.await.map(drop)
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

impl Report {
    /// Records the version, or why there is none.
    ///
    /// # Errors
    /// A failure other than a coordinator that cannot be reached: the user made a mistake.
    fn record(&mut self, answer: Result<Option<Version>, Error>) -> Result<(), Failure> {
        match answer {
            Ok(version) => self.version = version,
            Err(error) => {
                let failure = Failure::from(error);
                if failure.exit != Exit::Unavailable {
                    return Err(failure);
                }
                self.trouble = Some(failure.message);
            }
        }
        Ok(())
    }

    fn to_text(&self) -> String {
        let kind = match self.kind {
            "own" => "your own",
            "machine" => "this machine's",
            _ => "named",
        };
        let mut rows = vec![
            ["coordinator".to_owned(), format!("{kind}, {}", self.place)],
            ["decided by".to_owned(), self.decided_by.clone()],
        ];
        if let Some(pid) = self.pid {
            rows.push(["process".to_owned(), pid.to_string()]);
        }
        if let Some(uptime) = self.uptime {
            rows.push(["running for".to_owned(), format_duration(uptime)]);
        }
        if let Some(version) = &self.version {
            let text = format!("{}, etcd API {}", version.program, version.api);
            rows.push(["version".to_owned(), text]);
        }
        let state = self.trouble.as_deref().unwrap_or("answers");
        rows.push(["state".to_owned(), state.to_owned()]);
        let rows: Vec<Vec<String>> = rows
            .iter()
            .map(|row| row.iter().map(|cell| escape_controls(cell)).collect())
            .collect();
        format_table(&rows, &[])
    }

    fn to_json(&self) -> serde_json::Value {
        json!({
            "kind": self.kind,
            "place": self.place,
            "decided_by": self.decided_by,
            "pid": self.pid,
            "uptime_s": self.uptime.map(|uptime| uptime.as_secs()),
            "version": self.version.as_ref().map(|version| &version.program),
            "api": self.version.as_ref().map(|version| &version.api),
            "answers": self.trouble.is_none(),
            "trouble": self.trouble,
        })
    }
}
