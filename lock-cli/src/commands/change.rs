//! `turnlock write` and `turnlock append`: change a fenced file, with the lock taken for it or with
//! the token of a hold around this process.

use std::io::{self, Read};

use turnlock::fence::{Error, FencedFile};

use crate::child::Signals;
use crate::cli::{Change, Global};
use crate::commands::blocking::run_interruptibly;
use crate::commands::names::parse_name;
use crate::commands::write_right::{WriteRight, print_change};
use crate::exit::{Exit, Failure};

pub async fn write(global: Global, args: Change) -> Result<Exit, Failure> {
    change(global, args, "turnlock write", FencedFile::replace).await
}

pub async fn append(global: Global, args: Change) -> Result<Exit, Failure> {
    change(global, args, "turnlock append", FencedFile::append).await
}

async fn change(
    global: Global,
    args: Change,
    command: &str,
    operation: fn(&FencedFile, &[u8]) -> Result<(), Error>,
) -> Result<Exit, Failure> {
    let name = parse_name(&args.name, args.acquire.raw)?;
    let mut signals = Signals::install()?;
    // Stdin is read to its end first: others must not wait for the lock meanwhile.
    let content = match run_interruptibly(&mut signals, read_stdin).await? {
        Ok(content) => content?,
        Err(exit) => return Ok(exit),
    };
    let obtained =
        WriteRight::obtain(&global, &args, &name, command.to_owned(), &mut signals).await?;
    let right = match obtained {
        Ok(right) => right,
        Err(exit) => return Ok(exit),
    };
    let file = FencedFile::new(&args.file, right.token.clone());
    let changed = run_interruptibly(&mut signals, move || operation(&file, &content)).await;
    let changed = changed.map(|changed| changed.map(|done| done.map_err(|e| right.explain(e))));
    let token = right.give_back().await;
    match changed? {
        Ok(outcome) => outcome?,
        Err(exit) => return Ok(exit),
    }
    print_change(&global, &args, &token)?;
    Ok(Exit::Success)
}

fn read_stdin() -> Result<Vec<u8>, Failure> {
    let mut content = Vec::new();
    match io::stdin().lock().read_to_end(&mut content) {
        Ok(_) => Ok(content),
        Err(error) => Err(Failure::new(
            Exit::File,
            format!("cannot read stdin: {error}"),
        )),
    }
}
