//! Takes a coordinator in the background over from an older program.
//!
//! A coordinator that a command has started outlives an upgrade of the program. The first command of
//! the new program ends it, and starts its own in the same folder: holders keep their locks. A
//! coordinator that somebody else runs, such as a service manager, is left alone.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::statvfs;
use rustix::process::Pid;
use tokio::net::UnixStream;
use turnlock::etcd::{Config, EtcdBackend};

use super::users::parse_background_folder;
use crate::version::split_api_version;

/// The time limit for a coordinator to say its version.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The least room on the disk of the folder for a takeover, in bytes: to open a store takes some.
const MIN_FREE_BYTES: u64 = 256 << 20;

/// What the kernel appends to the path of a program that was replaced or removed.
const REPLACED: &str = " (deleted)";

/// Returns the process that serves a folder if it is one to take over from: a coordinator in the
/// background whose version is older, or whose program was replaced by another build of this version.
/// Usually it runs the program of this command, and nothing is asked.
pub async fn find_older(folder: &Path, socket: &Path) -> Option<Pid> {
    // Only a hint: a process of this number may be another one by now, or in another namespace.
    let owner = fs::read_to_string(folder.join("LOCK")).ok()?;
    let pid = Pid::from_raw(owner.trim().parse().ok()?)?;
    let process = PathBuf::from(format!("/proc/{}", pid.as_raw_nonzero()));
    // This fails for another user's process.
    let program = fs::read_link(process.join("exe")).ok()?;
    let own = fs::read_link("/proc/self/exe").ok()?;
    if program == own {
        return None;
    }
    let served = parse_background_folder(&fs::read(process.join("cmdline")).ok()?)?;
    let stream = UnixStream::connect(socket).await.ok()?;
    if served != folder || stream.peer_cred().ok()?.pid() != Some(pid.as_raw_nonzero().get()) {
        return None;
    }
    // On a full disk it serves its holders, and its successor could not open the store.
    let disk = statvfs(folder).ok()?;
    if disk.f_bavail.saturating_mul(disk.f_frsize) < MIN_FREE_BYTES {
        return None;
    }
    let version = tokio::time::timeout(TIMEOUT, ask_version(socket)).await;
    let version = version.ok()??;
    let (_, version) = split_api_version(&version)?;
    let version = parse_version(version)?;
    let ours = parse_version(env!("CARGO_PKG_VERSION"))?;
    // Two programs that were both replaced would take turns.
    let is_replaced = is_replaced_program(&program) && !is_replaced_program(&own);
    let is_older = version < ours || version == ours && is_replaced;
    is_older.then_some(pid)
}

fn is_replaced_program(program: &Path) -> bool {
    let program = program.as_os_str().as_encoded_bytes();
    program.ends_with(REPLACED.as_bytes())
}

async fn ask_version(socket: &Path) -> Option<String> {
    let backend = EtcdBackend::new(Config::unix(socket)).ok()?;
    let mut client = backend.client().await.ok()?;
    Some(client.status().await.ok()?.version().to_owned())
}

/// Parses the three numbers of a version. What comes after them is not compared.
fn parse_version(text: &str) -> Option<[u32; 3]> {
    let mut numbers = text.splitn(3, '.');
    let mut next = || {
        let digits = numbers.next()?;
        let end = digits.find(|c: char| !c.is_ascii_digit());
        digits[..end.unwrap_or(digits.len())].parse().ok()
    };
    Some([next()?, next()?, next()?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        let parse = |text: &str| parse_version(split_api_version(text)?.1);
        let parsed = |text: &str| parse(text).expect(text);
        assert_eq!(parsed("3.5.0+turnlock.0.1.0"), [0, 1, 0]);
        assert_eq!(parsed("3.5.0+turnlock.1.2.3-rc.1"), [1, 2, 3]);
        assert!(parsed("3.5.0+turnlock.0.9.0") < parsed("3.5.0+turnlock.0.10.0"));
        for other in ["3.5.0", "3.5.0+turnlock.", "3.5.0+turnlock.x.y.z", ""] {
            assert_eq!(parse(other), None, "{other}");
        }
    }
}
