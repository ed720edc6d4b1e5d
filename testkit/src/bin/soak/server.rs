//! Starts the real coordinator, and measures its process.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// How long the coordinator may take to start.
const START: Duration = Duration::from_secs(30);
const STEP: Duration = Duration::from_millis(50);

/// A coordinator in a process of its own. It is stopped when this is dropped.
pub struct Server {
    process: Child,
    data: TempDir,
    /// The folder of the socket, whose path has to be short.
    socket: TempDir,
}

impl Server {
    /// Starts a coordinator with its data in a folder of its own below `folder`.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start(turnlock: &Path, folder: &Path, log: &Path) -> io::Result<Self> {
        // The coordinator refuses folders that others can enter.
        let private = Permissions::from_mode(0o700);
        let mut maker = tempfile::Builder::new();
        maker.prefix("soak").permissions(private);
        let (data, socket) = (maker.tempdir_in(folder)?, maker.tempdir()?);
        let process = Command::new(turnlock)
            .arg("serve")
            .arg("--data")
            .arg(data.path())
            .arg("--listen")
            .arg(format!("unix:{}", to_socket(&socket).display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(log)?)
            .spawn()?;
        let mut server = Server {
            process,
            data,
            socket,
        };
        let begun = Instant::now();
        while !to_socket(&server.socket).exists() {
            if server.process.try_wait()?.is_some() || begun.elapsed() > START {
                let error = format!("the coordinator does not start: see {}", log.display());
                return Err(io::Error::other(error));
            }
            thread::sleep(STEP);
        }
        Ok(server)
    }

    /// Returns the URL of the coordinator.
    pub fn url(&self) -> String {
        format!("etcd+unix://{}", to_socket(&self.socket).display())
    }

    /// Measures what the coordinator uses now: each quantity with its name.
    ///
    /// # Errors
    /// If the coordinator has ended.
    pub fn measure(&self) -> io::Result<[(&'static str, u64); 3]> {
        let process = PathBuf::from(format!("/proc/{}", self.process.id()));
        let status = fs::read_to_string(process.join("status"))?;
        let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let memory = memory.and_then(|text| text.trim().strip_suffix(" kB")?.parse().ok());
        let descriptors = fs::read_dir(process.join("fd"))?.count();
        let mut bytes = 0;
        for file in fs::read_dir(self.data.path())? {
            // A file may be replaced meanwhile.
            bytes += file?.metadata().map_or(0, |metadata| metadata.len());
        }
        Ok([
            ("memory in KiB", memory.ok_or(io::ErrorKind::NotFound)?),
            ("descriptors", descriptors as u64),
            ("journal and store in bytes", bytes),
        ])
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // One that has ended and was waited for has no number any more.
        if matches!(self.process.try_wait(), Ok(None)) {
            let _ = kill_process(Pid::from_child(&self.process), Signal::TERM);
        }
        let _ = self.process.wait();
    }
}

fn to_socket(folder: &TempDir) -> PathBuf {
    folder.path().join("socket")
}
