//! `turnlock completions`: print what a shell needs to complete the command line.

use clap::CommandFactory;
use clap_complete::{Shell, generate};

use crate::cli::Cli;
use crate::cli::packaging::{CompletedShell, Completions};
use crate::exit::{Exit, Failure};
use crate::output;

pub fn completions(args: &Completions) -> Result<Exit, Failure> {
    let script = match args.shell {
        CompletedShell::Bash => {
            generate_script(Shell::Bash) + include_str!("completions/after-dashes.bash")
        }
        // With two colons, zsh would complete the name of the lock as the command.
        CompletedShell::Zsh => generate_script(Shell::Zsh).replace("'*::command ", "'*:::command "),
        CompletedShell::Fish => {
            generate_script(Shell::Fish) + include_str!("completions/after-dashes.fish")
        }
    };
    output::print(script.trim_end())?;
    Ok(Exit::Success)
}

/// Generates the script from the definition alone, which does not say that a command line follows.
fn generate_script(shell: Shell) -> String {
    let mut script = Vec::new();
    generate(shell, &mut Cli::command(), "turnlock", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}
