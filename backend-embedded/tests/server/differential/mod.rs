//! The coordinator and a real etcd must respond alike to the same requests.
//!
//! `TURNLOCK_SEED=<number>` repeats a random run.

mod ask;
mod corners;
mod etcd;
mod random;
mod streams;
mod watched;

use etcd_client::proto::PbPutRequest;
use tonic::transport::Channel;

use self::ask::{Answered, Ask};
use self::etcd::Etcd;
use self::random::Requests;
use self::watched::Watched;
use crate::support::{Served, channel};

/// The number of requests of a random run.
const STEPS: usize = 1500;

/// Faults of a request that depend on the state of the store. Each is a corner case too.
const STATE_FAULTS: [&str; 4] = [
    "etcdserver: key not found",
    "etcdserver: requested lease not found",
    "etcdserver: mvcc: required revision is a future revision",
    "etcdserver: mvcc: required revision has been compacted",
];

/// A coordinator and an etcd, both empty.
struct Pair {
    served: Served,
    ours: Channel,
    etcd: Etcd,
    theirs: Channel,
}

impl Pair {
    async fn start() -> Self {
        let served = Served::start();
        let etcd = Etcd::start().await;
        Self {
            ours: served.channel().await,
            served,
            theirs: channel(&etcd.endpoint).await,
            etcd,
        }
    }

    /// Sends a request to ours, then to etcd.
    async fn ask(&self, ask: &Ask) -> (Answered, Answered) {
        (
            ask::ask(&self.ours, ask).await,
            ask::ask(&self.theirs, ask).await,
        )
    }
}

/// Returns whether both refuse a transaction, each for another fault of it. Which fault comes first
/// is not compared.
fn several_faults(ask: &Ask, ours: &Answered, theirs: &Answered) -> bool {
    let fault = |answered: &Answered| match answered {
        Err((_, text)) => STATE_FAULTS.contains(&text.as_str()),
        Ok(_) => false,
    };
    matches!(ask, Ask::Txn(_)) && fault(ours) && fault(theirs)
}

#[tokio::test]
async fn corners_are_answered_as_by_etcd() {
    let pair = Pair::start().await;
    for (number, ask) in corners::all().iter().enumerate() {
        let (ours, theirs) = pair.ask(ask).await;
        assert_eq!(ours, theirs, "corner {number}, ours is left: {ask:?}");
    }
    pair.served.stop().await;
}

async fn random_run(compactions: bool) {
    let seed = match std::env::var("TURNLOCK_SEED") {
        Ok(seed) => seed.parse().expect("TURNLOCK_SEED is a number"),
        Err(_) => fastrand::u64(..),
    };
    println!("TURNLOCK_SEED={seed}");
    let pair = Pair::start().await;
    let mut requests = Requests::new(seed, compactions);
    // etcd reads previous states when it sends events, so a compaction may remove them before.
    let mut ours = Watched::start(&pair.ours, !compactions).await;
    let mut theirs = Watched::start(&pair.theirs, !compactions).await;
    for step in 0..STEPS {
        let ask = requests.next();
        let (ours, theirs) = pair.ask(&ask).await;
        assert!(
            ours == theirs || several_faults(&ask, &ours, &theirs),
            "TURNLOCK_SEED={seed}, step {step}: {ask:?}\n ours: {ours:?}\netcd: {theirs:?}"
        );
        if let Ok(answer) = ours {
            requests.note_revision(answer.revision());
        }
    }
    let last = PbPutRequest {
        key: "last".into(),
        ..PbPutRequest::default()
    };
    let (put, _) = pair.ask(&Ask::Put(last)).await;
    let last = put.expect("put").revision();
    let (ours, theirs) = (ours.up_to(last).await, theirs.up_to(last).await);
    for (number, (our, their)) in ours.iter().zip(&theirs).enumerate() {
        assert_eq!(
            our, their,
            "event {number}, ours is left; TURNLOCK_SEED={seed}"
        );
    }
    assert_eq!(ours.len(), theirs.len(), "events; TURNLOCK_SEED={seed}");
    pair.served.stop().await;
}

#[tokio::test]
async fn random_requests_are_answered_as_by_etcd() {
    random_run(false).await;
}

#[tokio::test]
async fn random_requests_with_compactions_are_answered_as_by_etcd() {
    random_run(true).await;
}
