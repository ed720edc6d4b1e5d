//! The `turnlock` command.
//!
//! A library only so that its parts can be tested; what it promises is the command line.

pub mod child;
mod cli;
mod commands;
mod coordinator;
mod exit;
mod manual;
mod output;
mod reference;
mod surroundings;
mod version;
mod waiting;

use std::process::ExitCode;

use clap::Parser;
use clap::error::{ContextKind, ErrorKind};

use crate::cli::{Cli, Command, Fence};
use crate::exit::{Exit, Failure, Said};
use crate::output::Level;

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    if let Some(helper) = child::helper_main() {
        return helper;
    }
    if let Some(helper) = commands::last_will::helper_main() {
        return helper;
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return unparsed(error).into(),
    };
    output::set_level(match (cli.global.quiet, cli.global.verbose) {
        (true, _) => Level::Quiet,
        (_, true) => Level::Verbose,
        _ => Level::Normal,
    });
    match surroundings::require_descriptors().and_then(|()| run(cli)) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            tell(&failure);
            failure.exit.into()
        }
    }
}

/// Shows help and version, which are asked for; all else is a mistake.
fn unparsed(mut error: clap::Error) -> Exit {
    if error.kind() == ErrorKind::InvalidUtf8 {
        let failure = not_utf8();
        tell(&failure);
        return failure.exit;
    }
    if error.kind() == ErrorKind::DisplayVersion && version::is_verbose(std::env::args_os()) {
        return match output::print(version::verbose()) {
            Ok(()) => Exit::Success,
            Err(failure) => {
                tell(&failure);
                failure.exit
            }
        };
    }
    // An option that does not exist is no name, so there is no use for the advice to make it one.
    error.remove(ContextKind::Suggested);
    match (error.print(), error.use_stderr()) {
        (_, true) => Exit::Usage,
        (Ok(()), false) => Exit::Success,
        (Err(error), false) => {
            let failure = output::unwritable(error);
            tell(&failure);
            failure.exit
        }
    }
}

/// Names the text that ought to be UTF-8: the parser does not.
fn not_utf8() -> Failure {
    let wrong = |text: &std::ffi::OsString| text.to_str().is_none();
    match std::env::args_os().find(wrong) {
        Some(argument) => Failure::new(
            Exit::Usage,
            format!("not UTF-8: {}", argument.to_string_lossy()),
        ),
        None => Failure::new(Exit::Configuration, "TURNLOCK_BACKEND is not UTF-8"),
    }
}

fn tell(failure: &Failure) {
    let said = match failure.said {
        Said::Always => true,
        Said::UnlessQuiet => output::speaks(Level::Normal),
        Said::Never => false,
    };
    if !said {
        return;
    }
    output::say(&failure.message);
    if let Some(hint) = &failure.hint {
        output::say(format!("hint: {hint}"));
    }
}

fn run(cli: Cli) -> Result<Exit, Failure> {
    let runtime = match cli.command {
        #[cfg(feature = "bench")]
        Command::Bench(_) => {
            // Its threads would be ended by what is to be caught.
            child::block_caught();
            load::runtime()
        }
        // One thread: the command waits most of the time, and sessions are renewed on a thread of
        // their own.
        _ => lock_core::background::runtime(),
    };
    let runtime = runtime.map_err(|error| Failure::of_system("cannot start", &error))?;
    runtime.block_on(dispatch(cli))
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
        Command::Evict(evict) => commands::evict::evict(global, evict).await,
        Command::TokenOffset(args) => commands::token_offset::token_offset(global, args).await,
        #[cfg(feature = "bench")]
        Command::Bench(bench) => commands::bench::bench(global, bench).await,
        #[cfg(feature = "conformance")]
        Command::Conformance(args) => commands::conformance::conformance(global, args).await,
        #[cfg(feature = "embedded")]
        Command::Serve(serve) => commands::serve::serve(serve).await,
        #[cfg(feature = "embedded")]
        Command::Stop => commands::stop::stop(global).await,
        Command::Status => commands::status::status(global).await,
        #[cfg(feature = "embedded")]
        Command::System(system) => commands::system::system(system).await,
        Command::Completions(args) => commands::completions::completions(&args),
        Command::Man(args) => commands::man::man(&args),
    }
}
