//! The `turnlock` command.
//!
//! A library only so that its parts can be tested; what it promises is the command line.

pub mod child;
mod cli;
mod commands;
mod coordinator;
mod exit;
mod output;
mod waiting;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command, Fence};
use crate::exit::{Exit, Failure};

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    if let Some(helper) = child::helper_main() {
        return helper;
    }
    if let Some(helper) = commands::last_will::helper_main() {
        return helper;
    }
    if let Some(helper) = conformance::chaos::helper_main() {
        return helper;
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are asked for; all else is a mistake.
            let exit = if error.use_stderr() {
                Exit::Usage
            } else {
                Exit::Success
            };
            let _ = error.print();
            return exit.into();
        }
    };
    let runtime = match cli.command {
        Command::Bench(_) => benches::runtime(),
        // One thread: the command waits most of the time, and sessions are renewed on a thread of
        // their own.
        _ => tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build(),
    };
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(dispatch(cli)),
        Err(error) => Err(Failure::new(
            Exit::Internal,
            format!("cannot start: {error}"),
        )),
    };
    match outcome {
        Ok(exit) => exit.into(),
        Err(failure) => {
            output::say(&failure.message);
            if let Some(hint) = &failure.hint {
                output::say(format!("hint: {hint}"));
            }
            failure.exit.into()
        }
    }
}

async fn dispatch(cli: Cli) -> Result<Exit, Failure> {
    let mut global = cli.global;
    // As with the other variables: empty is not set.
    global.backend = global.backend.filter(|url| !url.is_empty());
    match cli.command {
        Command::Run(run) => commands::run::run(global, run).await,
        Command::Hold(hold) => commands::hold::hold(global, hold).await,
        Command::Write(write) => commands::change::write(global, write.change).await,
        Command::Append(append) => commands::change::append(global, append.change).await,
        Command::Edit(edit) => commands::edit::edit(global, edit).await,
        Command::Fence(Fence::Check(check)) => commands::fence::check(global, check).await,
        Command::Ls(ls) => commands::ls::ls(global, ls).await,
        Command::Queue(queue) => commands::queue::queue(global, queue).await,
        Command::Floor(floor) => commands::floor::floor(global, floor).await,
        Command::Bench(bench) => commands::bench::bench(global, bench).await,
        Command::Conformance(args) => commands::conformance::conformance(global, args).await,
        #[cfg(feature = "embedded")]
        Command::Serve(serve) => commands::serve::serve(serve).await,
        #[cfg(feature = "embedded")]
        Command::Stop => commands::stop::stop(global).await,
        Command::Chaos(chaos) => commands::chaos::chaos(global, chaos).await,
    }
}
