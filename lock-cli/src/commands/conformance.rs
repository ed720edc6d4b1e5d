//! `turnlock conformance`: run the suite on a coordinator that others use.

use std::time::{Duration, Instant};

use conformance::{Case, Live, Outcome, TIME_LIMIT, cases};
use serde_json::json;
use turnlock::{Error, ErrorKind, clock};

use crate::cli::{Conformance, Global};
use crate::coordinator::{self, open_below};
use crate::exit::{Exit, Failure};
use crate::output::{print, print_json, say};

pub async fn conformance(global: Global, args: Conformance) -> Result<Exit, Failure> {
    let chosen: Vec<&Case> = cases()
        .iter()
        .filter(|case| {
            args.filter
                .as_ref()
                .is_none_or(|text| case.name().contains(text))
        })
        .collect();
    if chosen.is_empty() {
        let text = args.filter.unwrap_or_default();
        let failure = Failure::new(Exit::Usage, format!("no case has {text:?} in its name"));
        return Err(failure.hint("`turnlock conformance --list` shows them"));
    }
    if args.list {
        for case in chosen {
            match global.json {
                true => print_json(&json!({ "case": case.name() })),
                false => print(case.name()),
            }?;
        }
        return Ok(Exit::Success);
    }
    run(global, chosen).await
}

async fn run(global: Global, chosen: Vec<&'static Case>) -> Result<Exit, Failure> {
    let url = coordinator::choose_url(global.backend.as_deref())?;
    // No lock and no other run can have this namespace.
    let root = format!(
        "@conformance-{:x}-{}",
        clock::unix_millis(),
        std::process::id()
    );
    open_below(url.as_deref(), &root)?
        .locks("", None, 1)
        .await?;
    let live = Live::new({
        let (url, root) = (url.clone(), root.clone());
        move |number| {
            open_below(url.as_deref(), &format!("{root}/{number}"))
                .map_err(|failure| Error::new(ErrorKind::Configuration, failure.message))
        }
    });
    // The message of a failed case is shown beside its name.
    std::panic::set_hook(Box::new(|_| {}));
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for case in chosen {
        let (started, fixture) = (Instant::now(), live.clone());
        let running = tokio::task::spawn_blocking(move || case.run(&fixture, TIME_LIMIT));
        let outcome = match running.await {
            Ok(outcome) => outcome,
            Err(died) => Outcome::Failed(died.to_string()),
        };
        match outcome {
            Outcome::Passed => passed += 1,
            Outcome::Failed(_) => failed += 1,
            Outcome::Skipped(_) => skipped += 1,
        }
        let shown = show(global.json, case, &outcome, started.elapsed());
        live.clean().await?;
        if shown.is_err() {
            // The output cannot be written, so the other cases are left out.
            tidy(url.as_deref(), &root).await?;
            return shown.map(|()| Exit::NotConforming);
        }
    }
    tidy(url.as_deref(), &root).await?;
    match global.json {
        true => print_json(&json!({ "passed": passed, "failed": failed, "skipped": skipped })),
        false => print(format!(
            "{passed} passed, {failed} failed, {skipped} skipped"
        )),
    }?;
    Ok(match failed {
        0 => Exit::Success,
        _ => Exit::NotConforming,
    })
}

fn show(json: bool, case: &Case, outcome: &Outcome, took: Duration) -> Result<(), Failure> {
    let (word, reason) = match outcome {
        Outcome::Passed => ("passed", None),
        Outcome::Failed(message) => ("failed", Some(message.clone())),
        Outcome::Skipped(skip) => ("skipped", Some(skip.to_string())),
    };
    let (name, seconds) = (case.name(), took.as_secs_f64());
    if json {
        let line = json!({ "case": name, "outcome": word, "seconds": seconds, "reason": reason });
        return print_json(&line);
    }
    if let Outcome::Failed(message) = outcome {
        say(format!("{name}: {message}"));
    }
    print(format!("{word:<8} {seconds:>6.1} s  {name}"))
}

/// Removes the keys that are left when all sessions have ended. The user's own coordinator keeps
/// nothing.
async fn tidy(url: Option<&str>, root: &str) -> Result<(), Failure> {
    if let Some(url) = url {
        turnlock::registry::tidy(&coordinator::extend_namespace(url, root)).await?;
    }
    Ok(())
}
