//! `turnlock write` and `turnlock append`: change a fenced file, with the lock taken for it or with
//! the token of a hold around us.

use std::io::{self, Read};

use serde_json::json;
use turnlock::fence::{Error, FencedFile, FencingToken};
use turnlock::{Guard, LockName, Locks, Mode};

use crate::child::Signals;
use crate::cli::{Change, Global};
use crate::commands::{Turn, Wish, deadly, name, part, release, surrounding, turn};
use crate::exit::{Exit, Failure};
use crate::output::{print_json, unreported};

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
    let name = name(&args.name, args.acquire.raw)?;
    let mut signals = Signals::install()?;
    // To its end, before anybody has to wait for us.
    let content = match interruptible(&mut signals, read_stdin).await? {
        Ok(content) => content?,
        Err(exit) => return Ok(exit),
    };
    let right = match right(&global, &args, &name, command.to_owned(), &mut signals).await? {
        Ok(right) => right,
        Err(exit) => return Ok(exit),
    };
    let file = FencedFile::new(&args.file, right.token.clone());
    let changed = interruptible(&mut signals, move || operation(&file, &content)).await;
    let token = right.give_back().await;
    match changed? {
        Ok(outcome) => outcome?,
        Err(exit) => return Ok(exit),
    }
    report(&global, &args, &token)?;
    Ok(Exit::Success)
}

/// The right to change the file.
pub(super) struct Right {
    pub token: FencingToken,
    /// The lock, if we have taken it ourselves.
    pub taken: Option<(Locks, Guard)>,
}

impl Right {
    /// Gives the lock back, if it is ours. How that goes changes nothing of what was written: it was
    /// written in the order of the tokens.
    pub async fn give_back(self) -> FencingToken {
        if let Some((locks, guard)) = self.taken {
            release(guard).await;
            part(&locks).await;
        }
        self.token
    }
}

/// Finds the token that we are given, or takes the lock. An exit status if a signal came meanwhile.
pub(super) async fn right(
    global: &Global,
    args: &Change,
    name: &LockName,
    command: String,
    signals: &mut Signals,
) -> Result<Result<Right, Exit>, Failure> {
    let given = match args.token {
        Some(token) => Some(FencingToken::new(name.clone(), token)),
        // Another lock around us says nothing of this one.
        None => surrounding::token()?.filter(|token| token.lock == *name),
    };
    if let Some(token) = given {
        return Ok(Ok(Right { token, taken: None }));
    }
    let wish = Wish {
        global,
        name,
        mode: Mode::Exclusive,
        options: &args.acquire,
        command,
    };
    Ok(match turn(&wish, deadly(signals)).await? {
        Turn::Interrupted(exit) => Err(exit),
        Turn::Ours(locks, guard) => Ok(Right {
            token: FencingToken::of(&guard),
            taken: Some((locks, guard)),
        }),
    })
}

/// What was done, for programs.
pub(super) fn report(global: &Global, args: &Change, token: &FencingToken) -> Result<(), Failure> {
    if !global.json {
        return Ok(());
    }
    let line = json!({
        "name": token.lock.as_str(),
        "file": args.file.to_string_lossy(),
        "token": token.token,
    });
    print_json(&line).map_err(|failure| unreported(failure, &args.file))
}

/// Does what blocks on a thread of its own, so that signals are heard meanwhile. One that ends us
/// leaves it behind: whatever it was doing to a file is whole or not at all.
pub(super) async fn interruptible<T: Send + 'static>(
    signals: &mut Signals,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<Result<T, Exit>, Failure> {
    let (tell, told) = tokio::sync::oneshot::channel();
    std::thread::Builder::new()
        .name("file".to_owned())
        .spawn(move || tell.send(work()))
        .map_err(|error| Failure::of_system("cannot start a thread", &error))?;
    tokio::select! {
        biased;
        done = told => done.map(Ok).map_err(|_| {
            Failure::new(Exit::Internal, "the change of the file was not brought to its end")
        }),
        signal = signals.deadly() => Ok(Err(Exit::Signal(signal))),
    }
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
