//! The lock and the election service through crate `etcd-client`.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use etcd_client::{
    CampaignResponse, Client, GetOptions, LeaderKey, LeaseGrantOptions, LockOptions, LockResponse,
    ProclaimOptions, ResignOptions,
};
use tonic::Code;

use crate::support::{Served, refusal, soon, until};

async fn lease(client: &mut Client, id: i64) -> i64 {
    let options = LeaseGrantOptions::new().with_id(id);
    client
        .lease_grant(300, Some(options))
        .await
        .expect("granted")
        .id()
}

async fn keys(client: &mut Client, prefix: &str) -> Vec<String> {
    let options = GetOptions::new().with_prefix();
    let got = client.get(prefix, Some(options)).await.expect("get");
    let text = |kv: &etcd_client::KeyValue| kv.key_str().expect("text").to_owned();
    got.kvs().iter().map(text).collect()
}

/// Starts a call, and waits until its key is in the queue.
async fn queued<T: Send + 'static>(
    client: &Client,
    key: &str,
    call: impl Future<Output = T> + Send + 'static,
) -> tokio::task::JoinHandle<T> {
    let call = tokio::spawn(call);
    until("the call to stand in the queue", || {
        let mut client = client.clone();
        async move { client.get(key, None).await.expect("get").count() == 1 }
    })
    .await;
    call
}

fn lock(
    client: &Client,
    name: &'static str,
    lease: i64,
) -> impl Future<Output = Result<LockResponse, etcd_client::Error>> + Send + 'static {
    let mut client = client.clone();
    async move {
        client
            .lock(name, Some(LockOptions::new().with_lease(lease)))
            .await
    }
}

fn campaign(
    client: &Client,
    name: &'static str,
    value: &'static str,
    lease: i64,
) -> impl Future<Output = Result<CampaignResponse, etcd_client::Error>> + Send + 'static {
    let mut client = client.clone();
    async move { client.campaign(name, value, lease).await }
}

async fn is_pending(future: impl Future) -> bool {
    let mut future = pin!(future);
    std::future::poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_pending())).await
}

#[tokio::test]
async fn a_lock_is_handed_on_in_order() {
    let served = Served::start();
    let mut client = served.client().await;
    for id in [0xa, 0xb, 0xc] {
        lease(&mut client, id).await;
    }
    let held = soon("the lock", lock(&client, "l", 0xa))
        .await
        .expect("locked");
    assert_eq!(held.key(), b"l/a");
    let mut second = queued(&client, "l/b", lock(&client, "l", 0xb)).await;
    let mut third = queued(&client, "l/c", lock(&client, "l", 0xc)).await;
    assert!(is_pending(&mut second).await && is_pending(&mut third).await);

    client.unlock(held.key()).await.expect("unlocked");
    let held = soon("the second", &mut second)
        .await
        .expect("not panicked")
        .expect("locked");
    assert_eq!(held.key(), b"l/b");
    assert!(is_pending(&mut third).await);
    client.unlock(held.key()).await.expect("unlocked");
    let held = soon("the third", &mut third)
        .await
        .expect("not panicked")
        .expect("locked");
    assert_eq!(held.key(), b"l/c");
    assert_eq!(keys(&mut client, "l/").await, ["l/c"]);
    served.stop().await;
}

#[tokio::test]
async fn locking_twice_with_one_lease_is_one_lock() {
    let served = Served::start();
    let mut client = served.client().await;
    lease(&mut client, 0xa).await;
    for _ in 0..2 {
        let held = soon("the lock", lock(&client, "l", 0xa))
            .await
            .expect("locked");
        assert_eq!(held.key(), b"l/a");
    }
    assert_eq!(keys(&mut client, "l/").await, ["l/a"]);
    served.stop().await;
}

#[tokio::test]
async fn a_call_without_a_lease_gets_one_of_the_servers() {
    let served = Served::start();
    let mut client = served.client().await;
    let held = soon("the lock", client.lock("l", None))
        .await
        .expect("locked");
    let got = client.get(held.key(), None).await.expect("get");
    let lease = got.kvs()[0].lease();
    assert_eq!(held.key(), format!("l/{lease:x}").as_bytes());
    let left = client
        .lease_time_to_live(lease, None)
        .await
        .expect("time to live");
    assert_eq!(left.granted_ttl(), 60);

    // A waiting call's lease ends with the call.
    let waiting = tokio::spawn({
        let mut client = client.clone();
        async move { client.lock("l", None).await }
    });
    until("the second key", || {
        let mut client = client.clone();
        async move { keys(&mut client, "l/").await.len() == 2 }
    })
    .await;
    waiting.abort();
    until("the second lease to go", || {
        let mut client = client.clone();
        async move { client.leases().await.expect("leases").leases().len() == 1 }
    })
    .await;
    assert_eq!(keys(&mut client, "l/").await.len(), 1);
    served.stop().await;
}

