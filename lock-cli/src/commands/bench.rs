//! `turnlock bench`: measure what locks cost on a coordinator.

use std::future::Future;
use std::path::Path;
use std::time::Duration;

use load::{Knee, Measurement, Plan, Target, Workload, find_limit, measure, survey};
use serde_json::json;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::Instant;

use crate::child::Signals;
use crate::cli::{Bench, Global};
use crate::coordinator;
use crate::exit::{Exit, Failure};
use crate::output::{StatusLine, format_table, inform, print, print_json, say};

/// The pause between two updates of the time that a measurement has taken.
const REFRESH: Duration = Duration::from_millis(200);

/// The time limit for the end of the workers' sessions.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);

pub async fn bench(global: Global, args: Bench) -> Result<Exit, Failure> {
    let mut signals = Signals::install()?;
    let target = coordinator::open_target(global.backend.as_deref()).await?;
    let outcome = tokio::select! {
        outcome = run(&target, &args, global.json) => outcome.map(|()| Exit::Success),
        signal = signals.wait_for_deadly() => Ok(Exit::Signal(signal)),
    };
    // A measurement that was completed has closed them already.
    let closed = tokio::time::timeout(CLOSE_LIMIT, target.part()).await;
    if !matches!(closed, Ok(Ok(()))) {
        say("the coordinator did not reply; what is left of these locks is gone in 30 s");
    }
    outcome
}

async fn run(target: &Target, args: &Bench, json: bool) -> Result<(), Failure> {
    match (&args.report, args.workload) {
        (Some(folder), _) => run_report(target, args, folder, json).await,
        (None, Some(workload)) => match args.find_limit {
            Some(bound) => run_find_limit(target, args, workload, bound, json).await,
            None => run_once(target, args, workload, json).await,
        },
        (None, None) => Err(Failure::new(Exit::Usage, "no workload is named")),
    }
}

async fn run_once(
    target: &Target,
    args: &Bench,
    workload: Workload,
    json: bool,
) -> Result<(), Failure> {
    let plan = Plan {
        workload,
        workers: args.workers.into(),
        length: args.seconds,
    };
    let what = format!("{workload} with {}", args.workers);
    let line = measure_with_progress(&what, args.seconds, measure(target, plan)).await?;
    print_measurement(&line, json)
}

async fn run_find_limit(
    target: &Target,
    args: &Bench,
    workload: Workload,
    bound: Duration,
    json: bool,
) -> Result<(), Failure> {
    let (failures, broken) = unbounded_channel();
    let print_each = |line: &Measurement| {
        if let Err(failure) = print_measurement(line, json) {
            let _ = failures.send(failure);
        }
    };
    let measuring = find_limit(target, workload, args.seconds, bound, print_each);
    let knee = measure_while_printed(measuring, broken).await?;
    let bound_ms = bound.as_secs_f64() * 1e3;
    match json {
        true => print_json(&json!({
            "bound_us": bound_ms * 1e3,
            "within": knee.within.map(|line| line.workers),
            "beyond": knee.beyond.as_ref().map(|line| line.workers),
            "bottleneck": knee.bottleneck,
        })),
        false => print(describe_knee(&knee, bound_ms)),
    }
}

fn describe_knee(knee: &Knee, bound_ms: f64) -> String {
    let found = match (&knee.within, &knee.beyond) {
        (Some(within), Some(beyond)) => format!(
            "the knee: up to {} workers p99 stays within {bound_ms} ms; at {} it does not",
            within.workers, beyond.workers
        ),
        (Some(within), None) => format!(
            "no knee: with {} workers, the most that are tried, p99 is still within {bound_ms} ms",
            within.workers
        ),
        (None, _) => format!("one worker alone has a p99 of more than {bound_ms} ms"),
    };
    match knee.bottleneck {
        Some(bottleneck) => format!(
            "{found}\nwhat ends first: {bottleneck}; {}",
            bottleneck.remedy()
        ),
        None => found,
    }
}

async fn run_report(
    target: &Target,
    args: &Bench,
    folder: &Path,
    json: bool,
) -> Result<(), Failure> {
    // A folder that cannot be made is reported before minutes of measuring.
    std::fs::create_dir_all(folder).map_err(|error| to_report_failure(folder, &error))?;
    let line = StatusLine::on_terminal();
    let (failures, broken) = unbounded_channel();
    let before = |round, _: &Target, plan: Plan| {
        if let Some(line) = &line {
            line.show(&format!(
                "round {round} of {}: {} with {}",
                args.rounds, plan.workload, plan.workers
            ));
        }
    };
    let after = |measured: &Measurement| {
        if json {
            if let Some(line) = &line {
                line.clear();
            }
            if let Err(failure) = print_measurement(measured, json) {
                let _ = failures.send(failure);
            }
        }
    };
    let rounds = args.rounds.into();
    let peers = [target];
    let measuring = survey(&peers, rounds, args.seconds, before, after);
    let report = measure_while_printed(measuring, broken).await?;
    drop(line);
    // The report took minutes to measure, so it is kept even if stdout cannot be written to.
    let written = report.write(folder);
    if !json {
        let rows: Vec<Vec<String>> = report.table().into_iter().map(Vec::from).collect();
        print(format_table(&rows, &[]))?;
    }
    for warning in report.noise() {
        say(format!("warning: {warning}"));
    }
    written.map_err(|error| to_report_failure(folder, &error))?;
    inform(format!(
        "report.md, report.json and report.svg are in {}",
        folder.display()
    ));
    Ok(())
}

fn to_report_failure(folder: &Path, error: &std::io::Error) -> Failure {
    let message = format!(
        "the report cannot be written: {}: {error}",
        folder.display()
    );
    Failure::new(Exit::File, message).hint("give --report a folder that you may write to")
}

fn print_measurement(line: &Measurement, json: bool) -> Result<(), Failure> {
    match json {
        true => print_json(&json!(line)),
        false => print(line.to_string()),
    }
}

/// Measures until a result cannot be printed.
async fn measure_while_printed<T>(
    measuring: impl Future<Output = Result<T, turnlock::Error>>,
    mut broken: UnboundedReceiver<Failure>,
) -> Result<T, Failure> {
    let measured = tokio::select! {
        biased;
        Some(failure) = broken.recv() => return Err(failure),
        measured = measuring => measured?,
    };
    match broken.try_recv() {
        Ok(failure) => Err(failure),
        Err(_) => Ok(measured),
    }
}

/// Runs a measurement, and shows its progress on a terminal.
async fn measure_with_progress<T>(
    what: &str,
    length: Duration,
    measuring: impl Future<Output = T>,
) -> T {
    let Some(line) = StatusLine::on_terminal() else {
        return measuring.await;
    };
    tokio::pin!(measuring);
    let started = Instant::now();
    loop {
        tokio::select! {
            measured = &mut measuring => return measured,
            () = tokio::time::sleep(REFRESH) => {}
        }
        line.show(&format!(
            "{what}: {:.1} of {} s",
            started.elapsed().as_secs_f64(),
            length.as_secs_f64()
        ));
    }
}
