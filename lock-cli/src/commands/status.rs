//! `turnlock status`: which coordinator is used, who decided that, and whether it answers.

use std::time::Duration;

use serde_json::json;
use turnlock::{Backend, Error};

use crate::cli::Global;
use crate::coordinator::{By, Choice, choose, machine};
use crate::exit::{Exit, Failure};
use crate::output::{human, print, safe, table};

/// What is known of the coordinator.
#[derive(Default)]
struct Report {
    /// `own`, `machine` or `named`.
    kind: &'static str,
    /// The URL, or the folder.
    place: String,
    decided_by: String,
    pid: Option<u32>,
    uptime: Option<Duration>,
    version: Option<Version>,
    /// Why it does not answer.
    trouble: Option<String>,
}

/// The coordinator's program, and the etcd API that it speaks, if it does.
#[derive(Debug, PartialEq, Eq)]
struct Version {
    program: String,
    api: String,
}

pub async fn status(global: Global) -> Result<Exit, Failure> {
    let mut report = match choose(global.backend.as_deref())? {
        Choice::Named(url, by) => named(&url, by).await?,
        Choice::Own => own().await?,
    };
    report.uptime = report.pid.and_then(uptime);
    match global.json {
        true => print(report.line().to_string()).ok(),
        false => print(report.text()).ok(),
    };
    match report.trouble {
        None => Ok(Exit::Success),
        Some(_) => Ok(Exit::Unavailable),
    }
}

async fn named(url: &str, by: By) -> Result<Report, Failure> {
    let mut report = Report {
        kind: match by {
            By::Machine => "machine",
            By::User => "named",
        },
        place: url.to_owned(),
        decided_by: match by {
            By::Machine => machine::FILE.to_owned(),
            By::User if std::env::var("TURNLOCK_BACKEND").as_deref() == Ok(url) => {
                "TURNLOCK_BACKEND".to_owned()
            }
            By::User => "--backend".to_owned(),
        },
        pid: match machine::socket(url) {
            Some(socket) => peer(socket).await,
            None => None,
        },
        ..Report::default()
    };
    crate::coordinator::refuse_in_process(url)?;
    #[cfg(feature = "etcd")]
    if url.starts_with("etcd") {
        let config = turnlock::etcd::Config::from_url(url)?;
        report.ask(version(&*turnlock::etcd::EtcdBackend::new(config)?).await)?;
        return Ok(report);
    }
    let backend = turnlock::backend(url)?;
    report.ask(answers(&*backend).await.map(|()| None))?;
    Ok(report)
}

/// The process behind a socket, if it is in our process namespace.
async fn peer(socket: &std::path::Path) -> Option<u32> {
    let stream = tokio::net::UnixStream::connect(socket).await.ok()?;
    let pid = stream.peer_cred().ok()?.pid()?;
    u32::try_from(pid).ok().filter(|pid| *pid != 0)
}

#[cfg(feature = "embedded")]
async fn own() -> Result<Report, Failure> {
    use crate::coordinator::local::{Found, Home};
    use crate::coordinator::place::Chosen;
    let home = Home::of_user()?;
    let mut report = Report {
        kind: "own",
        place: home.dir().display().to_string(),
        decided_by: match home.chosen() {
            Chosen::ByName => "TURNLOCK_HOME",
            Chosen::StateHome => "XDG_STATE_HOME",
            Chosen::Home => "HOME",
            Chosen::Database => "the database of users, since HOME is another user's",
        }
        .to_owned(),
        ..Report::default()
    };
    match home.find_settled().await? {
        Found::Nobody => report.trouble = Some("none runs; who needs one starts it".to_owned()),
        Found::Mute(pid) => {
            report.pid = pid;
            report.trouble = Some(home.mute(pid).message);
        }
        Found::Serving(pid) => {
            report.pid = pid.and_then(|pid| u32::try_from(pid.as_raw_nonzero().get()).ok());
            let keyspace = turnlock::etcd::Keyspace::default();
            match home.existing(keyspace).await? {
                Some(backend) => report.ask(version(&backend).await)?,
                None => report.trouble = Some("it has just ended".to_owned()),
            }
        }
    }
    Ok(report)
}

#[cfg(not(feature = "embedded"))]
async fn own() -> Result<Report, Failure> {
    crate::coordinator::connect_existing(None, turnlock::Options::default()).await?;
    Ok(Report::default())
}

/// The version that the coordinator says it has.
#[cfg(feature = "etcd")]
async fn version(backend: &turnlock::etcd::EtcdBackend) -> Result<Option<Version>, Error> {
    // Whether it serves locks is one question, of which version it is another.
    answers(backend).await?;
    let client = backend.client().await?;
    let status = client.maintenance_client().status().await;
    Ok(status.ok().map(|status| Version::parse(status.version())))
}

#[cfg(feature = "etcd")]
impl Version {
    /// Ours stands behind the API's, as build metadata.
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

async fn answers(backend: &dyn Backend) -> Result<(), Error> {
    let listed = lock_core::retry::briefly(|| backend.locks("", None, 1));
    listed.await.map(drop)
}

/// How long a process has run.
fn uptime(pid: u32) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_the_name) = stat.rsplit_once(") ")?;
    // The 22nd field, and the name is the second.
    let ticks: u64 = after_the_name.split(' ').nth(19)?.parse().ok()?;
    let started = ticks * 1000 / rustix::param::clock_ticks_per_second().max(1);
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let now = u64::try_from(now.tv_sec).ok()? * 1000;
    Some(Duration::from_millis(now.saturating_sub(started)))
}

impl Report {
    /// Takes an answer; a mistake of the user's is none.
    fn ask(&mut self, answer: Result<Option<Version>, Error>) -> Result<(), Failure> {
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

    fn text(&self) -> String {
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
            rows.push(["running for".to_owned(), human(uptime)]);
        }
        if let Some(version) = &self.version {
            let text = format!("{}, etcd API {}", version.program, version.api);
            rows.push(["version".to_owned(), text]);
        }
        let state = self.trouble.as_deref().unwrap_or("answers");
        rows.push(["state".to_owned(), state.to_owned()]);
        let rows: Vec<Vec<String>> = rows
            .iter()
            .map(|row| row.iter().map(|cell| safe(cell)).collect())
            .collect();
        table(&rows, &[])
    }

    fn line(&self) -> serde_json::Value {
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
