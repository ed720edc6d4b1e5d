//! The right to change a fenced file: a token, and the lock that it came with if it was taken for
//! this.

use std::ffi::OsString;

use serde_json::json;
use turnlock::fence::{self, FencingToken};
use turnlock::{AnyGuard, LockName, Locks, Mode, State, TokenOffset};

use crate::child::Signals;
use crate::cli::{Change, Global};
use crate::commands::HoldKey;
use crate::commands::acquiring::{Acquisition, Request, acquire, wait_for_deadly_signal};
use crate::commands::outer_hold;
use crate::commands::release::{close_session, release};
use crate::commands::supervise::environment;
use crate::exit::{Exit, Failure};
use crate::output::{add_changed_file, print_json};
use crate::trace;

/// The right to change a fenced file.
pub struct WriteRight {
    pub token: FencingToken,
    /// The lock, if it was taken for this change.
    pub lock: Option<(Locks, AnyGuard)>,
    key: Option<HoldKey>,
}

impl WriteRight {
    /// Uses the token that the options or the hold around this process give, or else takes the
    /// lock. Returns an exit status as the inner error if a signal came meanwhile.
    pub async fn obtain(
        global: &Global,
        args: &Change,
        name: &LockName,
        command: String,
        signals: &mut Signals,
    ) -> Result<Result<WriteRight, Exit>, Failure> {
        let given = match args.token {
            Some(token) => Some(FencingToken::new(name.clone(), token)),
            // A token of another lock does not count for this one.
            None => outer_hold::read_token()?.filter(|token| token.lock == *name),
        };
        if let Some(token) = given {
            return Ok(Ok(WriteRight {
                token,
                lock: None,
                key: None,
            }));
        }
        let key = HoldKey::generate();
        let request = Request {
            global,
            name,
            mode: Mode::Exclusive,
            options: &args.acquire,
            command,
            key: key.as_ref(),
        };
        let acquisition = acquire(&request, wait_for_deadly_signal(signals)).await?;
        Ok(match acquisition {
            Acquisition::Abandoned(exit) => Err(exit),
            Acquisition::Held(locks, guard) => Ok(WriteRight {
                token: FencingToken::new(name.clone(), guard.token()),
                lock: Some((locks, guard)),
                key,
            }),
        })
    }

    /// Returns the variables that describe the hold to a command, if the lock was taken for this
    /// change, and its place in the trace.
    pub fn environment(&self) -> Vec<(OsString, OsString)> {
        let variables = self
            .lock
            .as_ref()
            .map(|(locks, guard)| environment(guard, locks.session_id().zip(self.key.as_ref())));
        variables.unwrap_or_else(trace::environment)
    }

    /// Returns why the change was refused. While the lock is held, nobody can have a higher token of
    /// it: a mark that has seen one is wrong, and the hint says how to go on.
    pub fn explain(&self, error: fence::Error) -> Failure {
        let held = self
            .lock
            .as_ref()
            .filter(|(_, guard)| guard.state() == State::Held);
        let (Some((_, guard)), fence::ErrorKind::Stale { highest, .. }) = (held, error.kind())
        else {
            return error.into();
        };
        let way_out = match guard.name().is_raw() || TokenOffset::new(highest.0).is_err() {
            true => "if no earlier holder can still write, remove the mark".to_owned(),
            false => format!(
                "run `turnlock token-offset --raise-to {highest}`, which makes every later token \
                 higher, or remove the mark if no earlier holder can still write"
            ),
        };
        Failure::from(error).hint(format!(
            "the lock is held, so the mark is ahead of the coordinator, by a token that was given \
             by hand or came from another coordinator: {way_out}"
        ))
    }

    /// Releases the lock, if it was taken for this change. An error of the release does not undo
    /// the change: the file was written in the order of the tokens.
    pub async fn give_back(self) -> FencingToken {
        if let Some((locks, guard)) = self.lock {
            let _ = release(guard).await;
            close_session(&locks).await;
        }
        self.token
    }
}

/// Prints the changed file and the token, for programs.
pub fn print_change(global: &Global, args: &Change, token: &FencingToken) -> Result<(), Failure> {
    if !global.json {
        return Ok(());
    }
    let line = json!({
        "name": token.lock.as_str(),
        "file": args.file.to_string_lossy(),
        "token": token.token,
    });
    print_json(&line).map_err(|failure| add_changed_file(failure, &args.file))
}
