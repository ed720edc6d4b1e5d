//! The user's own coordinator on this machine: where it lives, how it is found, and how it is
//! started by whoever needs it first.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use backend_embedded::server::{ListenError, MAX_SOCKET_PATH_BYTES};
use rustix::fs::OFlags;
use rustix::process::Pid;
use tokio::net::UnixStream;
use turnlock::etcd::{Config, EtcdBackend, Keyspace};
use turnlock::{Error, ErrorKind};

use super::daemon;
use super::folder::{self, Refusal};
use super::place::{self, Chosen};
use crate::exit::{Exit, Failure};

/// A coordinator that has not answered by then after its start has failed.
const START_LIMIT: Duration = Duration::from_secs(15);
/// A coordinator that was started for somebody's command ends when nobody needs it any more.
const IDLE_SECS: &str = "600";
/// How often a starting coordinator is looked for.
const START_POLL: Duration = Duration::from_millis(5);
/// A coordinator that has its folder and no socket is about to serve, or to end.
const SETTLED: Duration = Duration::from_secs(5);
/// Longest part of its last words that is taken from a coordinator that failed to start.
const LAST_WORDS: u64 = 64 * 1024;

/// The folder of the user's own coordinator: its data, its socket and its log.
#[derive(Debug, Clone)]
pub struct Home {
    dir: PathBuf,
    chosen: Chosen,
}

/// Who serves a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    Nobody,
    /// This process, which the kernel names if it is in our process namespace.
    Serving(Option<Pid>),
    /// Somebody has the folder and no socket that answers. The number is what the folder says.
    Mute(Option<u32>),
}

impl Home {
    /// `$TURNLOCK_HOME`, or `turnlock` in the XDG state folder.
    pub fn of_user() -> Result<Self, Failure> {
        let (dir, chosen) = place::choose()?;
        // The same word would mean another folder, and other locks, in every working folder.
        if !dir.is_absolute() {
            let message = format!("the coordinator's folder {} is not absolute", dir.display());
            return Err(Failure::new(Exit::Configuration, message)
                .hint("set TURNLOCK_HOME (or HOME) to an absolute path"));
        }
        Ok(Home { dir, chosen })
    }

