//! `turnlock fence check`: admit a token at the fence of a file or of another resource.

use serde_json::json;
use turnlock::fence::{ErrorKind, Fence, FencingToken};

use crate::child::Signals;
use crate::cli::{Check, Global};
use crate::commands::blocking::run_interruptibly;
use crate::commands::outer_hold;
use crate::exit::{Exit, Failure};
use crate::output::print_json;

pub async fn check(global: Global, args: Check) -> Result<Exit, Failure> {
    let mut signals = Signals::install()?;
    let fence = Fence::new(&args.file);
    let outer = outer_hold::read_token()?;
    let checked = run_interruptibly(&mut signals, move || {
        let token = choose_token(&args, outer, &fence)?;
        let outcome = fence.admit(&token);
        Ok::<_, Failure>((args, token, outcome))
    });
    let (args, token, outcome) = match checked.await? {
        Ok(checked) => checked?,
        Err(exit) => return Ok(exit),
    };
    let highest = match outcome.as_ref().map_err(turnlock::fence::Error::kind) {
        Ok(()) => token.token,
        Err(ErrorKind::Stale { highest, .. }) => highest,
        Err(_) => return outcome.map(|()| Exit::Success).map_err(Failure::from),
    };
    if global.json {
        let line = json!({
            "name": token.lock.as_str(),
            "file": args.file.to_string_lossy(),
            "token": token.token,
            "admitted": outcome.is_ok(),
            "highest": highest,
        });
        // The fence's own failure comes before that of printing.
        let printed = print_json(&line);
        outcome?;
        printed?;
        return Ok(Exit::Success);
    }
    outcome?;
    Ok(Exit::Success)
}

/// Chooses the token to check. A number on the command line is a token of the lock that this
/// process runs under, or else of the lock that the fence last admitted.
fn choose_token(
    args: &Check,
    outer: Option<FencingToken>,
    fence: &Fence,
) -> Result<FencingToken, Failure> {
    let base = match (outer, args.token) {
        (None, Some(_)) => fence.highest()?,
        (outer, _) => outer,
    };
    let Some(base) = base else {
        return Err(Failure::new(Exit::Usage, "no lock is held here")
            .hint("run it inside `turnlock run NAME`, which passes it the lock and the token"));
    };
    Ok(match args.token {
        Some(token) => base.with_token(token),
        None => base,
    })
}
