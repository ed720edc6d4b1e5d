//! Starts the embedded coordinator in a process of its own, reached through its Unix socket.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use backend_embedded::server::{Listen, Server as Face};
use backend_embedded::{Config, Coordinator};
use tempfile::TempDir;

use super::{Running, Server, blocking};

const SOCKET: &str = "s";
/// The first argument that makes this program a server.
const ROLE: &str = "serve-benches";

/// Serves until the process is killed, if this process was started as the server.
pub fn serve_if_asked() {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_none_or(|first| first != ROLE) {
        return;
    }
    let folder = PathBuf::from(arguments.next().expect("the folder"));
    let coordinator = Coordinator::open(Config::new(&folder)).expect("a folder of our own");
    blocking().block_on(async {
        let listen = Listen::Unix(folder.join(SOCKET));
        let face = Face::bind(coordinator, vec![listen]).expect("the socket is free");
        face.serve(std::future::pending())
            .await
            .expect("nobody else touches the folder");
    });
}

/// Starts this program again, as the server.
pub fn start() -> Server {
    let private = std::fs::Permissions::from_mode(0o700);
    let folder = tempfile::Builder::new().permissions(private).tempdir();
    let folder = folder.expect("a temporary folder");
    let program = std::env::current_exe().expect("this program has a path");
    let child = Command::new(program)
        .arg(ROLE)
        .arg(folder.path())
        .stdin(Stdio::null())
        .spawn()
        .expect("this program starts again");
    let socket = folder.path().join(SOCKET);
    let mut process = Process {
        child,
        _folder: folder,
    };
    while UnixStream::connect(&socket).is_err() {
        let ended = process.child.try_wait().expect("a child of ours");
        assert!(ended.is_none(), "the coordinator ended: {ended:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
    Server::new(&format!("etcd+unix://{}", socket.display()), process)
}

struct Process {
    child: Child,
    _folder: TempDir,
}

impl Running for Process {}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
