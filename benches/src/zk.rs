//! One node of ZooKeeper, and Curator's lock on it.

use std::time::Duration;

use async_trait::async_trait;
use backend_zk::{Config, ZkBackend};
use conformance::fixtures::zk::java::{self, Program};
use conformance::fixtures::zk::{Ensemble, Settings};
use lock_core::{Locks, Metadata, clock};
use zookeeper_client::{Acls, Client, CreateMode};

use crate::peer::{Other, Peer, Raw, options};

pub struct ZooKeeper {
    ensemble: Ensemble,
    curator: Program,
}

impl ZooKeeper {
    pub fn start() -> Self {
        ZooKeeper {
            ensemble: Ensemble::start(Settings::default()),
            curator: Program::compile("CuratorRate", &java::curator()),
        }
    }
}

#[async_trait]
impl Peer for ZooKeeper {
    fn name(&self) -> &'static str {
        "zookeeper"
    }

    fn locks(&self) -> Locks {
        let config = Config::from_url(&self.ensemble.url()).expect("a valid URL");
        let backend = ZkBackend::new(config).expect("a usable URL");
        Locks::new(backend, options()).expect("options within bounds")
    }

    async fn raw(&self) -> Box<dyn Raw> {
        let client = Client::connect(&self.ensemble.connection_string()).await;
        let client = client.expect("ZooKeeper serves");
        let container = CreateMode::Container.with_acls(Acls::anyone_all());
        let made = client.mkdir(DIRECTORY, &container).await;
        made.expect("ZooKeeper serves");
        Box::new(Bare(client))
    }

    fn others(&self, length: Duration) -> Vec<Other> {
        let servers = self.ensemble.connection_string();
        let seconds = length.as_secs().max(1).to_string();
        [1, 16]
            .into_iter()
            .map(|workers| {
                let path = format!("/curator-{workers}");
                let printed = self
                    .curator
                    .run(&[&servers, &path, &workers.to_string(), &seconds]);
                let line: serde_json::Value =
                    serde_json::from_str(&printed).expect("one line of JSON");
                Other {
                    name: "curator".into(),
                    workers,
                    ops_per_s: line["turns_per_second"].as_f64().expect("a rate"),
                }
            })
            .collect()
    }
}

/// Makes the same nodes as a lock does.
struct Bare(Client);

const DIRECTORY: &str = "/turnlock/raw";
const PREFIX: &str = "/turnlock/raw/_c_6d1cca4a-0fbe-4bd5-9bd6-0f4b3b0e7f3a-lock-";

#[async_trait]
impl Raw for Bare {
    async fn pair(&mut self) {
        let options = CreateMode::EphemeralSequential.with_acls(Acls::anyone_all());
        let metadata = Metadata {
            owner: "bench".into(),
            host: "a-machine".into(),
            pid: std::process::id(),
            since_unix_ms: clock::unix_millis(),
            note: None,
        };
        let created = self.0.create(PREFIX, &metadata.to_bytes(), &options).await;
        let (_, sequence) = created.expect("ZooKeeper serves");
        self.0
            .delete(&format!("{PREFIX}{sequence}"), None)
            .await
            .expect("ZooKeeper serves");
    }
}
