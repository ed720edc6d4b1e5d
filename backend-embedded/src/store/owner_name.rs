//! The name of the process that serves the folder at a path, also after the folder is gone.
//!
//! The lock in a folder disappears with the folder: a newcomer at its path finds another lock, or
//! creates one, before the former owner has noticed. So an owner also has a name outside of any
//! file system: an abstract Unix socket, named after the user and the path. A newcomer finds the
//! name taken and connects to it. The owner then checks whether its folder is still in its place.
//! If not, the owner ends. If so, it replies which file it has locked, because one path may lead to
//! different folders, for example in containers that share a network.
//!
//! Such names exist on Linux only, and within one network namespace: an owner in another one is not
//! found. It notices by itself within a moment (`coordinator/folder_watchdog.rs`).

use std::io::{ErrorKind, Read};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, UnixCredentials, connect, getsockopt,
    send, socket, sockopt,
};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd};
use rustix::process::geteuid;

use super::ack_mark::checksum;
use super::folder::SHORTAGE_RETRY_DELAY;
use super::location::{FileId, FileLocation};
use crate::error::Error;

/// How long a former owner may take to end after it was queried.
const EXIT_TIMEOUT: Duration = Duration::from_secs(5);
/// How many owners may serve different folders that have the same path, each in its own mount
/// namespace.
const MAX_OWNERS: usize = 8;
/// How many queries are replied to at once.
const MAX_QUERIES: usize = 64;
/// The length of a reply: device and inode.
const REPLY_BYTES: usize = 16;

/// The names of an owner, one for each path of its folder.
#[derive(Debug)]
pub(super) struct OwnerNames {
    names: Vec<UnixListener>,
}

/// The reply of the owner of a name.
enum Reply {
    Nobody,
    /// The owner has just ended.
    Ended,
    /// The owner serves another folder, or is no concern of ours because it runs as another user.
    OtherFolder,
    /// The owner serves this very folder.
    SameFile(Option<u32>),
    /// The owner does not reply.
    Silent(Option<u32>),
}

impl OwnerNames {
    /// Acquires the names of a folder, after its former owners have ended. There are no names if
    /// the system has none to give, or if others use them up.
    pub(super) fn acquire(location: &FileLocation) -> Result<OwnerNames, Error> {
        let until = Instant::now() + EXIT_TIMEOUT;
        let mut names = Vec::new();
        for folder in location.folders() {
            names.extend(bind_name(folder, location.file_id(), until)?);
        }
        Ok(OwnerNames { names })
    }

    /// Returns the descriptors that become readable when a newcomer queries this owner.
    pub(super) fn poll_fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.names.iter().map(AsFd::as_fd)
    }

    /// Accepts the waiting queries of processes of our user. Waits for no client.
    pub(super) fn accept_queries(&self) -> Vec<UnixStream> {
        let mut queries = Vec::new();
        for name in &self.names {
            // Bounded, so that endless queries do not keep the owner from its check.
            for _ in 0..MAX_QUERIES {
                match name.accept() {
                    Ok((stream, _)) if is_of_our_user(&stream) => queries.push(stream),
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    // There are no descriptors left. The query goes on waiting, and this is called
                    // again at once.
                    Err(_) => {
                        std::thread::sleep(SHORTAGE_RETRY_DELAY);
                        break;
                    }
                }
            }
        }
        queries
    }
}

/// Replies that this file is still in its place.
pub(super) fn reply(queries: Vec<UnixStream>, file_id: FileId) {
    let mut reply = [0; REPLY_BYTES];
    reply[..8].copy_from_slice(&file_id.device.to_le_bytes());
    reply[8..].copy_from_slice(&file_id.inode.to_le_bytes());
    for stream in queries {
        // The reply fits into any socket's buffer. A newcomer that has gone needs no reply, and
        // must not cause a signal.
        let _ = send(stream.as_raw_fd(), &reply, MsgFlags::MSG_NOSIGNAL);
    }
}

/// Binds a name for one path; `None` if that is impossible.
fn bind_name(
    folder: &Path,
    file_id: FileId,
    until: Instant,
) -> Result<Option<UnixListener>, Error> {
    loop {
        let mut free = None;
        let mut ended = false;
        for nth in 0..MAX_OWNERS {
            let name = to_name(folder, nth);
            let path = || PathBuf::from(folder);
            match query(&name, file_id, until) {
                Reply::Nobody => free = free.or(Some(name)),
                Reply::OtherFolder => {}
                Reply::Ended => ended = true,
                Reply::SameFile(pid) => return Err(Error::AlreadyOpen { path: path(), pid }),
                Reply::Silent(pid) => return Err(Error::Lingering { path: path(), pid }),
            }
        }
        // The ended owner's name may have become free only now.
        if ended && Instant::now() < until {
            continue;
        }
        let Some(name) = free else {
            tracing::warn!(
                folder = %folder.display(),
                "all owner names of this folder are in use; continuing without one"
            );
            return Ok(None);
        };
        let bound = SocketAddr::from_abstract_name(&name)
            .and_then(|address| UnixListener::bind_addr(&address))
            .and_then(|listener| listener.set_nonblocking(true).map(|()| listener));
        match bound {
            Ok(listener) => return Ok(Some(listener)),
            // Another newcomer was faster: query it.
            Err(error) if error.kind() == ErrorKind::AddrInUse && Instant::now() < until => {}
            Err(error) => {
                tracing::warn!(
                    %error,
                    folder = %folder.display(),
                    "cannot bind the owner name of this folder; continuing without one"
                );
                return Ok(None);
            }
        }
    }
}

