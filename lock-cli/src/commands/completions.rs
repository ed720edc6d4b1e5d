//! `turnlock completions`: what a shell needs to complete the command line.

use clap::CommandFactory;
use clap_complete::{Shell, generate};

use crate::cli::Cli;
use crate::cli::packaging::{CompletedShell, Completions};
use crate::exit::{Exit, Failure};
use crate::output;

pub fn completions(args: &Completions) -> Result<Exit, Failure> {
    let script = match args.shell {
        CompletedShell::Bash => {
            generated(Shell::Bash) + include_str!("completions/after-dashes.bash")
        }
        // With two colons zsh takes the lock's name for the command, and the command for its argument.
        CompletedShell::Zsh => generated(Shell::Zsh).replace("'*::command ", "'*:::command "),
        CompletedShell::Fish => {
            generated(Shell::Fish) + include_str!("completions/after-dashes.fish")
        }
    };
    output::print(script.trim_end())?;
    Ok(Exit::Success)
}

/// What can be said of the command line without knowing that it ends with another one.
fn generated(shell: Shell) -> String {
    let mut script = Vec::new();
    generate(shell, &mut Cli::command(), "turnlock", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}
