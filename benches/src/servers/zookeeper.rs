//! Starts one node of ZooKeeper, and measures Curator's lock on it.

use std::time::Duration;

use load::{Measurement, Workload};
use testkit::fixtures::zk::java::{self, Program};
use testkit::fixtures::zk::{Ensemble, Settings};

use super::{Running, Server};

pub fn start() -> Server {
    let ensemble = Ensemble::start(Settings::default());
    let curator = Program::compile("CuratorRate", &java::curator());
    Server::new(&ensemble.url(), Node { ensemble, curator })
}

struct Node {
    ensemble: Ensemble,
    curator: Program,
}

impl Running for Node {
    fn measure_peers(&self, length: Duration) -> Vec<Measurement> {
        [(Workload::Uncontended, 1), (Workload::Contended, 16)]
            .into_iter()
            .map(|(workload, workers)| self.curator(workload, workers, length))
            .collect()
    }
}

impl Node {
    fn curator(&self, workload: Workload, workers: usize, length: Duration) -> Measurement {
        let servers = self.ensemble.connection_string();
        let seconds = length.as_secs().max(1).to_string();
        let path = format!("/curator-{workers}");
        let printed = self
            .curator
            .run(&[&servers, &path, &workers.to_string(), &seconds]);
        let figures: serde_json::Value = serde_json::from_str(&printed).expect("one line of JSON");
        let figure = |name: &str| figures[name].as_f64().expect("a figure");
        Measurement {
            target: "curator".into(),
            workload,
            workers,
            ops: figures["ops"].as_u64().expect("a count"),
            seconds: figure("seconds"),
            ops_per_s: figure("ops_per_s"),
            p50_us: figure("p50_us"),
            p99_us: figure("p99_us"),
        }
    }
}
