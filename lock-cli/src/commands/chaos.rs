//! `turnlock chaos`: a run of faults on servers of its own, judged by the checker.

use std::io;

use conformance::chaos::{self, Backend, Report, Settings};

use crate::cli::{Chaos, Global};
use crate::exit::{Exit, Failure};
use crate::output::{print, say};

pub async fn chaos(global: Global, args: Chaos) -> Result<Exit, Failure> {
    let settings = settings(global.backend.as_deref(), &args)?;
    say(format!(
        "chaos on {} ({}) with seed {}",
        settings.backend.name(),
        settings.nodes,
        settings.seed
    ));
    // It has a runtime of its own.
    let run = tokio::task::spawn_blocking(move || chaos::run(settings));
    let report = match run.await {
        Ok(report) => report.map_err(failed)?,
        // It has said why on stderr: a server that is not installed, for example.
        Err(_) => return Ok(Exit::Internal),
    };
    if global.json {
        // The program that reads stdout is not the person who waits for it.
        eprintln!("{report}");
        print(serde_json::to_string(&report).map_err(|error| failed(error.into()))?).ok();
    } else {
        print(report.to_string()).ok();
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
            possible.iter().map(usize::to_string).collect::<Vec<_>>().join(" or ")
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
    Failure::new(Exit::Internal, format!("the run failed: {error}"))
}

fn status(report: &Report) -> Exit {
    match report.ours() {
        0 => Exit::Success,
        _ => Exit::Internal,
    }
}