    /// A folder given by the user; the current folder completes a relative one.
    pub fn at(dir: &Path) -> Result<Self, Failure> {
        let dir = std::path::absolute(dir).map_err(|error| {
            Failure::new(Exit::Configuration, format!("{}: {error}", dir.display()))
        })?;
        Ok(Home {
            dir,
            chosen: Chosen::ByName,
        })
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn chosen(&self) -> Chosen {
        self.chosen
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.join("turnlock.sock")
    }

    pub fn log(&self) -> PathBuf {
        self.dir.join("coordinator.log")
    }

    /// A client of the coordinator of this folder, which is started whenever a connection finds none.
    pub fn backend(self, keyspace: Keyspace) -> Result<Arc<EtcdBackend>, Failure> {
        self.require_short_path()?;
        self.make_dir()?;
        let config = Config::unix(self.socket()).with_keyspace(keyspace);
        let dialer = Arc::new(move || {
            let home = self.clone();
            let dialed: futures_util::future::BoxFuture<'static, io::Result<UnixStream>> =
                Box::pin(async move { home.dial().await });
            dialed
        });
        Ok(EtcdBackend::new(config.with_dialer(dialer))?)
    }

    /// A client of the coordinator of this folder, if one runs. None is started, and nothing is made.
    pub async fn existing(&self, keyspace: Keyspace) -> Result<Option<Arc<EtcdBackend>>, Failure> {
        match self.find_settled().await? {
            Found::Nobody => Ok(None),
            Found::Serving(_) => {
                let config = Config::unix(self.socket()).with_keyspace(keyspace);
                Ok(Some(EtcdBackend::new(config)?))
            }
            Found::Mute(pid) => Err(self.mute(pid)),
        }
    }

    /// Who serves the folder: the kernel knows, by the socket or by the lock that a coordinator
    /// holds on the folder. No file has to be believed.
    pub async fn find(&self) -> Result<Found, Failure> {
        self.require_short_path()?;
        folder::require_safe(&self.dir)?;
        let socket = self.socket();
        let failed = |path: &Path, error: &io::Error| {
            Failure::new(Exit::Unavailable, named(path, error).to_string())
        };
        match UnixStream::connect(&socket).await {
            Ok(stream) => {
                let peer = stream.peer_cred().map_err(|e| failed(&socket, &e))?;
                Ok(Found::Serving(peer.pid().and_then(Pid::from_raw)))
            }
            Err(error) if is_absent(&error) => self
                .find_mute()
                .map_err(|error| failed(&self.dir.join("LOCK"), &error)),
            Err(error) => Err(failed(&socket, &error)),
        }
    }

    /// The same, once a coordinator that starts or ends just now has done so.
    pub async fn find_settled(&self) -> Result<Found, Failure> {
        let started = Instant::now();
        loop {
            match self.find().await? {
                Found::Mute(_) if started.elapsed() < SETTLED => {
                    tokio::time::sleep(START_POLL).await;
                }
                found => return Ok(found),
            }
        }
    }

    /// Whether somebody holds the lock on the folder. The moment for which it is taken here is as
    /// short as can be: a coordinator that starts just then would be turned away.
    fn find_mute(&self) -> io::Result<Found> {
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32)
            .open(self.dir.join("LOCK"));
        let mut lock = match opened {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nobody),
            other => other?,
        };
        match lock.try_lock_shared() {
            Ok(()) => Ok(Found::Nobody),
            Err(TryLockError::Error(error)) => Err(error),
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                // A hint alone, which may be about to be written.
                let _ = lock.read_to_string(&mut pid);
                Ok(Found::Mute(pid.trim().parse().ok()))
            }
        }
    }

    /// Somebody has the folder, whom nobody can ask.
    pub fn mute(&self, pid: Option<u32>) -> Failure {
        let who = pid.map_or("a process".to_owned(), |pid| {
            format!("process {pid} (so says LOCK)")
        });
        let message = format!(
            "{who} still has the folder {} and does not answer on its socket",
            self.dir.display()
        );
        Failure::new(Exit::Unavailable, message)
            .hint("a coordinator that starts or ends answers in a moment; one in another process namespace has to be stopped there")
    }

    async fn dial(&self) -> io::Result<UnixStream> {
        match UnixStream::connect(self.socket()).await {
            Err(error) if is_absent(&error) => {}
            other => return other,
        }
        let home = self.clone();
        let started = lock_core::background::block(move || home.start()).await;
        started.map_err(io::Error::other)??;
        UnixStream::connect(self.socket()).await
    }

    /// Starts the coordinator, unless another process did so meanwhile, and waits until it answers.
    fn start(&self) -> io::Result<()> {
        // It may have been removed since we began, and the coordinator with it.
        self.make_dir().map_err(permanent)?;
        // Of twenty that start at once one gets the lock and starts it; the others find it running.
        let starting = self.start_file().map_err(of_mistake)?;
        starting.lock()?;
        if self.answers() {
            return Ok(());
        }
        let mut coordinator = self.spawn().map_err(of_mistake)?;
        let limit = Instant::now() + START_LIMIT;
        while !self.answers() {
            if let Some(status) = coordinator.try_wait()? {
                return Err(self.not_started(status, &last_words(&mut coordinator)));
            }
            if Instant::now() > limit {
                return Err(io::Error::other(format!(
                    "the coordinator in {} does not answer {} s after its start: see {}",
                    self.dir.display(),
                    START_LIMIT.as_secs(),
                    self.log().display()
                )));
            }
            std::thread::sleep(START_POLL);
        }
        Ok(())
    }

    fn start_file(&self) -> io::Result<File> {
        let path = self.dir.join("START");
        folder::private_file(&path).map_err(|error| named(&path, &error))
    }

    fn spawn(&self) -> io::Result<Child> {
        let mut command = daemon::program()?;
        command
            .args(["serve", "--background", "--idle", IDLE_SECS, "--data"])
            .arg(&self.dir);
        if self.chosen == Chosen::ByName {
            command.arg("--chosen-folder");
        }
        command
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
    }

    /// Why it did not start: for ever, if it called that a mistake itself.
    fn not_started(&self, status: ExitStatus, said: &str) -> io::Error {
        let how = match said {
            "" => status.to_string(),
            said => said.to_owned(),
        };
        let message = format!(
            "the coordinator in {} did not start: {how}",
            self.dir.display()
        );
        let is = |exit: Exit| status.code() == Some(i32::from(exit.code()));
        if is(Exit::Configuration) || is(Exit::Usage) {
            io::Error::other(Error::new(ErrorKind::Configuration, message))
        } else if is(Exit::Refused) {
            io::Error::other(Error::new(ErrorKind::Refused, message))
        } else {
            io::Error::other(message)
        }
    }

    fn answers(&self) -> bool {
        std::os::unix::net::UnixStream::connect(self.socket()).is_ok()
    }

    /// Makes the folder, for the user alone: who can write there can take every lock.
    pub fn make_dir(&self) -> Result<(), Failure> {
        Ok(folder::make(&self.dir)?)
    }

    fn require_short_path(&self) -> Result<(), Failure> {
        let path = self.socket();
        if path.as_os_str().len() <= MAX_SOCKET_PATH_BYTES {
            return Ok(());
        }
        let message = ListenError::PathTooLong { path }.to_string();
        Err(Failure::new(Exit::Configuration, message)
            .hint("set TURNLOCK_HOME to a folder with a shorter path"))
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Failure::new(Exit::Configuration, refusal.message).hint(refusal.remedy)
    }
}

/// What it said before it ended.
fn last_words(coordinator: &mut Child) -> String {
    let mut said = Vec::new();
    if let Some(stderr) = coordinator.stderr.take() {
        let _ = stderr.take(LAST_WORDS).read_to_end(&mut said);
    }
    let said = String::from_utf8_lossy(&said);
    let lines = said
        .lines()
        .map(|line| line.strip_prefix("turnlock: ").unwrap_or(line));
    lines.collect::<Vec<_>>().join("; ")
}

/// Whether nobody listens on the socket: it is not there, or it was left behind by one that was
/// killed.
fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
    )
}

/// Passed on to those who wait for a connection, who do not try again.
fn permanent(failure: Failure) -> io::Error {
    let message = match failure.hint {
        Some(hint) => format!("{}; {hint}", failure.message),
        None => failure.message,
    };
    io::Error::other(Error::new(ErrorKind::Configuration, message))
}

/// The same for what the system says, where no repetition helps.
fn of_mistake(error: io::Error) -> io::Error {
    use io::ErrorKind as K;
    match error.kind() {
        K::NotFound
        | K::PermissionDenied
        | K::ReadOnlyFilesystem
        | K::StorageFull
        | K::QuotaExceeded
        | K::NotADirectory
        | K::IsADirectory => permanent(Failure::new(Exit::Configuration, error.to_string())),
        _ => error,
    }
}

/// The system's errors do not say which file they are about.
fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
