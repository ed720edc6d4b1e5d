//! Starts the embedded coordinator in this process.

use tempfile::TempDir;

use super::{Running, Server};

/// Starts a coordinator in memory only.
pub fn memory() -> Server {
    Server::new("embedded:memory", Nothing)
}

/// Starts a durable coordinator in a temporary folder of the system: on the disk that etcd and
/// ZooKeeper use, too.
pub fn durable() -> Server {
    let folder = TempDir::new().expect("a temporary folder");
    let url = format!("embedded://{}", folder.path().display());
    Server::new(&url, Folder { _folder: folder })
}

struct Nothing;

impl Running for Nothing {}

struct Folder {
    _folder: TempDir,
}

impl Running for Folder {}
