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
/// were started.
pub fn this_program() -> io::Result<PathBuf> {
    Ok(PathBuf::from("/proc/self/exe"))
}
