//! Ten thousand tasks of a client want locks at once on a real etcd.

mod support;

use lock_core::Locks;
use support::{Node, backend_of};
use testkit::crowd;

async fn endure(name: impl Fn(usize) -> String) {
    let etcd = Node::start().await;
    let open = |options| Locks::new(backend_of(&etcd), options).expect("valid options");
    crowd::endure(open, name).await;
}

#[tokio::test]
async fn ten_thousand_tasks_that_want_a_lock_each_hold_up_neither_releases_nor_renewals() {
    endure(|task| format!("crowd/{task}")).await;
}

#[tokio::test]
async fn ten_thousand_tasks_that_want_one_lock_hold_up_neither_releases_nor_renewals() {
    endure(|_| "crowd".to_owned()).await;
}
