//! `turnlock chaos`: a run of faults on servers of its own, judged by the checker.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use testkit::chaos::{self, Backend, Report, Settings};

use crate::child::Signals;
use crate::cli::{Chaos, Global};
use crate::exit::{Exit, Failure};
use crate::output::{Level, inform, print, print_json, speaks};

pub async fn chaos(global: Global, args: Chaos) -> Result<Exit, Failure> {
    let settings = settings(global.backend.as_deref(), &args)?;
    inform(format!(
        "chaos on {} ({}) with seed {}",
        settings.backend.name(),
        settings.nodes,
        settings.seed
    ));
    let interrupted = Arc::<AtomicBool>::default();
    let mut signals = Signals::install()?;
    // It has a runtime of its own.
    let seen = interrupted.clone();
    let mut run = tokio::task::spawn_blocking(move || chaos::run(settings, seen));
    let report = tokio::select! {
        report = &mut run => report,
        signal = signals.deadly() => {
            // It stops its servers, and then ends by itself.
            interrupted.store(true, Ordering::Relaxed);
            let _ = run.await;
            return Ok(Exit::Signal(signal));
        }
    };
    // A panic has said why on stderr.
    let Ok(report) = report else {
        return Ok(Exit::Internal);
    };
    let report = report.map_err(failed)?;
    if global.json {
        // The program that reads stdout is not the person who waits for it.
        if speaks(Level::Normal) {
            // What is lost on stderr is on stdout, too.
            let _ = writeln!(io::stderr(), "{report}");
        }
        print_json(&serde_json::to_value(&report).map_err(|error| failed(error.into()))?)?;
    } else {
        print(report.to_string())?;
    }
    Ok(status(&report))
}

fn settings(backend: Option<&str>, args: &Chaos) -> Result<Settings, Failure> {
    let usage = |message| Failure::new(Exit::Usage, message);
    let names: Vec<_> = Backend::ALL.iter().map(|backend| backend.name()).collect();
    let asked = backend.or(names.first().copied()).unwrap_or_default();
    let chosen = Backend::ALL.iter().find(|backend| backend.name() == asked);
    let backend = *chosen.ok_or_else(|| {
        usage(format!(
            "chaos starts servers of its own, and {asked:?} is none that it knows: give --backend {}",
            names.join(" or ")
        ))
    })?;
    let possible = backend.nodes();
    let nodes = args.nodes.or(possible.last().copied()).unwrap_or_default();
    if !possible.contains(&nodes) {
        return Err(usage(format!(
            "{} is not made of {nodes} servers: give --nodes {}",
            backend.name(),
            possible
                .iter()
                .map(usize::to_string)
                .collect::<Vec<_>>()
                .join(" or ")
        )));
    }
    Ok(Settings {
        backend,
        nodes,
        length: args.seconds,
        seed: args.seed.unwrap_or_else(|| fastrand::u64(..)),
    })
}

fn failed(error: io::Error) -> Failure {
    let exit = match error.kind() {
        io::ErrorKind::NotFound => Exit::Configuration,
        _ => Exit::Internal,
    };
    Failure::new(exit, format!("chaos: {error}"))
}

fn status(report: &Report) -> Exit {
    match report.ours() {
        0 => Exit::Success,
        _ => Exit::Internal,
    }
}
