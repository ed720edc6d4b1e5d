//! Causes faults on servers of its own, and makes the checker judge the history.
//!
//! ```sh
//! cargo run -p testkit --bin chaos -- --backend etcd --nodes 3 --seconds 900 --seed 42
//! ```

mod arguments;

use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use clap::Parser;
use testkit::chaos::{self, Report};
use testkit::interruption::Interruption;

use arguments::Arguments;

const USAGE: u8 = 64;
const INTERNAL: u8 = 70;
const OUTPUT: u8 = 74;
const CONFIGURATION: u8 = 78;

/// A failure: the exit status, and the message on stderr.
struct Failure(u8, String);

fn main() -> ExitCode {
    if let Some(ended) = chaos::helper_main() {
        return ended;
    }
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return explain(&error),
    };
    match run(&arguments) {
        Ok(status) => ExitCode::from(status),
        Err(Failure(status, message)) => {
            say(&message);
            ExitCode::from(status)
        }
    }
}

/// Prints the help or the version, or the mistake in the command line.
fn explain(error: &clap::Error) -> ExitCode {
    match (error.print(), error.use_stderr()) {
        (_, true) => ExitCode::from(USAGE),
        (Ok(()), false) => ExitCode::SUCCESS,
        (Err(error), false) => {
            say(&to_output_failure(&error).1);
            ExitCode::from(OUTPUT)
        }
    }
}

fn run(arguments: &Arguments) -> Result<u8, Failure> {
    let settings = arguments
        .to_settings()
        .map_err(|message| Failure(USAGE, message))?;
    if !arguments.quiet {
        say(&format!(
            "chaos on {} ({}) with seed {}",
            settings.backend.name(),
            settings.nodes,
            settings.seed
        ));
    }
    let interruption = Interruption::catch();
    let flag = interruption.flag();
    let ended = catch_unwind(AssertUnwindSafe(|| chaos::run(settings, flag)));
    // All processes that the run started have ended by now.
    interruption.end_this_process();
    match ended {
        Ok(Ok(report)) => {
            print(&report, arguments)?;
            Ok(if report.count_ours() == 0 {
                0
            } else {
                INTERNAL
            })
        }
        Ok(Err(error)) => {
            let status = match error.kind() {
                io::ErrorKind::NotFound => CONFIGURATION,
                _ => INTERNAL,
            };
            Err(Failure(status, error.to_string()))
        }
        // The panic has printed its reason on stderr.
        Err(_) => Ok(INTERNAL),
    }
}

fn print(report: &Report, arguments: &Arguments) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    if !arguments.json {
        return writeln!(stdout, "{report}").map_err(|error| to_output_failure(&error));
    }
    if !arguments.quiet {
        // The program that reads stdout is not the person who waits for it. A report that is lost
        // on stderr is on stdout, too.
        let _ = writeln!(io::stderr(), "{report}");
    }
    let json = serde_json::to_string(report);
    let json = json.map_err(|error| Failure(INTERNAL, error.to_string()))?;
    writeln!(stdout, "{json}").map_err(|error| to_output_failure(&error))
}

fn to_output_failure(error: &io::Error) -> Failure {
    let text = error.to_string();
    let reason = text.split(" (os error ").next().unwrap_or(&text);
    Failure(OUTPUT, format!("cannot write to stdout: {reason}"))
}

/// Prints a message on stderr. If that fails, the exit status still shows how the run ended.
fn say(message: &str) {
    let _ = writeln!(io::stderr(), "chaos: {message}");
}
