//! Finds the user's own coordinator on this machine. The first command that needs the coordinator
//! starts it.

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

use super::folder::{self, Refusal};
use super::location::{self, FolderSource};
use super::{daemon, ending, takeover};
use crate::exit::{Exit, Failure};
use crate::output::{narrate, say};

/// The time limit for a coordinator to reply after its start.
const START_LIMIT: Duration = Duration::from_secs(15);
/// The time without a session after which a coordinator that a command started ends, in seconds.
const IDLE_SECS: &str = "600";
/// The pause between two checks of a starting coordinator.
const START_POLL: Duration = Duration::from_millis(5);
/// The longest time in which a coordinator has its folder but no socket, because it is about to
/// serve or to end.
const SETTLED: Duration = Duration::from_secs(10);
/// The largest part of the messages of a coordinator that failed to start that is read, in bytes.
const MAX_MESSAGE_BYTES: u64 = 64 * 1024;

/// The folder of the user's own coordinator: its data, its socket and its log.
#[derive(Debug, Clone)]
pub struct Home {
    dir: PathBuf,
    source: FolderSource,
}

/// The state of a folder: whether a coordinator serves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerState {
    /// No coordinator has the folder.
    Absent,
    /// This process serves it. The kernel reports its id if it is in our process namespace.
    Serving(Option<Pid>),
    /// A process owns the folder, but no socket replies. The process id comes from the file LOCK.
    Unresponsive(Option<u32>),
}

impl Home {
    /// Returns the home in `$TURNLOCK_HOME`, or else `turnlock` in the XDG state folder.
    pub fn of_user() -> Result<Self, Failure> {
        let (dir, source) = location::choose()?;
        // A relative path would mean other locks in every working folder.
        if !dir.is_absolute() {
            let message = format!("the coordinator's folder {} is not absolute", dir.display());
            return Err(Failure::new(Exit::Configuration, message)
                .hint("set TURNLOCK_HOME (or HOME) to an absolute path"));
        }
        Ok(Home { dir, source })
    }

