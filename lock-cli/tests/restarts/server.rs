//! `turnlock serve` of either release, on one folder and one socket.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::support::release::Release;
use crate::support::{Home, Running, eventually, signal, text};

/// A coordinator that serves.
pub struct Server {
    running: Running,
    socket: PathBuf,
}

impl Server {
    /// Starts one of this release, and waits until it serves.
    pub fn start(home: &Home, release: Release) -> Self {
        let socket = home.file("s");
        let child = Command::new(release.program())
            .args(["serve", "--data"])
            .arg(home.file("data"))
            .arg("--listen")
            .arg(format!("unix:{}", socket.display()))
            .current_dir(home.path())
            .env_remove("TURNLOCK_BACKEND")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        // One that was killed leaves its socket behind.
        let mut running = Running::of(child.expect("turnlock starts"));
        eventually("it serves", || {
            assert!(!running.ended(), "{release:?} has ended");
            std::os::unix::net::UnixStream::connect(&socket).is_ok()
        });
        Server { running, socket }
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Ends the server with this signal.
    pub fn end(self, with: Signal) {
        signal(self.running.id(), with);
        let output = self.running.wait();
        let said = text(&output.stderr);
        match with {
            Signal::KILL => {
                assert_eq!(output.status.signal(), Some(9), "{said}");
                // A socket outside of the data folder stays, and a new server refuses it.
                std::fs::remove_file(&self.socket).expect("left behind");
            }
            _ => assert!(output.status.success(), "{}: {said}", output.status),
        }
    }
}
