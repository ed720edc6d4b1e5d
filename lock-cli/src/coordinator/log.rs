//! Writes the log of a coordinator in the background. The log is kept across starts, has times, and
//! is bounded.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::OFlags;
use rustix::stdio::dup2_stderr;

/// The size at which the file is renamed to `.1`, over the one that was renamed before.
const MAX_BYTES: u64 = 256 * 1024;

/// Writes the coordinator's messages to its log. From `take_stderr` on, the log also receives the
/// output to stderr, such as the message of a panic.
pub struct Log(Mutex<State>);

struct State {
    path: PathBuf,
    file: File,
    bytes: u64,
    stderr: bool,
}

impl Log {
    /// Opens the log. Lines are appended.
    pub fn open(path: &Path) -> io::Result<Self> {
        let (file, bytes) = open(path)?;
        Ok(Log(Mutex::new(State {
            path: path.to_owned(),
            file,
            bytes,
            stderr: false,
        })))
    }

    /// Redirects stderr to the log.
    pub fn take_stderr(&self) -> io::Result<()> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.stderr = true;
        Ok(dup2_stderr(&state.file)?)
    }
}

impl State {
    fn rotate(&mut self) -> io::Result<()> {
        rename_old(&self.path)?;
        (self.file, self.bytes) = open(&self.path)?;
        if self.stderr {
            dup2_stderr(&self.file)?;
        }
        Ok(())
    }
}

impl Write for &Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.bytes + line.len() as u64 > MAX_BYTES {
            state.rotate()?;
        }
        let written = state.file.write(line)?;
        state.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Opens the file. A link in its place is refused: it would redirect the messages.
fn open(path: &Path) -> io::Result<(File, u64)> {
    let open = || {
        OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32)
            .open(path)
    };
    let mut file = open()?;
    let mut bytes = file.metadata()?.len();
    if bytes > MAX_BYTES / 2 {
        rename_old(path)?;
        file = open()?;
        bytes = file.metadata()?.len();
    }
    Ok((file, bytes))
}

fn rename_old(path: &Path) -> io::Result<()> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(".1");
    fs::rename(path, aside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_kept_over_a_start_and_bounded() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("log");
        let aside = folder.path().join("log.1");
        let line = [b'x'; 1024];
        (&Log::open(&path).expect("opened"))
            .write_all(&line)
            .expect("written");
        let log = Log::open(&path).expect("opened again");
        for _ in 0..1024 {
            (&log).write_all(&line).expect("written");
            assert!(fs::metadata(&path).expect("there").len() <= MAX_BYTES);
        }
        assert_eq!(fs::metadata(&aside).expect("put aside").len(), MAX_BYTES);
        let kept = fs::metadata(&path).expect("there").len();
        assert_eq!(kept, 1024, "1025 lines are four full files and one line");
    }

    #[test]
    fn a_link_is_not_followed() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (path, precious) = (folder.path().join("log"), folder.path().join("precious"));
        fs::write(&precious, "precious").expect("written");
        std::os::unix::fs::symlink(&precious, &path).expect("made");
        assert!(Log::open(&path).is_err());
        assert_eq!(fs::read_to_string(&precious).expect("there"), "precious");
    }
}
