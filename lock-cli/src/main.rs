//! The `turnlock` command; see the crate's library.

use std::process::ExitCode;

fn main() -> ExitCode {
    lock_cli::main()
}
