//! `turnlock watch`: print what happens to locks, as it happens.

use std::time::Duration;

use crate::changes::{Change, Kind};
use crate::child::Signals;
use crate::cli::{Global, Watch};
use crate::commands::names::parse_prefix;
use crate::exit::{Exit, Failure, Reported};
use crate::log::{Level, Line};
use crate::output::{describe_owner, has_reader_left, inform, print};
use crate::sampling::Sampler;

/// How often a reader of stdout that has left is noticed while nothing happens.
const LOOK_FOR_READER: Duration = Duration::from_millis(200);

pub async fn watch(global: Global, args: Watch) -> Result<Exit, Failure> {
    let prefix = parse_prefix(&args.prefix)?;
    let mut signals = Signals::install()?;
    let url = global.backend.as_deref();
    let sampler = Sampler::connect(url, prefix, args.interval).await?;
    let exit = tokio::select! {
        biased;
        signal = signals.wait_for_deadly() => match signal.is_from_terminal() {
            true => Exit::Signal(signal),
            // A TERM is how `watch` is meant to end.
            false => Exit::Success,
        },
        failure = follow(&global, &args, sampler) => match failure.reported {
            // The reader of stdout has seen enough.
            Reported::Never => Exit::Success,
            _ => return Err(failure),
        },
    };
    Ok(exit)
}

/// Prints what happens, until that fails.
async fn follow(global: &Global, args: &Watch, mut sampler: Sampler) -> Failure {
    let mut is_first = true;
    let mut is_silent = false;
    loop {
        let pause = match sampler.read().await {
            Ok(sample) => {
                if std::mem::take(&mut is_silent) {
                    inform("the coordinator replies again");
                }
                if !is_first || args.initial {
                    for change in &sample.changes {
                        if let Err(failure) = print_change(global, change) {
                            return failure;
                        }
                    }
                }
                if is_first && !sample.is_complete {
                    inform("there are more locks than it can follow: give it a prefix");
                }
                is_first = false;
                sampler.pause(sample.took)
            }
            Err(failure) if is_first || failure.exit != Exit::Unavailable => return failure,
            Err(failure) => {
                if !std::mem::replace(&mut is_silent, true) {
                    inform(format!("{}; trying again", failure.message));
                }
                sampler.pause(Duration::ZERO)
            }
        };
        let wake = tokio::time::Instant::now() + pause;
        while let Some(left) = wake.checked_duration_since(tokio::time::Instant::now())
            && !left.is_zero()
        {
            if let Some(failure) = has_reader_left() {
                return failure;
            }
            tokio::time::sleep(left.min(LOOK_FOR_READER)).await;
        }
    }
}

/// Prints an event: with the fields of the log, and with what the contender says of itself.
fn print_change(global: &Global, change: &Change) -> Result<(), Failure> {
    let Change { kind, seen, lasted } = change;
    let message = format!("{} {}", describe_owner(&seen.entry), phrase(*kind));
    let line = Line::new(Level::Info, "turnlock::watch", message)
        .event(event_of(*kind))
        .lock(&seen.lock)
        .entry(&seen.entry);
    let line = match lasted {
        Some(lasted) => line.latency(Duration::from_millis(*lasted)),
        None => line,
    };
    print(match global.json {
        true => line.to_json(),
        false => line.to_text(),
    })
}

/// Says what happened to a contender.
fn phrase(kind: Kind) -> &'static str {
    match kind {
        Kind::Waits => "waits",
        Kind::Granted => "holds the lock",
        Kind::HoldEnded => "holds the lock no longer",
        Kind::WaitEnded => "waits no longer",
    }
}

/// Returns the name of what happened, as an observer in the contender's process has it.
fn event_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Waits => "blocked",
        Kind::Granted => "acquired",
        Kind::HoldEnded => "hold_ended",
        Kind::WaitEnded => "not_acquired",
    }
}
