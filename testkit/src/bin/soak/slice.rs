//! One call of this program: the time that it has, and what its parts share.

use std::fs::File;
use std::io;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use testkit::interruption::Interruption;

use crate::child;

/// The time after which results are kept.
pub const STRETCH: Duration = Duration::from_secs(3 * 60);

/// A slice of the long runs.
pub struct Slice {
    /// The root of the workspace.
    pub root: &'static Path,
    pub length: Duration,
    deadline: Instant,
    interruption: Interruption,
}

impl Slice {
    pub fn begin(length: Duration) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
        Slice {
            root: folder.parent().unwrap_or(folder),
            length,
            deadline: Instant::now() + length,
            interruption: Interruption::catch(),
        }
    }

    /// Returns how long the slice still has.
    pub fn time_left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Runs a program in the root of the workspace, and returns how it ended and what it printed on
    /// stdout.
    ///
    /// # Errors
    /// Of kind `Interrupted` if a signal has come; otherwise if the program cannot be run.
    pub fn run(&self, command: &mut Command) -> io::Result<(ExitStatus, String)> {
        child::run(command.current_dir(self.root), &self.interruption)
    }

    /// Runs cargo on the crates that are locked, to build something.
    ///
    /// # Errors
    /// If cargo fails, with the file of its messages; or if a signal has come.
    pub fn cargo(&self, arguments: &str, log: &Path) -> io::Result<()> {
        let mut command = cargo();
        command
            .args(["--quiet", "--locked"])
            .args(arguments.split(' '))
            .stderr(File::create(log)?);
        match self.run(&mut command)?.0.success() {
            true => Ok(()),
            false => Err(io::Error::other(format!(
                "cargo {arguments} fails: see {}",
                log.display()
            ))),
        }
    }

    /// Ends this program by the signal that has come, if one has.
    pub fn end_if_interrupted(&self) {
        self.interruption.end_this_process();
    }

    /// Returns the commit of the tree, with `-dirty` if the tree differs from it in more than the
    /// results.
    ///
    /// # Errors
    /// If git fails.
    pub fn read_commit(&self) -> io::Result<String> {
        let (status, commit) =
            self.run(Command::new("git").args(["rev-parse", "--short=8", "HEAD"]))?;
        if !status.success() {
            return Err(io::Error::other("git does not name the commit"));
        }
        let results = ["HEAD", "--", ".", ":!testkit/SOAK.*"];
        let (same, _) = self.run(Command::new("git").args(["diff", "--quiet"]).args(results))?;
        let mark = if same.success() { "" } else { "-dirty" };
        Ok(format!("{}{mark}", commit.trim()))
    }
}

/// Returns the cargo that runs this program, or else that of the path.
pub fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}
