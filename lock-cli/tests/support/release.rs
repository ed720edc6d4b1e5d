//! The two releases of the command that may meet: the previous one, which `tools/previous` builds, and
//! this one.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use self::Release::{Previous, This};
use super::text;

/// A release of the command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Release {
    Previous,
    This,
}

impl Release {
    /// Returns the path of its program.
    pub fn program(self) -> &'static Path {
        static PREVIOUS: LazyLock<PathBuf> = LazyLock::new(build_previous);
        match self {
            Previous => &PREVIOUS,
            This => Path::new(env!("CARGO_BIN_EXE_turnlock")),
        }
    }

    /// Returns the subcommand for the token offset, which was renamed.
    pub fn token_offset(self) -> &'static str {
        match self {
            Previous => "floor",
            This => "token-offset",
        }
    }

    pub fn of_turn(turn: usize) -> Self {
        [Previous, This][turn % 2]
    }
}

fn build_previous() -> PathBuf {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../tools/previous");
    let output = Command::new(script).output().expect("sh is there");
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    PathBuf::from(text(&output.stdout).trim())
}
