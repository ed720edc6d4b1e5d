//! `turnlock completions`: what a shell needs to complete the command line.

use clap::CommandFactory;
use clap_complete::{Shell, generate};

use crate::cli::Cli;
use crate::cli::packaging::{CompletedShell, Completions};
use crate::exit::{Exit, Failure};
use crate::output;

pub fn completions(args: &Completions) -> Result<Exit, Failure> {
    // zsh finds out by itself what stands after `--`.
    let (shell, after_dashes) = match args.shell {
        CompletedShell::Bash => (Shell::Bash, include_str!("completions/after-dashes.bash")),
        CompletedShell::Zsh => (Shell::Zsh, ""),
        CompletedShell::Fish => (Shell::Fish, include_str!("completions/after-dashes.fish")),
    };
    let mut script = Vec::new();
    generate(shell, &mut Cli::command(), "turnlock", &mut script);
    script.extend_from_slice(after_dashes.as_bytes());
    output::print(String::from_utf8_lossy(&script).trim_end())?;
    Ok(Exit::Success)
}
