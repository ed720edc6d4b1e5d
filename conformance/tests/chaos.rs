//! Short runs of chaos on every kind of server.

use std::process::ExitCode;
use std::time::Duration;

use conformance::chaos::{self, Backend, Settings};
use libtest_mimic::{Arguments, Failed, Trial};

fn main() -> ExitCode {
    if let Some(ended) = chaos::helper_main() {
        return ended;
    }
    let runs: [(&str, Backend, usize); _] = [
        #[cfg(feature = "embedded")]
        ("embedded", Backend::Embedded, 1),
        #[cfg(feature = "etcd")]
        ("etcd_of_one", Backend::Etcd, 1),
        #[cfg(feature = "etcd")]
        ("etcd_of_three", Backend::Etcd, 3),
        #[cfg(feature = "zk")]
        ("zookeeper_of_one", Backend::Zk, 1),
        #[cfg(feature = "zk")]
        ("zookeeper_of_three", Backend::Zk, 3),
    ];
    let trials = runs.map(|(name, backend, nodes)| {
        Trial::test(name, move || play(backend, nodes))
    });
    libtest_mimic::run(&Arguments::from_args(), trials.into()).exit_code()
}

/// Half a minute of a fixed seed.
fn play(backend: Backend, nodes: usize) -> Result<(), Failed> {
    let report = chaos::run(Settings {
        backend,
        nodes,
        length: Duration::from_secs(20),
        seed: 7,
    })?;
    println!("{report}");
    assert_eq!(report.ours(), 0, "{report}");
    assert!(report.faults.values().sum::<usize>() >= 10, "{report}");
    assert!(report.writes.accepted >= 20, "{report}");
    assert_eq!(report.writes.lost_with_fence, 0, "{report}");
    Ok(())
}
