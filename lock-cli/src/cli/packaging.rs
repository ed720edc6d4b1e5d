//! The arguments of the commands that packages are made with.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

const COMPLETIONS_HELP: &str = "\
Examples:
  turnlock completions bash >~/.local/share/bash-completion/completions/turnlock
  turnlock completions zsh >~/.zfunc/_turnlock      if this folder is in $fpath
  turnlock completions fish >~/.config/fish/completions/turnlock.fish

The script is made from the same definition as `--help`. Shells that are started
afterwards use it.
";

const MAN_HELP: &str = "\
Examples:
  turnlock man --dir ~/.local/share/man/man1     then: man turnlock-run
  turnlock man run | man -l -                    read a page, install none
";

#[derive(Debug, Args)]
#[command(after_help = COMPLETIONS_HELP)]
pub struct Completions {
    /// The shell
    pub shell: CompletedShell,
}

/// The shells that the scripts are tested with.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum CompletedShell {
    Bash,
    Zsh,
    Fish,
}

#[derive(Debug, Args)]
#[command(after_help = MAN_HELP)]
pub struct Man {
    /// Write the pages of all commands into this folder, which is made if it is missing
    #[arg(long, value_name = "DIR", conflicts_with = "command")]
    pub dir: Option<PathBuf>,
    /// The command whose page is printed, such as `run` or `fence check` [default: turnlock itself]
    #[arg(value_name = "COMMAND")]
    pub command: Vec<String>,
}
