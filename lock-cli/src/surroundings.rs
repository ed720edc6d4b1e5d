//! What the command needs of the process that it runs in, looked at before anything is begun: whoever
//! runs short in the middle can say less about it, and some libraries end the process then.

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;

use crate::exit::{Exit, Failure};

/// As many files as a command has open at once, and some to spare.
const DESCRIPTORS: usize = 24;

/// Refuses to begin where not enough files can be opened.
pub fn require_descriptors() -> Result<(), Failure> {
    let spare: Result<Vec<_>, Errno> = (0..DESCRIPTORS)
        .map(|_| eventfd(0, EventfdFlags::CLOEXEC))
        .collect();
    let Err(error) = spare else {
        return Ok(());
    };
    // The limit is a setting; what the whole machine is short of may be there again.
    let (exit, hint) = match error {
        Errno::MFILE => (Exit::Configuration, "raise the limit (ulimit -n)"),
        _ => (Exit::Unavailable, "the whole machine is short of them"),
    };
    let message = format!("cannot open the {DESCRIPTORS} files that it takes: {error}");
    Err(Failure::new(exit, message).hint(hint))
}
