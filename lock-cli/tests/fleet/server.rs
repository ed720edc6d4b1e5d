//! Starts a PostgreSQL server for one test, from Debian's package.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::{Running, eventually, program, signal, text};

/// A server that listens on a Unix socket in a folder of its own. The folder is removed with the
/// server.
pub struct Postgres {
    running: Option<Running>,
    dir: TempDir,
}

impl Postgres {
    pub fn start() -> Self {
        let bin = binaries();
        let dir = tempfile::Builder::new()
            .prefix("pg")
            .permissions(fs::Permissions::from_mode(0o700))
            .tempdir()
            .expect("a temporary folder");
        let data = dir.path().join("data");
        fs::create_dir(&data).expect("made");
        // The server refuses to run as the superuser.
        let mut command = as_user(&dir, &bin.join("initdb"));
        let made = command
            .args(["--auth=trust", "--username=test", "--no-sync", "--pgdata"])
            .arg(&data)
            .output()
            .expect("initdb starts");
        assert!(made.status.success(), "{}", text(&made.stderr));
        let child = as_user(&dir, &bin.join("postgres"))
            .arg("-D")
            .arg(&data)
            .arg("-k")
            .arg(dir.path())
            .args(["-c", "listen_addresses="])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(dir.path().join("log")).expect("made"))
            .spawn()
            .expect("postgres starts");
        let mut server = Postgres {
            running: Some(Running::of(child)),
            dir,
        };
        let address = server.address();
        eventually("PostgreSQL answers", || {
            let ended = server.running.as_mut().is_some_and(Running::ended);
            let log = || fs::read_to_string(server.dir.path().join("log")).unwrap_or_default();
            assert!(!ended, "PostgreSQL has ended: {}", log());
            ::postgres::Client::connect(&address, ::postgres::NoTls).is_ok()
        });
        server
    }

    pub fn address(&self) -> String {
        format!(
            "host={} user=test dbname=postgres",
            self.dir.path().display()
        )
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            // INT ends its sessions and stops it. After a kill its other processes would have to
            // notice by themselves.
            signal(running.id(), Signal::INT);
            running.wait();
        }
    }
}

/// Finds the programs of PostgreSQL: Debian puts them into a folder for each version, outside of
/// the PATH.
fn binaries() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    versions
        .filter_map(|version| Some(version.ok()?.path().join("bin")))
        .filter(|bin| bin.join("postgres").is_file())
        .max()
        .expect("PostgreSQL is not installed: apt-get install postgresql")
}

/// Makes a command that runs the program as a user who is not the superuser, and who owns the
/// folder.
fn as_user(dir: &TempDir, program_path: &Path) -> Command {
    const NOBODY: u32 = 65534;
    if !rustix::process::geteuid().is_root() {
        return Command::new(program_path);
    }
    for path in [dir.path(), &dir.path().join("data")] {
        std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).expect("root");
    }
    let mut command = Command::new(program("setpriv", "util-linux"));
    command
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"])
        .arg(program_path);
    command
}
