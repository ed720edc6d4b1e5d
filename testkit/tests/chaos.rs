//! Runs chaos for a short time on every kind of server.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use libtest_mimic::{Arguments, Failed, Trial};
use testkit::chaos::{self, Backend, Settings};

fn main() -> ExitCode {
    if let Some(ended) = chaos::helper_main() {
        return ended;
    }
    let runs = Backend::ALL.iter().flat_map(|backend| {
        let nodes = backend.nodes().iter();
        nodes.map(move |nodes| (*backend, *nodes))
    });
    let trials = runs.map(|(backend, nodes)| {
        let name = format!("{}_of_{nodes}", backend.name());
        Trial::test(name, move || play(backend, nodes))
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}

/// Plays a short run of a fixed seed.
fn play(backend: Backend, nodes: usize) -> Result<(), Failed> {
    let settings = Settings {
        backend,
        nodes,
        length: Duration::from_secs(20),
        seed: 7,
    };
    let report = chaos::run(settings, Arc::default())?;
    println!("{report}");
    assert_eq!(report.count_ours(), 0, "{report}");
    assert!(report.faults.values().sum::<usize>() >= 10, "{report}");
    assert!(report.writes.accepted >= 20, "{report}");
    assert_eq!(report.writes.lost_with_fence, 0, "{report}");
    Ok(())
}