#[tokio::test]
async fn a_cancelled_call_leaves_the_queue() {
    let served = Served::start();
    let mut client = served.client().await;
    for id in [0xa, 0xb, 0xc] {
        lease(&mut client, id).await;
    }
    soon("the lock", lock(&client, "l", 0xa))
        .await
        .expect("locked");
    let second = queued(&client, "l/b", lock(&client, "l", 0xb)).await;
    let third = queued(&client, "l/c", lock(&client, "l", 0xc)).await;
    second.abort();
    until("the key of the cancelled call to go", || {
        let mut client = client.clone();
        async move { keys(&mut client, "l/").await == ["l/a", "l/c"] }
    })
    .await;
    client.unlock("l/a").await.expect("unlocked");
    soon("the third", third)
        .await
        .expect("not panicked")
        .expect("locked");
    served.stop().await;
}

#[tokio::test]
async fn a_second_call_on_a_lease_survives_the_first_ones_cancellation() {
    let served = Served::start();
    let mut client = served.client().await;
    for id in [0xa, 0xb] {
        lease(&mut client, id).await;
    }
    soon("the lock", lock(&client, "l", 0xa))
        .await
        .expect("locked");
    let first = queued(&client, "l/b", lock(&client, "l", 0xb)).await;
    let again = tokio::spawn(lock(&client, "l", 0xb));
    first.abort();
    client.unlock("l/a").await.expect("unlocked");
    let held = soon("the second call", again)
        .await
        .expect("not panicked")
        .expect("locked");
    assert_eq!(held.key(), b"l/b");
    assert_eq!(keys(&mut client, "l/").await, ["l/b"]);
    served.stop().await;
}

