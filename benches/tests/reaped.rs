//! ZooKeeper removes empty directories. Measurements outlast that.

use std::time::Duration;

use load::{Plan, Target, Workload, measure, runtime};
use testkit::fixtures::zk::{Ensemble, Settings};

#[test]
fn the_offset_is_measured_while_directories_are_removed() {
    let ensemble = Ensemble::start(Settings {
        properties: vec![
            "znode.container.checkIntervalMs=1".to_owned(),
            "znode.container.maxPerMinute=1000000".to_owned(),
        ],
        ..Settings::default()
    });
    let runtime = runtime().expect("the operating system gives threads");
    let plan = Plan {
        workload: Workload::Raw,
        workers: 4,
        length: Duration::from_millis(500),
    };
    let measured = runtime.block_on(async {
        let target = Target::connect(&ensemble.url()).await?;
        measure(&target, plan).await
    });
    let line = measured.expect("no request failed");
    assert!(line.ops > 0, "{line}");
}