fn to_name(folder: &Path, nth: usize) -> Vec<u8> {
    let path = checksum(folder.as_os_str().as_bytes());
    format!("turnlock/{}/{path:016x}/{nth}", geteuid().as_raw()).into_bytes()
}

/// Queries the owner of a name, until an instant.
fn query(name: &[u8], own: FileId, until: Instant) -> Reply {
    let Ok(mut stream) = connect_to(name) else {
        return Reply::Nobody;
    };
    let Some(stream) = &mut stream else {
        return Reply::Silent(None);
    };
    if !is_of_our_user(stream) {
        return Reply::OtherFolder;
    }
    let remaining = until.saturating_duration_since(Instant::now());
    let limited = stream.set_read_timeout(Some(remaining.max(Duration::from_millis(1))));
    let mut reply = [0; REPLY_BYTES];
    let read = limited.and_then(|()| stream.read_exact(&mut reply));
    match read {
        Ok(())
            if reply[..8] == own.device.to_le_bytes() && reply[8..] == own.inode.to_le_bytes() =>
        {
            Reply::SameFile(peer_pid(stream))
        }
        Ok(()) => Reply::OtherFolder,
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            Reply::Silent(peer_pid(stream))
        }
        Err(_) => Reply::Ended,
    }
}

/// Connects to the owner of a name; `None` if its queue of connections is full.
fn connect_to(name: &[u8]) -> nix::Result<Option<UnixStream>> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    match connect(socket.as_raw_fd(), &UnixAddr::new_abstract(name)?) {
        Ok(()) => {
            let stream = UnixStream::from(socket);
            // Reads have to block. This cannot fail for a socket of ours.
            let _ = stream.set_nonblocking(false);
            Ok(Some(stream))
        }
        Err(Errno::EAGAIN) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns the credentials of the process at the other end.
fn peer_credentials(stream: &UnixStream) -> Option<UnixCredentials> {
    getsockopt(stream, sockopt::PeerCredentials).ok()
}

fn is_of_our_user(stream: &UnixStream) -> bool {
    peer_credentials(stream).is_some_and(|peer| peer.uid() == geteuid().as_raw())
}

/// Returns the process at the other end, unless it is in another process namespace, where it has no
/// number for us.
fn peer_pid(stream: &UnixStream) -> Option<u32> {
    let pid = u32::try_from(peer_credentials(stream)?.pid()).ok()?;
    (pid != 0).then_some(pid)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    use super::*;

    /// Binds names, and holds them until its input ends.
    const SQUATTER: &str = r"
import socket, sys
held = []
for name in sys.argv[1:]:
    taken = socket.socket(socket.AF_UNIX)
    taken.bind('\0' + name)
    taken.listen()
    held.append(taken)
print('taken', flush=True)
sys.stdin.read()
";

    #[test]
    fn names_that_another_user_has_taken_keep_nobody_out() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().canonicalize().unwrap();
        let lock = File::create(folder.join("LOCK")).unwrap();
        let location = FileLocation::of(&folder, "LOCK", &lock).unwrap();
        for (taken, left) in [(MAX_OWNERS - 1, 1), (MAX_OWNERS, 0)] {
            let names = (0..taken).map(|nth| String::from_utf8(to_name(&folder, nth)).unwrap());
            let mut squatter = Command::new("setpriv")
                .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
                .args(["/usr/bin/python3", "-c", SQUATTER])
                .args(names)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .expect("setpriv runs");
            let mut output = String::new();
            let stdout = squatter.stdout.take().unwrap();
            BufReader::new(stdout).read_line(&mut output).unwrap();
            assert_eq!(output, "taken\n", "run these tests as root");
            let began = Instant::now();
            let owner_names = OwnerNames::acquire(&location).unwrap();
            assert_eq!(owner_names.names.len(), left);
            assert!(began.elapsed() < EXIT_TIMEOUT, "nobody was waited for");
            drop(squatter.stdin.take());
            squatter.wait().unwrap();
        }
    }
}
