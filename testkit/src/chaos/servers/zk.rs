//! Runs real ZooKeeper with one node or three.

use std::time::Duration;

use async_trait::async_trait;

use super::zk_log;
use super::{Account, Cluster};
use crate::fixtures::zk::{Ensemble, Settings};
use crate::history::Store;

/// The tick of the servers. It is short, so that sessions may be short, too: a session lasts two
/// ticks at least.
const TICK: Duration = Duration::from_millis(500);

pub struct Zk {
    ensemble: Ensemble,
}

impl Zk {
    pub fn start(nodes: usize) -> Self {
        let settings = Settings {
            nodes,
            tick: TICK,
            ..Settings::default()
        };
        Zk {
            ensemble: Ensemble::start(settings),
        }
    }
}

#[async_trait]
impl Cluster for Zk {
    fn size(&self) -> usize {
        self.ensemble.size()
    }

    fn address(&self, member: usize) -> String {
        self.ensemble.address(member).to_owned()
    }

    fn url(&self, addresses: &[String]) -> String {
        format!(
            "zk://{}?tick_time={}ms&allow_short_sessions=true",
            addresses.join(","),
            TICK.as_millis()
        )
    }

    fn store(&self, ttl: Duration) -> Store {
        Store {
            ours: false,
            // A peer is given up after five ticks. The election loads a Java program's classes.
            // Sessions have their full time again after it.
            recovery: TICK * 10 + Duration::from_secs(5) + ttl,
            ttl,
            handoff: None,
        }
    }

    fn pause(&mut self, member: usize) {
        self.ensemble.pause(member);
    }

    fn resume(&mut self, member: usize) {
        self.ensemble.resume(member);
    }

    fn kill(&mut self, member: usize) {
        self.ensemble.kill(member);
    }

    fn start(&mut self, member: usize) {
        self.ensemble.spawn(member);
    }

    fn isolates(&self) -> bool {
        self.size() > 1
    }

    fn isolate(&mut self, member: usize) {
        self.ensemble.isolate(member);
    }

    fn rejoin(&mut self, member: usize) {
        self.ensemble.rejoin(member);
    }

    async fn account(&mut self) -> Account {
        let folders = (0..self.size()).map(|member| self.ensemble.data(member));
        zk_log::account(folders).expect("the logs of transactions are whole")
    }
}
