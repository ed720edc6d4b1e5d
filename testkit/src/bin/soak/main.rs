//! The program behind `tools/soak`: makes the long runs in slices, and keeps their results.

mod arguments;
mod chaos;
mod child;
mod coordinator;
mod flatness;
mod goal;
mod page;
mod part;
mod parts;
mod results;
mod search;
mod server;
mod simulation;
mod slice;
mod text;

use std::io;
use std::process::ExitCode;

use clap::Parser;

use arguments::Arguments;
use part::Part;
use results::Store;
use slice::Slice;

const FAILED: u8 = 1;
const STOPPED: u8 = 2;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let slice = Slice::begin(arguments.minutes);
    let parts = arguments.parts();
    match work(&slice, &parts) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("soak: {error}");
            ExitCode::from(STOPPED)
        }
    }
}

/// Works on the parts one after the other. Returns the exit status.
fn work(slice: &Slice, parts: &[&Part]) -> io::Result<u8> {
    let store = Store::new(slice.root);
    let (mut has_failed, mut has_stopped) = (false, false);
    for part in parts {
        let Some(_claim) = store.claim(part.name)? else {
            println!("{}: another call works on it", part.name);
            continue;
        };
        match part.work(slice, &store) {
            Ok(failed) => has_failed |= failed,
            Err(error) => {
                slice.end_if_interrupted();
                eprintln!("soak: {}: {error}", part.name);
                has_stopped = true;
            }
        }
    }
    // An earlier form of this program may have written the page.
    let results = store.change(|_| ())?;
    println!();
    for part in parts {
        let missing = part.missing(&results);
        match missing.is_empty() {
            true => println!("{}: the goal is reached", part.name),
            false => println!("{}: missing: {}", part.name, missing.join(", ")),
        }
    }
    Ok(match (has_failed, has_stopped) {
        (true, _) => FAILED,
        (false, true) => STOPPED,
        (false, false) => 0,
    })
}
