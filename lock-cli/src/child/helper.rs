//! Starts the helper processes: this program again, with a hidden first argument.

use std::env;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use super::watchdog;

/// The first argument that makes this program the watchdog.
pub(super) const WATCHDOG: &str = "__watchdog";
/// The first argument that makes this program carry out the last will on its standard input, after
/// the supervisor was killed.
pub const LAST_WILL: &str = "__last-will";

/// Does the work of a helper process, if this process was started as one. Returns its exit status,
/// or `None` in any other process. `main` calls it first.
pub fn helper_main() -> Option<ExitCode> {
    (env::args_os().nth(1)? == WATCHDOG).then(watchdog::main)
}

/// Returns the path that executes this same program, even if its file was replaced or removed since
/// it was started. Without `/proc` it is the path that the program was called by.
///
/// # Errors
/// `/proc` is not mounted, and the program was called by a bare name.
pub fn this_program() -> io::Result<PathBuf> {
    let here = PathBuf::from("/proc/self/exe");
    if here.symlink_metadata().is_ok() {
        return Ok(here);
    }
    let called = env::args_os().next().map(PathBuf::from);
    match called.filter(|path| path.components().count() > 1) {
        Some(path) => std::path::absolute(path),
        None => Err(io::Error::new(
            io::ErrorKind::NotFound,
            "/proc is not mounted, so this program cannot find itself: mount it (mount -t proc \
             proc /proc), or call turnlock by its path",
        )),
    }
}
