//! Starts one node of etcd.

use testkit::fixtures::etcd::Node;

use super::{Running, Server, blocking};

pub fn start() -> Server {
    let node = blocking().block_on(Node::start());
    let url = format!("etcd://{}", node.address());
    Server::new(&url, node)
}

impl Running for Node {}
