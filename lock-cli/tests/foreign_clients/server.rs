//! The two servers that the clients are tested on.

use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::support::{PATIENCE, Running, program, within};

/// Which server. The number is its column in the lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Etcd,
    Turnlock,
}

impl Kind {
    /// Returns the program, and the variable that it is started with.
    ///
    /// The tests of other clients count revisions from 1, as those of a new etcd do. A new store of
    /// ours begins with the present time in microseconds. It begins with 1 where the clock is wrong
    /// beyond repair, so that is what the clock shows.
    pub fn program(self) -> (String, Vec<(&'static str, String)>) {
        match self {
            Kind::Etcd => (program("etcd", "etcd-server").display().to_string(), vec![]),
            Kind::Turnlock => {
                let turnlock = env!("CARGO_BIN_EXE_turnlock").to_owned();
                let clock = [
                    ("LD_PRELOAD", find_clock()),
                    ("FAKETIME", "@2300-01-01 00:00:00".to_owned()),
                    ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
                ];
                (turnlock, clock.to_vec())
            }
        }
    }

    /// Returns the arguments for a server on this address, with its data in this folder.
    pub fn arguments(self, address: &str, folder: &str) -> Vec<String> {
        let url = format!("http://{address}");
        let words = match self {
            Kind::Turnlock => vec!["serve", "--quiet", "--listen", address, "--data", folder],
            Kind::Etcd => vec![
                "--data-dir",
                folder,
                "--log-level",
                "error",
                "--listen-client-urls",
                &url,
                "--advertise-client-urls",
                &url,
                "--listen-peer-urls",
                "http://127.0.0.1:0",
            ],
        };
        words.into_iter().map(str::to_owned).collect()
    }
}

/// Returns the library that shows another time to a program.
fn find_clock() -> String {
    let folders = std::fs::read_dir("/usr/lib").expect("a folder");
    folders
        .map(|folder| folder.expect("an entry").path())
        .map(|folder| folder.join("faketime/libfaketime.so.1"))
        .find(|library| library.exists())
        .expect("libfaketime is not installed: apt-get install libfaketime")
        .display()
        .to_string()
}

/// Creates a folder that only this user can enter.
pub fn private_folder() -> TempDir {
    let private = PermissionsExt::from_mode(0o700);
    let folder = tempfile::Builder::new().permissions(private).tempdir();
    folder.expect("a temporary folder")
}

/// A server with an empty store.
pub struct Server {
    pub address: String,
    _running: Running,
    _folder: TempDir,
}

impl Server {
    pub fn start(kind: Kind) -> Self {
        // Another process may take the port between its choice and its use. Then the server ends.
        for _ in 0..5 {
            let address = format!("127.0.0.1:{}", testkit::fixtures::free_port());
            let folder = private_folder();
            let path = folder.path().display().to_string();
            let (program, variables) = kind.program();
            let child = Command::new(program)
                .args(kind.arguments(&address, &path))
                .envs(variables)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn();
            let mut running = Running::of(child.expect("the server starts"));
            let mut has_ended = false;
            within(PATIENCE, "the server listens", || {
                has_ended = running.ended();
                has_ended || TcpStream::connect(&address).is_ok()
            });
            if !has_ended {
                return Server {
                    address,
                    _running: running,
                    _folder: folder,
                };
            }
        }
        panic!("{kind:?} does not start");
    }
}
