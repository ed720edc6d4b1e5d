//! Describes how a command ended.

use rustix::process::WaitStatus;

/// The end of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The command exited by itself, with this status (0 to 255).
    Exited(u8),
    /// A signal of this number ended the command.
    Killed(u8),
}

impl Ended {
    /// Returns the status that a shell shows: the command's own, or 128 + the number of the signal.
    pub fn status(self) -> u8 {
        match self {
            Ended::Exited(code) => code,
            Ended::Killed(signal) => 128 + signal,
        }
    }

    /// Returns whether this signal seems to have ended the command: the signal did, or the command
    /// is a shell that reports it for a child.
    pub(super) fn is_by(self, signal: i32) -> bool {
        i32::from(self.status()) == 128 + signal
    }

    /// Converts the status that a wait for a process returned.
    pub(super) fn from_wait(status: WaitStatus) -> Self {
        // Both are 7 or 8 bits of the raw status.
        match (status.exit_status(), status.terminating_signal()) {
            (_, Some(signal)) => Ended::Killed(signal as u8 & 0x7f),
            (code, None) => Ended::Exited(code.unwrap_or_default() as u8),
        }
    }

    pub(super) fn to_bits(self) -> u16 {
        match self {
            Ended::Exited(code) => code.into(),
            Ended::Killed(signal) => 0x100 | u16::from(signal),
        }
    }

    pub(super) fn from_bits(bits: u16) -> Self {
        let [low, high] = bits.to_le_bytes();
        match high {
            0 => Ended::Exited(low),
            _ => Ended::Killed(low),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_equals_that_of_a_shell() {
        assert_eq!(Ended::Exited(0).status(), 0);
        assert_eq!(Ended::Exited(255).status(), 255);
        assert_eq!(Ended::Killed(9).status(), 137);
        assert!(Ended::Killed(2).is_by(2) && Ended::Exited(130).is_by(2));
        assert!(!Ended::Killed(15).is_by(2) && !Ended::Exited(2).is_by(2));
    }

    #[test]
    fn bits_say_the_same() {
        for ended in [Ended::Exited(0), Ended::Exited(255), Ended::Killed(9)] {
            assert_eq!(Ended::from_bits(ended.to_bits()), ended);
        }
    }
}
