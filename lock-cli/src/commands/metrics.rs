//! `turnlock metrics`: print the metrics of a coordinator on this machine.

use std::io::ErrorKind;
use std::path::PathBuf;

use crate::cli::Global;
use crate::coordinator::local::Home;
use crate::coordinator::{Choice, choose, machine, metrics, refuse_in_process};
use crate::exit::{Exit, Failure};
use crate::output::{escape_controls, print};

pub async fn metrics(global: Global) -> Result<Exit, Failure> {
    let socket = match choose(global.backend.as_deref())? {
        Choice::Named(url, _) => find_socket(&url)?,
        Choice::Own => Home::of_user()?.socket(),
    };
    let socket = metrics::socket_beside(&socket);
    match metrics::fetch(&socket).await {
        Ok(text) => {
            let lines: Vec<_> = text.lines().map(escape_controls).collect();
            print(lines.join("\n"))?;
            Ok(Exit::Success)
        }
        Err(error) => {
            let message = format!(
                "no coordinator gives metrics at {}: {error}",
                socket.display()
            );
            let failure = Failure::new(Exit::Unavailable, message);
            Err(match error.kind() {
                ErrorKind::NotFound | ErrorKind::ConnectionRefused => failure.hint(
                    "none runs, or one of an older version; the first command that needs your own \
                     starts it",
                ),
                _ => failure,
            })
        }
    }
}

/// Returns the socket of the coordinator of a URL.
fn find_socket(url: &str) -> Result<PathBuf, Failure> {
    refuse_in_process(url)?;
    machine::socket_path(url).map(Into::into).ok_or_else(|| {
        let message = "only a coordinator behind a socket of this machine gives its metrics here";
        Failure::new(Exit::Configuration, message.to_owned())
            .hint("ask others at the address that `turnlock serve --metrics-listen` was given")
    })
}
