//! The controlling terminal, and which process group is in its foreground.

use std::os::fd::OwnedFd;

use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, getpgrp};
use rustix::termios::{isatty, tcgetpgrp, tcsetpgrp};

/// The controlling terminal of this process.
#[derive(Debug)]
pub(super) struct Terminal {
    tty: OwnedFd,
}

impl Terminal {
    /// `None` if this process has none.
    pub fn open() -> Option<Self> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOCTTY;
        let tty = rustix::fs::open("/dev/tty", flags, Mode::empty()).ok()?;
        Some(Terminal { tty })
    }

    /// Whether our standard input and output are both a terminal. If one is not, we may be part of
    /// a pipeline, whose other parts would be put into the background together with us: `turnlock
    /// run x -- make | less`.
    pub fn is_stdio() -> bool {
        isatty(rustix::stdio::stdin()) && isatty(rustix::stdio::stdout())
    }

    /// Whether this group is in the foreground.
    pub fn is_of(&self, group: Pid) -> bool {
        tcgetpgrp(&self.tty) == Ok(group)
    }

    /// Puts this group into the foreground, if we are there, and answers whether it is there now.
    pub fn give(&self, group: Pid) -> bool {
        self.is_of(getpgrp()) && tcsetpgrp(&self.tty, group).is_ok()
    }

    /// Puts ourselves back into the foreground, if this group is there.
    pub fn take_back(&self, group: Pid) {
        if !self.is_of(group) {
            return;
        }
        // We ask from the background, for which the kernel would stop us. Should it refuse, then
        // the terminal is gone or no longer ours, and there is nothing to put right.
        let mut objection = SigSet::empty();
        objection.add(Signal::SIGTTOU);
        if let Ok(before) = objection.thread_swap_mask(SigmaskHow::SIG_BLOCK) {
            let _ = tcsetpgrp(&self.tty, getpgrp());
            let _ = before.thread_set_mask();
        }
    }
}

/// Lets this thread write to the terminal from the background even if the user had that forbidden
/// (`stty tostop`).
pub(super) fn allow_background_output() {
    let mut objection = SigSet::empty();
    objection.add(Signal::SIGTTOU);
    // A valid set cannot be refused.
    let _ = objection.thread_block();
}
