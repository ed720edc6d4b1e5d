//! One node of etcd.

use std::sync::Arc;

use async_trait::async_trait;
use backend_etcd::{Config, EtcdBackend};
use conformance::fixtures::etcd::Node;
use etcd_client::Client;
use lock_core::Locks;

use crate::peer::{Peer, Raw, options};

pub struct Etcd {
    node: Node,
    /// All contenders' sessions go over one connection, as they do in a process.
    backend: Arc<EtcdBackend>,
}

impl Etcd {
    pub fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("the operating system gives an event queue");
        let node = runtime.block_on(Node::start());
        let config = Config::tcp([node.address()]).expect("a valid address");
        Etcd {
            node,
            backend: EtcdBackend::new(config).expect("a usable address"),
        }
    }
}

#[async_trait]
impl Peer for Etcd {
    fn name(&self) -> &'static str {
        "etcd"
    }

    fn locks(&self) -> Locks {
        Locks::new(self.backend.clone(), options()).expect("options within bounds")
    }

    async fn raw(&self) -> Box<dyn Raw> {
        Box::new(Bare(self.node.client().await))
    }
}

struct Bare(Client);

#[async_trait]
impl Raw for Bare {
    async fn pair(&mut self) {
        self.0.put("raw", "", None).await.expect("etcd serves");
        self.0.delete("raw", None).await.expect("etcd serves");
    }
}
