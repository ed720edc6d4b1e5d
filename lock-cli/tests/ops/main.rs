//! Tests what `ops/` has for the night: the rules, the runbooks, the dashboard, and the way from a
//! lost lock to a page. The programs are the real Prometheus and Alertmanager.
//!
//! This program is also the holder that loses its lock.

#[path = "../support/mod.rs"]
mod support;

mod holder;
mod http;
mod live;
mod rules;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};

fn main() -> ExitCode {
    if let Some(ended) = holder::hold_if_asked() {
        return ended;
    }
    let trial = |name: &str, test: fn()| {
        Trial::test(name, move || {
            test();
            Ok::<(), Failed>(())
        })
    };
    let trials = vec![
        trial(
            "every_alert_fires_and_is_quiet",
            rules::every_alert_fires_and_is_quiet,
        ),
        trial(
            "every_alert_has_a_runbook",
            rules::every_alert_has_a_runbook,
        ),
        trial(
            "every_metric_that_is_used_exists",
            rules::every_metric_that_is_used_exists,
        ),
        trial(
            "the_dashboard_has_grafanas_types",
            rules::the_dashboard_has_grafanas_types,
        ),
        trial(
            "alertmanager_takes_its_configuration",
            rules::alertmanager_takes_its_configuration,
        ),
        trial(
            "a_stopped_holder_is_seen_and_its_loss_is_paged",
            live::a_stopped_holder_is_seen_and_its_loss_is_paged,
        ),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn root() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    folder.parent().unwrap_or(folder).to_path_buf()
}

fn read(name: &str) -> String {
    let path = root().join(name);
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{name}: {error}"))
}
