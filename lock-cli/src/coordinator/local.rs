//! The user's own coordinator on this machine: where it lives, and how it is started by whoever
//! needs it first.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Pid;
use tokio::net::UnixStream;
use turnlock::etcd::{Config, EtcdBackend, Keyspace};
use turnlock::{Locks, Options};

use crate::child::this_program;
use crate::exit::{Exit, Failure};

/// A coordinator that has not answered by then after its start has failed.
const START_LIMIT: Duration = Duration::from_secs(15);
/// A coordinator that was started for somebody's command ends when nobody needs it any more.
const IDLE_SECS: &str = "600";
/// How often a starting coordinator is looked for.
const START_POLL: Duration = Duration::from_millis(5);

/// The folder of the user's own coordinator: its data, its socket and its log.
#[derive(Debug, Clone)]
pub struct Home {
    dir: PathBuf,
}

impl Home {
    /// `$TURNLOCK_HOME`, or `turnlock` in the XDG state folder.
    pub fn of_user() -> Result<Self, Failure> {
        let set = |name| {
            std::env::var_os(name)
                .filter(|v| !v.is_empty())
                .map(PathBuf::from)
        };
        let dir = set("TURNLOCK_HOME")
            .or_else(|| {
                set("XDG_STATE_HOME")
                    .filter(|d| d.is_absolute())
                    .map(|d| d.join("turnlock"))
            })
            .or_else(|| set("HOME").map(|d| d.join(".local/state/turnlock")));
        let Some(dir) = dir else {
            return Err(Failure::new(
                Exit::Configuration,
                "no folder for the coordinator: HOME is not set",
            )
            .hint("set TURNLOCK_HOME to a folder of yours"));
        };
        // The same word would mean another folder, and other locks, in every working folder.
        if !dir.is_absolute() {
            let message = format!("the coordinator's folder {} is not absolute", dir.display());
            return Err(Failure::new(Exit::Configuration, message)
                .hint("set TURNLOCK_HOME (or HOME) to an absolute path"));
        }
        Home::at(&dir)
    }

    /// A folder given by the user; the current folder completes a relative one.
    pub fn at(dir: &Path) -> Result<Self, Failure> {
        let dir = std::path::absolute(dir).map_err(|error| {
            Failure::new(Exit::Configuration, format!("{}: {error}", dir.display()))
        })?;
        Ok(Home { dir })
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.join("turnlock.sock")
    }

    fn log(&self) -> PathBuf {
        self.dir.join("coordinator.log")
    }

    /// Locks on the coordinator of this folder.
    pub fn connect(self, options: Options) -> Result<Locks, Failure> {
        Ok(Locks::new(self.backend(Keyspace::default())?, options)?)
    }

    /// A client of the coordinator of this folder, which is started whenever a connection finds none.
    pub fn backend(self, keyspace: Keyspace) -> Result<Arc<EtcdBackend>, Failure> {
        self.create_dir()
            .map_err(|error| Failure::new(Exit::Configuration, error.to_string()))?;
        let socket = self.socket();
        let dialer = Arc::new(move || {
            let home = self.clone();
            let dialed: futures_util::future::BoxFuture<'static, io::Result<UnixStream>> =
                Box::pin(async move { home.dial().await });
            dialed
        });
        let config = Config::unix(socket)
            .with_keyspace(keyspace)
            .with_dialer(dialer);
        Ok(EtcdBackend::new(config)?)
    }

    /// The process that serves the socket, if one does: the kernel knows, no file has to be
    /// believed.
    pub async fn find(&self) -> io::Result<Option<Pid>> {
        match UnixStream::connect(self.socket()).await {
            Ok(stream) => Ok(stream.peer_cred()?.pid().and_then(Pid::from_raw)),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(named(&self.socket(), &error)),
        }
    }

    async fn dial(&self) -> io::Result<UnixStream> {
        match UnixStream::connect(self.socket()).await {
            Err(error) if is_absent(&error) => {}
            other => return other,
        }
        let home = self.clone();
        let started = tokio::task::spawn_blocking(move || home.start()).await;
        started.map_err(io::Error::other)??;
        UnixStream::connect(self.socket()).await
    }

    /// Starts the coordinator, unless another process did so meanwhile, and waits until it answers.
    fn start(&self) -> io::Result<()> {
        // It may have been removed since we began, and the coordinator with it.
        self.create_dir()?;
        // Of twenty that start at once one gets the lock and starts it; the others find it running.
        let starting = private_file(&self.dir.join("START"))?;
        starting.lock()?;
        if self.answers() {
            return Ok(());
        }
        let log = private_file(&self.log())?;
        log.set_len(0)?;
        let mut coordinator = Command::new(this_program()?)
            .arg0("turnlock")
            .args(["serve", "--background", "--idle", IDLE_SECS, "--data"])
            .arg(&self.dir)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        let limit = Instant::now() + START_LIMIT;
        while !self.answers() {
            let ended = coordinator.try_wait()?;
            if ended.is_some() || Instant::now() > limit {
                let said = fs::read_to_string(self.log()).unwrap_or_default();
                let how =
                    ended.map_or("it does not answer".to_owned(), |status| status.to_string());
                return Err(io::Error::other(format!(
                    "the coordinator in {} did not start ({how}): {}",
                    self.dir.display(),
                    said.trim()
                )));
            }
            std::thread::sleep(START_POLL);
        }
        Ok(())
    }

    fn answers(&self) -> bool {
        std::os::unix::net::UnixStream::connect(self.socket()).is_ok()
    }

    /// The folder is for the user alone: who can write there can take every lock.
    pub fn create_dir(&self) -> io::Result<()> {
        let at_dir = |error: io::Error| named(&self.dir, &error);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.dir)
            .map_err(at_dir)?;
        let metadata = fs::metadata(&self.dir).map_err(at_dir)?;
        if metadata.uid() != rustix::process::geteuid().as_raw() {
            return Err(io::Error::other(format!(
                "{} belongs to another user: set TURNLOCK_HOME to a folder of yours",
                self.dir.display()
            )));
        }
        let mode = metadata.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(io::Error::other(format!(
                "{} is open to other users (mode {:o}): chmod 700 it",
                self.dir.display(),
                mode & 0o777
            )));
        }
        Ok(())
    }
}

/// Whether nobody listens on the socket: it is not there, or it was left behind by one that was
/// killed.
fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
    )
}

fn private_file(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| named(path, &error))
}

/// The system's errors do not say which file they are about.
fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
