//! Lists the users' own coordinators that run on this machine, as the kernel reports them. Only
//! root sees all of them.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::{Uid, User};
use rustix::process::Pid;
use tokio::net::UnixStream;
use turnlock::etcd::{Config, EtcdBackend};

/// The flag of a listening socket in the kernel's list.
const LISTENS: u32 = 0x10000;
/// The end of the path of every user's socket.
const SOCKET: &str = "/turnlock.sock";

/// The coordinator of one user.
#[derive(Debug)]
pub struct UserCoordinator {
    /// The process, or `None` if it runs in another process namespace.
    pid: Option<Pid>,
    /// The socket, or `None` if the coordinator does not listen yet.
    socket: Option<PathBuf>,
    folder: PathBuf,
}

/// The use of a coordinator: whether a client holds a lock on it or waits for one.
#[derive(Debug, PartialEq, Eq)]
pub enum Usage {
    /// The coordinator has no session.
    Idle,
    /// The coordinator has this many sessions.
    Sessions(usize),
    /// The use cannot be determined, for this reason.
    Unknown(String),
}

/// Lists the coordinators that run, except those that serve a folder which its users name. No
/// command uses those by default, now or later.
pub fn list() -> io::Result<Vec<UserCoordinator>> {
    let mut sockets = parse_listeners(&fs::read_to_string("/proc/net/unix")?);
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Ok(entry) = entry else { continue };
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.parse().ok());
        let Some(pid) = number.and_then(Pid::from_raw) else {
            continue;
        };
        // A process may end meanwhile.
        let Ok(line) = fs::read(entry.path().join("cmdline")) else {
            continue;
        };
        let served = match has_lock(&entry.path()) {
            true => socket_inodes(&entry.path())
                .find_map(|inode| Some((inode, sockets.remove(&inode)?))),
            // A service manager keeps the sockets of its units open, too.
            false => None,
        };
        match (served, parse_background_folder(&line)) {
            (Some((_, socket)), _) if is_default(&line) => found.push(UserCoordinator {
                pid: Some(pid),
                folder: socket.parent().unwrap_or(Path::new("/")).to_owned(),
                socket: Some(socket),
            }),
            (None, Some(folder)) if is_default(&line) => found.push(UserCoordinator {
                pid: Some(pid),
                folder,
                socket: None,
            }),
            _ => {}
        }
    }
    // The processes of these sockets are not visible here.
    found.extend(sockets.into_values().map(|socket| UserCoordinator {
        pid: None,
        folder: socket.parent().unwrap_or(Path::new("/")).to_owned(),
        socket: Some(socket),
    }));
    Ok(found)
}

impl UserCoordinator {
    pub fn pid(&self) -> Option<Pid> {
        self.pid
    }

    pub fn listens(&self) -> bool {
        self.socket.is_some()
    }

    /// Asks the coordinator whether it is in use.
    pub async fn fetch_usage(&self) -> Usage {
        match self.count_sessions().await {
            Ok(0) => Usage::Idle,
            Ok(count) => Usage::Sessions(count),
            Err(why) => Usage::Unknown(why),
        }
    }

    async fn count_sessions(&self) -> Result<usize, String> {
        let socket = self.socket.as_ref().ok_or("it does not reply yet")?;
        let found = self.find_path(socket).await;
        let (path, uid) = found.map_err(|error| error.to_string())?;
        let config = Config::unix(path).with_server_uid(uid);
        let answer = async {
            let backend = EtcdBackend::new(config)?;
            let mut client = backend.client().await?;
            Ok::<_, turnlock::Error>(client.leases().await)
        };
        let leases = answer.await.map_err(|error| error.to_string())?;
        let leases = leases.map_err(|error| error.to_string())?;
        Ok(leases.leases().len())
    }