    /// Returns the home in a folder that the user gave. A relative path begins at the current
    /// folder.
    pub fn at(dir: &Path) -> Result<Self, Failure> {
        let dir = std::path::absolute(dir).map_err(|error| {
            Failure::new(Exit::Configuration, format!("{}: {error}", dir.display()))
        })?;
        Ok(Home {
            dir,
            source: FolderSource::Named,
        })
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn source(&self) -> FolderSource {
        self.source
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.join("turnlock.sock")
    }

    pub fn log(&self) -> PathBuf {
        self.dir.join("coordinator.log")
    }

    /// Opens a client of the coordinator of this folder. The coordinator is started whenever a
    /// connection finds none.
    pub fn open(self, keyspace: Keyspace) -> Result<Arc<EtcdBackend>, Failure> {
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

    /// Opens a client of the coordinator of this folder, if one runs. None is started, and no file
    /// is made.
    pub async fn open_existing(
        &self,
        keyspace: Keyspace,
    ) -> Result<Option<Arc<EtcdBackend>>, Failure> {
        match self.find_settled().await? {
            ServerState::Absent => Ok(None),
            ServerState::Serving(_) => {
                let config = Config::unix(self.socket()).with_keyspace(keyspace);
                Ok(Some(EtcdBackend::new(config)?))
            }
            ServerState::Unresponsive(pid) => Err(self.to_unresponsive_failure(pid)),
        }
    }

    /// Finds out whether a coordinator serves the folder. The kernel knows, by the socket or by the
    /// lock that a coordinator holds on the folder, so no content of a file has to be believed.
    pub async fn find(&self) -> Result<ServerState, Failure> {
        self.require_short_path()?;
        folder::require_safe(&self.dir)?;
        let socket = self.socket();
        let failed = |path: &Path, error: &io::Error| {
            Failure::new(Exit::Unavailable, with_path(path, error).to_string())
        };
        match UnixStream::connect(&socket).await {
            Ok(stream) => {
                let peer = stream.peer_cred().map_err(|e| failed(&socket, &e))?;
                Ok(ServerState::Serving(peer.pid().and_then(Pid::from_raw)))
            }
            Err(error) if is_absent(&error) => self
                .find_lock_holder()
                .map_err(|error| failed(&self.dir.join("LOCK"), &error)),
            Err(error) => Err(failed(&socket, &error)),
        }
    }

    /// Finds out the same, once a coordinator that is about to start or to end has done so.
    pub async fn find_settled(&self) -> Result<ServerState, Failure> {
        let started = Instant::now();
        loop {
            match self.find().await? {
                ServerState::Unresponsive(_) if started.elapsed() < SETTLED => {
                    tokio::time::sleep(START_POLL).await;
                }
                found => return Ok(found),
            }
        }
    }

    /// Finds out whether a process holds the lock on the folder. The lock is taken here only for a
    /// moment: a coordinator that starts at that moment would be turned away.
    fn find_lock_holder(&self) -> io::Result<ServerState> {
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32)
            .open(self.dir.join("LOCK"));
        let mut lock = match opened {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(ServerState::Absent);
            }
            other => other?,
        };
        match lock.try_lock_shared() {
            Ok(()) => Ok(ServerState::Absent),
            Err(TryLockError::Error(error)) => Err(error),
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                // The number is only a hint, because it may not be written yet.
                let _ = lock.read_to_string(&mut pid);
                Ok(ServerState::Unresponsive(pid.trim().parse().ok()))
            }
        }
    }

    /// Makes the failure of a folder whose coordinator does not reply.
    pub fn to_unresponsive_failure(&self, pid: Option<u32>) -> Failure {
        let who = pid.map_or("a process".to_owned(), |pid| {
            format!("process {pid} (so says LOCK)")
        });
        let message = format!(
            "{who} still has the folder {} and does not answer on its socket",
            self.dir.display()
        );
        Failure::new(Exit::Unavailable, message).hint(
            "a coordinator that starts or ends replies in a moment; stop one in another \
                 process namespace from there",
        )
    }

    async fn dial(&self) -> io::Result<UnixStream> {
        match UnixStream::connect(self.socket()).await {
            Err(error) if is_absent(&error) => {}
            other => return other,
        }
        let home = self.clone();
        let started = lock_core::background::block(move || home.start(None)).await;
        started.map_err(io::Error::other)??;
        UnixStream::connect(self.socket()).await
    }

    /// Takes the coordinator over, if one of an older program runs in the background.
    pub async fn take_over(&self) {
        if let Some(older) = takeover::find_older(&self.dir, &self.socket()).await {
            let home = self.clone();
            // Whoever connects meets the same error, if there is one, and starts a coordinator again.
            let _ = lock_core::background::block(move || home.start(Some(older))).await;
        }
    }

    /// Starts the coordinator, in the place of an older one if there is one, unless another process
    /// did so meanwhile, and waits until it replies.
    fn start(&self, older: Option<Pid>) -> io::Result<()> {
        // The folder may have been removed since the command began, and the coordinator with it.
        self.make_dir().map_err(to_permanent_error)?;
        // Of twenty commands that begin at once, one gets this lock and starts the coordinator. The
        // others find it running.
        let starting = self.start_file().map_err(classify_error)?;
        starting.lock()?;
        let serving = self.find_server();
        if let Some(pid) = older.filter(|older| serving == Some(Some(*older))) {
            narrate(format!(
                "takes over from process {pid}, an older coordinator"
            ));
            // It keeps the folder until it has ended. One that does not end goes on serving.
            if let Err(failure) = ending::stop(pid) {
                say(failure.message);
                return Ok(());
            }
        } else if serving.is_some() {
            return Ok(());
        }
        let mut coordinator = self.spawn().map_err(classify_error)?;
        let limit = Instant::now() + START_LIMIT;
        while self.find_server().is_none() {
            if let Some(status) = coordinator.try_wait()? {
                return Err(self.to_start_error(status, &read_messages(&mut coordinator)));
            }
            if Instant::now() > limit {
                return Err(io::Error::other(format!(
                    "the coordinator in {} does not reply {} s after its start: see {}",
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
        folder::open_private_file(&path).map_err(|error| with_path(&path, &error))
    }

    fn spawn(&self) -> io::Result<Child> {
        let mut command = daemon::this_command()?;
        command
            .args(["serve", "--background", "--idle", IDLE_SECS, "--data"])
            .arg(&self.dir);
        if self.source == FolderSource::Named {
            command.arg("--chosen-folder");
        }
        command
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
    }

    /// Makes the error of a coordinator that did not start. It is permanent if the coordinator
    /// itself ended with the status of a mistake.
    fn to_start_error(&self, status: ExitStatus, message: &str) -> io::Error {
        let reason = match message {
            "" => status.to_string(),
            message => message.to_owned(),
        };
        let message = format!(
            "the coordinator in {} did not start: {reason}",
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

    /// Returns the process that serves the socket, as far as the kernel names it, if one does.
    fn find_server(&self) -> Option<Option<Pid>> {
        let stream = std::os::unix::net::UnixStream::connect(self.socket()).ok()?;
        let peer = rustix::net::sockopt::socket_peercred(&stream).ok();
        Some(peer.map(|peer| peer.pid))
    }

    /// Makes the folder for the user alone: a user who could write there could take every lock.
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

/// Reads the messages that a coordinator wrote to stderr before it ended.
fn read_messages(coordinator: &mut Child) -> String {
    let mut said = Vec::new();
    if let Some(stderr) = coordinator.stderr.take() {
        let _ = stderr.take(MAX_MESSAGE_BYTES).read_to_end(&mut said);
    }
    let said = String::from_utf8_lossy(&said);
    let lines = said
        .lines()
        .map(|line| line.strip_prefix("turnlock: ").unwrap_or(line));
    lines.collect::<Vec<_>>().join("; ")
}

/// Returns whether no process listens on the socket: the socket does not exist, or a coordinator
/// that was killed left it behind.
fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
    )
}

/// Makes an error after which a waiting connection is not tried again.
fn to_permanent_error(failure: Failure) -> io::Error {
    let message = match failure.hint {
        Some(hint) => format!("{}; {hint}", failure.message),
        None => failure.message,
    };
    io::Error::other(Error::new(ErrorKind::Configuration, message))
}

/// Makes an error of the system permanent, if trying again does not help.
fn classify_error(error: io::Error) -> io::Error {
    use io::ErrorKind as K;
    match error.kind() {
        K::NotFound
        | K::PermissionDenied
        | K::ReadOnlyFilesystem
        | K::StorageFull
        | K::QuotaExceeded
        | K::NotADirectory
        | K::IsADirectory => {
            to_permanent_error(Failure::new(Exit::Configuration, error.to_string()))
        }
        _ => error,
    }
}

/// Adds the path to an error of the system, which does not name the file.
fn with_path(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
