//! `turnlock stop`: end the user's own coordinator.

use crate::cli::Global;
use crate::coordinator::ending;
use crate::coordinator::local::{Found, Home};
use crate::exit::{Exit, Failure};
use crate::output::say;

pub async fn stop(global: Global) -> Result<Exit, Failure> {
    if global.backend.is_some() {
        return Err(Failure::new(
            Exit::Usage,
            "`stop` ends your own coordinator on this machine, and a backend is named",
        )
        .hint("leave --backend out and unset TURNLOCK_BACKEND"));
    }
    let home = Home::of_user()?;
    let first = home.find().await?;
    // One that lost its socket ends by itself, and one that starts will have one.
    let found = match first {
        Found::Mute(_) => home.find_settled().await?,
        ref found => found.clone(),
    };
    match found {
        Found::Serving(Some(pid)) => {
            ending::stop(pid)?;
            Ok(Exit::Success)
        }
        Found::Serving(None) => Err(Failure::new(
            Exit::Unavailable,
            format!(
                "a coordinator runs in {}, in another process namespace, where our signals do not reach it",
                home.dir().display()
            ),
        )
        .hint("run `turnlock stop` there: in the container, or on the host")),
        Found::Mute(pid) => Err(home.mute(pid)),
        Found::Nobody => {
            say(match first {
                Found::Mute(_) => format!(
                    "the coordinator in {}, which had lost its socket, has ended",
                    home.dir().display()
                ),
                _ => format!("no coordinator runs in {}", home.dir().display()),
            });
            Ok(Exit::Success)
        }
    }
}
