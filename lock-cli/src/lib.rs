//! The `turnlock` command.
//!
//! It is a library only so that its parts can be tested. Its promise is the command line.

mod changes;
pub mod child;
mod cli;
mod commands;
mod coordinator;
mod exit;
mod graph;
mod listing;
mod log;
mod manual;
mod output;
mod preflight;
mod reference;
mod sampling;
#[cfg(feature = "embedded")]
mod service_manager;
mod trace;
mod version;
mod waiting;

use std::process::ExitCode;

use clap::Parser;
use clap::error::{ContextKind, ErrorKind};
use tracing::{Instrument, Span};

use crate::cli::{Cli, Command, Fence};
use crate::exit::{Exit, Failure, Reported};
use crate::output::Level;
use crate::trace::Trace;

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    if let Some(helper) = child::helper_main() {
        return helper;
    }
    if let Some(helper) = commands::last_will::helper_main() {
        return helper;
    }
    let mut cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return report_parse_error(error).into(),
    };
    // Before anything starts a thread.
    if let Err(failure) = take_inherited(&mut cli) {
        report(&failure);
        return failure.exit.into();
    }
    let trace = Trace::begin(&cli.command, log::layer(level_of_libraries(&cli)));
    log::set_up(&cli.global, trace::current());
    output::set_level(match (cli.global.quiet, cli.global.verbose) {
        (true, _) => Level::Quiet,
        (_, true) => Level::Verbose,
        _ => Level::Normal,
    });
    if let Some(problem) = trace.problem() {
        output::inform(problem);
    }
    let exit = match preflight::check_descriptors().and_then(|()| run(cli, trace.span())) {
        Ok(exit) => exit,
        Err(failure) => {
            report(&failure);
            failure.exit
        }
    };
    // All is done: the lock is given back.
    if let Err(problem) = trace.end(exit.code()) {
        output::narrate(format!("the collector has not taken the spans: {problem}"));
    }
    exit.into()
}

/// Takes what a service manager has opened for a coordinator.
fn take_inherited(cli: &mut Cli) -> Result<(), Failure> {
    #[cfg(feature = "embedded")]
    if let Command::Serve(serve) = &mut cli.command {
        serve.inherited = service_manager::Inherited::take()?;
    }
    #[cfg(not(feature = "embedded"))]
    let _ = cli;
    Ok(())
}

/// Returns from which level on the libraries speak in the log.
fn level_of_libraries(cli: &Cli) -> log::Level {
    // In the background it has a log of its own, whatever the environment says.
    #[cfg(feature = "embedded")]
    if matches!(&cli.command, Command::Serve(serve) if serve.background) {
        return log::Level::Off;
    }
    log::level_of(&cli.global)
}

/// Prints the help or the version that was asked for; reports any other error as a mistake.
fn report_parse_error(mut error: clap::Error) -> Exit {
    if error.kind() == ErrorKind::InvalidUtf8 {
        let failure = not_utf8();
        report(&failure);
        return failure.exit;
    }
    if error.kind() == ErrorKind::DisplayVersion && version::is_verbose(std::env::args_os()) {
        return match output::print(version::describe()) {
            Ok(()) => Exit::Success,
            Err(failure) => {
                report(&failure);
                failure.exit
            }
        };
    }
    // The parser would suggest to pass an unknown option as a name.
    error.remove(ContextKind::Suggested);
    match (error.print(), error.use_stderr()) {
        (_, true) => Exit::Usage,
        (Ok(()), false) => Exit::Success,
        (Err(error), false) => {
            let failure = output::from_stdout_error(error);
            report(&failure);
            failure.exit
        }
    }
}

/// Makes the failure of a text that is not UTF-8. It names the text, which the parser does not.
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

fn report(failure: &Failure) {
    let reported = match failure.reported {
        Reported::Always => true,
        Reported::UnlessQuiet => output::is_enabled(Level::Normal),
        Reported::Never => false,
    };
    if !reported {
        return;
    }
    output::fail(&failure.message);
    if let Some(hint) = &failure.hint {
        output::fail(format!("hint: {hint}"));
    }
}

fn run(cli: Cli, span: Span) -> Result<Exit, Failure> {
    let runtime = match cli.command {
        #[cfg(feature = "bench")]
        Command::Bench(_) => {
            // A signal that is to be caught would otherwise end the threads of the runtime.
            child::block_signals_to_catch();
            load::runtime()
        }
        // One thread is enough: the command waits most of the time, and sessions are renewed on a
        // thread of their own.
        _ => lock_core::background::runtime(),
    };
    let runtime = runtime.map_err(|error| Failure::from_system("cannot start", &error))?;
    runtime.block_on(dispatch(cli).instrument(span))
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
        Command::Why(why) => commands::why::why(global, why).await,
        Command::Watch(watch) => commands::watch::watch(global, watch).await,
        #[cfg(feature = "top")]
        Command::Top(top) => commands::top::top(global, top).await,
        Command::Evict(evict) => commands::evict::evict(global, evict).await,
        Command::TokenOffset(args) => commands::token_offset::token_offset(global, args).await,
        #[cfg(feature = "bench")]
        Command::Bench(bench) => commands::bench::bench(global, bench).await,
        #[cfg(feature = "conformance")]
        Command::Conformance(args) => commands::conformance::conformance(global, args).await,
        #[cfg(feature = "embedded")]
        Command::Serve(serve) => commands::serve::serve(*serve).await,
        #[cfg(feature = "embedded")]
        Command::Rules(command) => commands::rules::rules(global, command).await,
        #[cfg(feature = "embedded")]
        Command::Snapshot(args) => commands::snapshot::snapshot(global, args).await,
        #[cfg(feature = "embedded")]
        Command::Restore(args) => commands::restore::restore(global, args).await,
        #[cfg(feature = "embedded")]
        Command::Stop => commands::stop::stop(global).await,
        Command::Status => commands::status::status(global).await,
        #[cfg(feature = "embedded")]
        Command::Metrics => commands::metrics::metrics(global).await,
        #[cfg(feature = "embedded")]
        Command::System(system) => commands::system::system(system).await,
        Command::Completions(args) => commands::completions::completions(&args),
        Command::Man(args) => commands::man::man(&args),
    }
}
