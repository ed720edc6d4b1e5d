//! `turnlock stop`: end the user's own coordinator.

use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process, test_kill_process};

use crate::cli::Global;
use crate::coordinator::local::Home;
use crate::exit::{Exit, Failure};
use crate::output::say;

/// It answers what is under way first; then it has to be gone.
const LIMIT: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(5);

pub async fn stop(global: Global) -> Result<Exit, Failure> {
    if let Some(url) = global.backend {
        return Err(Failure::new(
            Exit::Usage,
            format!("`stop` ends your own coordinator on this machine, not {url}"),
        )
        .hint("leave --backend out and unset TURNLOCK_BACKEND"));
    }
    let home = Home::of_user()?;
    let found = home.find().await.map_err(|error| Failure::new(Exit::Unavailable, error.to_string()))?;
    let Some(pid) = found else {
        say(format!("no coordinator runs in {}", home.dir().display()));
        return Ok(Exit::Success);
    };
    let number = pid.as_raw_nonzero();
    kill_process(pid, Signal::TERM)
        .map_err(|error| Failure::new(Exit::Refused, format!("cannot stop process {number}: {error}")))?;
    let started = Instant::now();
    while test_kill_process(pid).is_ok() {
        if started.elapsed() > LIMIT {
            let failure = Failure::new(
                Exit::Unavailable,
                format!("process {number} was told to stop and still runs"),
            );
            return Err(failure.hint(format!("kill -9 {number} loses nothing that was acknowledged")));
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(Exit::Success)
}
