//! Ten thousand tasks of a client want locks at once on a real ensemble.

mod support;

use support::with_options;
use testkit::crowd;
use testkit::fixtures::zk::{Ensemble, Settings};

async fn endure(name: impl Fn(usize) -> String) {
    let zk = Ensemble::start(Settings::default());
    crowd::endure(|options| with_options(&zk.url(), options), name).await;
}

#[tokio::test]
async fn ten_thousand_tasks_that_want_a_lock_each_hold_up_neither_releases_nor_renewals() {
    endure(|task| format!("crowd/{task}")).await;
}

#[tokio::test]
async fn ten_thousand_tasks_that_want_one_lock_hold_up_neither_releases_nor_renewals() {
    endure(|_| "crowd".to_owned()).await;
}