    /// Finds a path that leads to the process, whose root folder may be another one, and its user.
    async fn find_path(&self, socket: &Path) -> io::Result<(PathBuf, u32)> {
        let inside = self.pid.map(|pid| {
            let relative = socket.strip_prefix("/").unwrap_or(socket);
            Path::new(&format!("/proc/{}/root", pid.as_raw_nonzero())).join(relative)
        });
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for path in [Some(socket.to_owned()), inside].into_iter().flatten() {
            match UnixStream::connect(&path).await.and_then(|s| s.peer_cred()) {
                Ok(peer) if peer.pid().and_then(Pid::from_raw) == self.pid => {
                    return Ok((path, peer.uid()));
                }
                Ok(_) => {}
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Describes the process, its user and its folder, for people.
    pub fn describe(&self) -> String {
        let uid = self.pid.and_then(|pid| {
            let folder = format!("/proc/{}", pid.as_raw_nonzero());
            Some(fs::metadata(folder).ok()?.uid())
        });
        let user = uid.map_or("an unknown user".to_owned(), |uid| {
            match User::from_uid(Uid::from_raw(uid)) {
                Ok(Some(user)) => format!("user {}", user.name),
                _ => format!("user {uid}"),
            }
        });
        let process = self
            .pid
            .map_or("a process of another process namespace".to_owned(), |pid| {
                format!("process {}", pid.as_raw_nonzero())
            });
        format!("{process} of {user}, in {}", self.folder.display())
    }
}

/// Returns the listening sockets with the name of a coordinator's, by inode.
fn parse_listeners(list: &str) -> HashMap<u64, PathBuf> {
    let parse = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let flags = u32::from_str_radix(fields.get(3)?, 16).ok()?;
        let inode = fields.get(6)?.parse().ok()?;
        let at = line.find(fields.get(7)?)?;
        // A path may have spaces in it.
        let path = &line[at..];
        (flags & LISTENS != 0 && path.ends_with(SOCKET) && path != super::system::SOCKET)
            .then(|| (inode, PathBuf::from(path)))
    };
    list.lines().skip(1).filter_map(parse).collect()
}

/// Returns the inodes of a process's sockets.
fn socket_inodes(process: &Path) -> impl Iterator<Item = u64> {
    let open = fs::read_dir(process.join("fd")).ok();
    open.into_iter().flatten().filter_map(|entry| {
        let target = fs::read_link(entry.ok()?.path()).ok()?;
        let text = target.to_str()?;
        text.strip_prefix("socket:[")?
            .strip_suffix(']')?
            .parse()
            .ok()
    })
}

/// Returns whether a process has a file open that is named as the lock of a coordinator's folder.
/// Every coordinator has one.
pub fn has_lock(process: &Path) -> bool {
    let open = fs::read_dir(process.join("fd")).ok();
    let mut open = open.into_iter().flatten().flatten();
    // The kernel marks a file that was removed.
    let is_lock = |target: PathBuf| target.ends_with("LOCK") || target.ends_with("LOCK (deleted)");
    open.any(|entry| fs::read_link(entry.path()).is_ok_and(is_lock))
}

/// Returns the folder of a coordinator that a command has started, by its command line, or `None`
/// for any other process.
pub fn parse_background_folder(line: &[u8]) -> Option<PathBuf> {
    let arguments: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
    let is_one = arguments.get(1) == Some(&&b"serve"[..]) && has_option(&arguments, "--background");
    is_one.then(|| data_folder(&arguments).unwrap_or_default())
}

fn data_folder(arguments: &[&[u8]]) -> Option<PathBuf> {
    let at = arguments.iter().position(|a| *a == b"--data")?;
    let folder = arguments.get(at + 1)?;
    Some(PathBuf::from(std::ffi::OsStr::from_bytes(folder)))
}

fn has_option(arguments: &[&[u8]], option: &str) -> bool {
    arguments.contains(&option.as_bytes())
}

/// Returns whether commands use this coordinator by default, without naming it. A folder that was
/// given to `serve` is named by its users, unless it is the default place in a state folder.
fn is_default(line: &[u8]) -> bool {
    let arguments: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
    if has_option(&arguments, "--chosen-folder") || has_option(&arguments, "--system") {
        return false;
    }
    match data_folder(&arguments) {
        Some(folder) if !has_option(&arguments, "--background") => {
            folder.ends_with("state/turnlock")
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_that_listen_are_read_from_the_kernels_list() {
        let list = "Num       RefCount Protocol Flags    Type St Inode Path
0000000000000000: 00000002 00000000 00010000 0001 01 11 /home/a b/state/turnlock/turnlock.sock
0000000000000000: 00000003 00000000 00000000 0001 03 12 /home/a/turnlock/turnlock.sock
0000000000000000: 00000002 00000000 00010000 0001 01 13 /run/turnlock/turnlock.sock
0000000000000000: 00000002 00000000 00010000 0001 01 14 /run/other.sock
0000000000000000: 00000003 00000000 00000000 0001 03 15
";
        let found = parse_listeners(list);
        let expected = PathBuf::from("/home/a b/state/turnlock/turnlock.sock");
        assert_eq!(found, HashMap::from([(11, expected)]));
    }

    #[test]
    fn the_command_line_shows_which_coordinator_is_a_default() {
        for (line, unasked) in [
            ("turnlock serve --background --data /h/x", true),
            (
                "turnlock serve --background --data /h/x --chosen-folder",
                false,
            ),
            ("turnlock serve", true),
            ("turnlock serve --data /srv/locks", false),
            ("turnlock serve --data /h/.local/state/turnlock", true),
            ("turnlock serve --system", false),
        ] {
            assert_eq!(
                is_default(line.replace(' ', "\0").as_bytes()),
                unasked,
                "{line}"
            );
        }
    }
}
