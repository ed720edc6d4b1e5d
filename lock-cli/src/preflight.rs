//! Checks what the command needs from its process before it begins anything. A command that ran
//! short of descriptors halfway could report less about it, and some libraries end the process
//! then.

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;

use crate::exit::{Exit, Failure};

/// The number of files that a command has open at once, and some to spare.
const DESCRIPTORS: usize = 24;

/// Checks that the command can open enough files, and fails with the reason otherwise.
pub fn check_descriptors() -> Result<(), Failure> {
    let spare: Result<Vec<_>, Errno> = (0..DESCRIPTORS)
        .map(|_| eventfd(0, EventfdFlags::CLOEXEC))
        .collect();
    let Err(error) = spare else {
        return Ok(());
    };
    // The user can raise the limit of the process. A shortage of the whole machine may pass.
    let (exit, hint) = match error {
        Errno::MFILE => (Exit::Configuration, "raise the limit (ulimit -n)"),
        _ => (Exit::Unavailable, "the whole machine is short of them"),
    };
    let message = format!("cannot open the {DESCRIPTORS} files that it takes: {error}");
    Err(Failure::new(exit, message).hint(hint))
}
