//! The helper processes: this program again, under a hidden first argument.

use std::env;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use super::watchdog;

/// The first argument that makes this program the watchdog.
pub(super) const WATCHDOG: &str = "__watchdog";
/// The first argument that makes this program carry out, when the supervisor was killed, what it
/// finds on its standard input.
pub const LAST_WILL: &str = "__last-will";

/// Does the work of a helper process if that is what this process was started as, and answers its
/// exit status. `main` asks first of all.
pub fn helper_main() -> Option<ExitCode> {
    (env::args_os().nth(1)? == WATCHDOG).then(watchdog::main)
}

/// What to execute to get this very program, also when its file was replaced or removed since we
/// were started. Without `/proc`, what we were called by, if that is a path.
///
/// # Errors
/// `/proc` is not mounted, and we were called by a bare name.
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
            "/proc is not mounted, so this program cannot find itself: mount it (mount -t proc proc /proc), or call turnlock by its path",
        )),
    }
}