#[tokio::test]
async fn a_waiting_call_fails_when_its_lease_ends() {
    let served = Served::start();
    let mut client = served.client().await;
    for id in [0xa, 0xb] {
        lease(&mut client, id).await;
    }
    soon("the lock", lock(&client, "l", 0xa))
        .await
        .expect("locked");
    let waiting = queued(&client, "l/b", lock(&client, "l", 0xb)).await;
    client.lease_revoke(0xb).await.expect("revoked");
    let outcome = soon("the refusal", waiting).await.expect("not panicked");
    assert_eq!(
        refusal(outcome),
        (Code::Unknown, "mutex: session is expired".to_owned())
    );

    let outcome = soon("the refusal", lock(&client, "l", 0xdead)).await;
    let text = "etcdserver: requested lease not found".to_owned();
    assert_eq!(refusal(outcome), (Code::NotFound, text));
    assert_eq!(keys(&mut client, "l/").await, ["l/a"]);
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_contenders_exclude_each_other_and_all_get_their_turns() {
    const CONTENDERS: i64 = 12;
    const TURNS: usize = 8;
    let served = Served::start();
    let holders = Arc::new(AtomicUsize::new(0));
    let mut contenders = tokio::task::JoinSet::new();
    for id in 1..=CONTENDERS {
        let mut client = served.client().await;
        let holders = Arc::clone(&holders);
        contenders.spawn(async move {
            lease(&mut client, id).await;
            let mut turns = 0;
            while turns < TURNS {
                // Every third call is abandoned, mostly while it waits.
                let call = client.lock("l", Some(LockOptions::new().with_lease(id)));
                if turns % 3 == 2 {
                    let _ = tokio::time::timeout(Duration::from_millis(2), call).await;
                    client.unlock(format!("l/{id:x}")).await.expect("unlocked");
                    turns += 1;
                    continue;
                }
                let held = soon("the lock", call).await.expect("locked");
                assert_eq!(
                    holders.fetch_add(1, Ordering::SeqCst),
                    0,
                    "two hold the lock"
                );
                tokio::task::yield_now().await;
                holders.fetch_sub(1, Ordering::SeqCst);
                client.unlock(held.key()).await.expect("unlocked");
                turns += 1;
            }
        });
    }
    soon("all turns", async {
        while let Some(contender) = contenders.join_next().await {
            contender.expect("not panicked");
        }
    })
    .await;
    until("the queue to be empty", || async {
        served.coordinator.status().keys == 0
    })
    .await;
    served.stop().await;
}

#[tokio::test]
async fn queues_do_not_reach_into_each_other() {
    let served = Served::start();
    let mut client = served.client().await;
    for id in [0xa, 0xb] {
        lease(&mut client, id).await;
    }
    soon("l", lock(&client, "l", 0xa)).await.expect("locked");
    // Neither a longer nor a shorter name is in the way.
    soon("l0", lock(&client, "l0", 0xb)).await.expect("locked");
    soon("", lock(&client, "", 0xb)).await.expect("locked");
    assert_eq!(keys(&mut client, "").await, ["/b", "l/a", "l0/b"]);
    served.stop().await;
}

#[tokio::test]
async fn leaders_are_elected_observed_and_resign() {
    let served = Served::start();
    let mut client = served.client().await;
    for id in [0xa, 0xb] {
        lease(&mut client, id).await;
    }
    assert_eq!(
        refusal(client.leader("e").await),
        (Code::Unknown, "election: no leader".to_owned())
    );
    let mut observed = client.observe("e").await.expect("a stream");

    let first = soon("the first leader", campaign(&client, "e", "one", 0xa))
        .await
        .expect("elected");
    let first = first.leader().expect("a leader key").clone();
    assert_eq!(
        (first.name(), first.key(), first.lease()),
        (&b"e"[..], &b"e/a"[..], 0xa)
    );
    let received = soon("news", observed.message())
        .await
        .expect("news")
        .expect("open");
    assert_eq!(received.kv().expect("a key").value(), b"one");
    let leader = client.leader("e").await.expect("a leader");
    let kv = leader.kv().expect("a key");
    assert_eq!((kv.key(), kv.create_revision()), (&b"e/a"[..], first.rev()));

    let second = queued(&client, "e/b", campaign(&client, "e", "two", 0xb)).await;
    let options = ProclaimOptions::new().with_leader(first.clone());
    client
        .proclaim("uno", Some(options.clone()))
        .await
        .expect("proclaimed");
    let received = soon("news", observed.message())
        .await
        .expect("news")
        .expect("open");
    assert_eq!(received.kv().expect("a key").value(), b"uno");

    let resign = ResignOptions::new().with_leader(first);
    client.resign(Some(resign.clone())).await.expect("resigned");
    soon("the second leader", second)
        .await
        .expect("not panicked")
        .expect("elected");
    let received = soon("news", observed.message())
        .await
        .expect("news")
        .expect("open");
    assert_eq!(received.kv().expect("a key").value(), b"two");

    assert_eq!(
        refusal(client.proclaim("late", Some(options)).await),
        (Code::Unknown, "election: not leader".to_owned())
    );
    client
        .resign(Some(resign))
        .await
        .expect("resigning twice is no error");
    assert_eq!(
        client
            .leader("e")
            .await
            .expect("a leader")
            .kv()
            .expect("a key")
            .value(),
        b"two"
    );
    served.stop().await;
}

#[tokio::test]
async fn a_leader_of_a_negative_revision_creates_nothing() {
    let served = Served::start();
    let mut client = served.client().await;
    lease(&mut client, 0xa).await;
    let nobody = LeaderKey::new()
        .with_name("e")
        .with_key("e/a")
        .with_rev(-1)
        .with_lease(0xa);
    let options = ProclaimOptions::new().with_leader(nobody);
    assert_eq!(
        refusal(client.proclaim("x", Some(options)).await),
        (Code::Unknown, "election: not leader".to_owned())
    );
    let found = client.get("e/a", None).await.expect("an answer");
    assert_eq!(found.count(), 0);
    served.stop().await;
}

#[tokio::test]
async fn campaigning_again_proclaims() {
    let served = Served::start();
    let mut client = served.client().await;
    lease(&mut client, 0xa).await;
    let first = soon("the leader", campaign(&client, "e", "one", 0xa))
        .await
        .expect("elected");
    let again = soon("the leader", campaign(&client, "e", "two", 0xa))
        .await
        .expect("elected");
    assert_eq!(
        first.leader().expect("a leader key").rev(),
        again.leader().expect("a leader key").rev()
    );
    let kv_value = client
        .leader("e")
        .await
        .expect("a leader")
        .take_kv()
        .expect("a key");
    assert_eq!(kv_value.value(), b"two");
    served.stop().await;
}

#[tokio::test]
async fn elections_refuse_as_etcd_does() {
    use etcd_client::proto::{PbProclaimResponse, PbResignResponse};
    let served = Served::start();
    let channel = served.channel().await;
    let text = "\"leader\" field must be provided";
    let refusal = crate::support::call::<(), PbProclaimResponse>(
        &channel,
        "/v3electionpb.Election/Proclaim",
        (),
    )
    .await
    .expect_err(text);
    assert_eq!((refusal.code(), refusal.message()), (Code::Unknown, text));
    let refusal =
        crate::support::call::<(), PbResignResponse>(&channel, "/v3electionpb.Election/Resign", ())
            .await
            .expect_err(text);
    assert_eq!((refusal.code(), refusal.message()), (Code::Unknown, text));
    served.stop().await;
}
