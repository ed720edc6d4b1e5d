//! Tests the supervision of a command from outside: every case runs a supervisor in a process of
//! its own.
//!
//! This program is also that supervisor, and its helpers. The supervisor starts its own executable
//! as watchdog, so a program that uses it must check for these roles first. A test with the usual
//! harness cannot do that.

mod death;
mod family;
mod harness;
#[cfg(feature = "embedded")]
mod script;
mod signals;
mod start;
mod stop;
mod supervisor;
mod terminal;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    if let Some(helper) = lock_cli::child::helper_main() {
        return helper;
    }
    if let Some(role) = supervisor::role() {
        return role;
    }
    let cases: Vec<harness::Case> = [
        start::CASES,
        signals::CASES,
        death::CASES,
        family::CASES,
        stop::CASES,
        terminal::CASES,
        #[cfg(feature = "embedded")]
        script::CASES,
    ]
    .concat();
    let trials = cases
        .into_iter()
        .map(|(name, case)| {
            Trial::test(name, move || {
                case();
                Ok(())
            })
        })
        .collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
