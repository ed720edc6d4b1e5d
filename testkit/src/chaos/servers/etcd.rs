//! Runs real etcd with one node or three.

use std::time::Duration;

use async_trait::async_trait;

use super::watch::Observer;
use super::{Account, Cluster};
use crate::fixtures::etcd::Node;
use crate::history::Store;

pub struct Etcd {
    nodes: Vec<Node>,
    observer: Observer,
}

impl Etcd {
    pub async fn start(nodes: usize) -> Self {
        let nodes = match nodes {
            1 => vec![Node::start().await],
            _ => Node::start_three().await.into(),
        };
        let observer = Observer::start(nodes.iter().map(Node::address), false);
        observer.ready().await;
        Etcd { nodes, observer }
    }
}

#[async_trait]
impl Cluster for Etcd {
    fn size(&self) -> usize {
        self.nodes.len()
    }

    fn address(&self, member: usize) -> String {
        self.nodes[member].address()
    }

    fn url(&self, addresses: &[String]) -> String {
        format!("etcd://{}", addresses.join(","))
    }

    fn store(&self, ttl: Duration) -> Store {
        Store {
            ours: false,
            // There may be two elections, and after them every lease has its full time again.
            recovery: Duration::from_secs(4) + ttl,
            ttl,
            handoff: None,
        }
    }

    fn pause(&mut self, member: usize) {
        self.nodes[member].signal("-STOP");
    }

    fn resume(&mut self, member: usize) {
        self.nodes[member].signal("-CONT");
    }

    fn kill(&mut self, member: usize) {
        self.nodes[member].kill();
    }

    fn start(&mut self, member: usize) {
        self.nodes[member].spawn();
    }

    async fn account(&mut self) -> Account {
        // The watches know the times. A new watch, without any fault, reports the events once more.
        let timed = self.observer.account().await;
        let again = Observer::start([self.nodes[0].address()], false)
            .account()
            .await;
        Account {
            seen: timed.seen,
            ..again
        }
    }
}
