//! Leases through crate `etcd-client`.

use std::time::{Duration, Instant};

use etcd_client::{LeaseGrantOptions, LeaseTimeToLiveOptions, PutOptions};

use crate::support::{Served, soon, until};

#[tokio::test]
async fn a_lease_is_granted_renewed_and_revoked_with_its_keys() {
    let served = Served::start();
    let mut client = served.client().await;

    let granted = client.lease_grant(60, None).await.expect("granted");
    assert!(granted.id() > 0);
    assert_eq!(granted.ttl(), 60);
    let chosen = LeaseGrantOptions::new().with_id(0x7007);
    let chosen = client.lease_grant(30, Some(chosen)).await.expect("granted");
    assert_eq!((chosen.id(), chosen.ttl()), (0x7007, 30));
    let mut ids: Vec<i64> = client
        .leases()
        .await
        .expect("leases")
        .leases()
        .iter()
        .map(|lease| lease.id())
        .collect();
    ids.sort_unstable();
    let mut expected = [granted.id(), 0x7007];
    expected.sort_unstable();
    assert_eq!(ids, expected);

    for key in ["b", "a"] {
        let options = PutOptions::new().with_lease(0x7007);
        client.put(key, "", Some(options)).await.expect("put");
    }
    let options = LeaseTimeToLiveOptions::new().with_keys();
    let left = client
        .lease_time_to_live(0x7007, Some(options))
        .await
        .expect("time to live");
    assert_eq!(left.granted_ttl(), 30);
    assert!((25..=30).contains(&left.ttl()), "{}", left.ttl());
    assert_eq!(left.keys(), [b"a".to_vec(), b"b".to_vec()]);
    let left = client
        .lease_time_to_live(0x7007, None)
        .await
        .expect("time to live");
    assert!(left.keys().is_empty());

    let before = client.get("a", None).await.expect("get");
    let revoked = client.lease_revoke(0x7007).await.expect("revoked");
    // Both keys are deleted at one revision.
    assert_eq!(
        revoked.header().expect("a header").revision(),
        before.header().expect("a header").revision() + 1
    );
    let after = client.get("a", None).await.expect("get");
    assert_eq!(after.count(), 0);
    let left = client
        .lease_time_to_live(0x7007, None)
        .await
        .expect("time to live");
    assert_eq!((left.id(), left.ttl(), left.granted_ttl()), (0x7007, -1, 0));
    served.stop().await;
}

#[tokio::test]
async fn one_stream_renews_many_leases_and_reports_the_lost_ones() {
    let served = Served::start();
    let mut client = served.client().await;
    for id in [11, 12] {
        let options = LeaseGrantOptions::new().with_id(id);
        client
            .lease_grant(40, Some(options))
            .await
            .expect("granted");
    }
    let (mut keeper, mut answers) = client.lease_keep_alive(11).await.expect("a stream");
    keeper.keep_alive().await.expect("asked");
    let mut first = soon("a renewal", answers.message())
        .await
        .expect("answer")
        .expect("open");
    assert_eq!((first.id(), first.ttl()), (11, 40));
    assert!(first.take_header().is_some());

    client.lease_revoke(11).await.expect("revoked");
    keeper.keep_alive().await.expect("asked");
    let gone = soon("an answer", answers.message())
        .await
        .expect("answer")
        .expect("open");
    assert_eq!((gone.id(), gone.ttl()), (11, 0));

    // The stream works after it reported that one lease is gone.
    keeper.keep_alive().await.expect("asked");
    let gone = soon("an answer", answers.message())
        .await
        .expect("answer")
        .expect("open");
    assert_eq!(gone.ttl(), 0);
    served.stop().await;
}

#[tokio::test]
async fn an_unrenewed_lease_takes_its_keys_along() {
    let served = Served::start();
    let mut client = served.client().await;
    let granted = client.lease_grant(1, None).await.expect("granted");
    let began = Instant::now();
    let options = PutOptions::new().with_lease(granted.id());
    client.put("k", "", Some(options)).await.expect("put");
    until("the lease to expire", || {
        let mut client = client.clone();
        async move { client.get("k", None).await.expect("get").count() == 0 }
    })
    .await;
    let lived = began.elapsed();
    let ttl = Duration::from_secs(u64::try_from(granted.ttl()).expect("positive"));
    // The grant was made before `began` was read, by less than this.
    assert!(
        lived + Duration::from_millis(500) >= ttl,
        "{lived:?} of {ttl:?}"
    );
    let left = client
        .lease_time_to_live(granted.id(), None)
        .await
        .expect("time to live");
    assert_eq!(left.ttl(), -1);
    served.stop().await;
}

#[tokio::test]
async fn a_lease_kept_alive_outlives_its_time_to_live() {
    let served = Served::start();
    let mut client = served.client().await;
    let granted = client.lease_grant(1, None).await.expect("granted");
    let ttl = Duration::from_secs(u64::try_from(granted.ttl()).expect("positive"));
    let (mut keeper, mut answers) = client
        .lease_keep_alive(granted.id())
        .await
        .expect("a stream");
    let began = Instant::now();
    while began.elapsed() < 3 * ttl {
        keeper.keep_alive().await.expect("asked");
        let answer = soon("a renewal", answers.message())
            .await
            .expect("answer")
            .expect("open");
        assert_eq!(answer.ttl(), granted.ttl());
        tokio::time::sleep(ttl / 10).await;
    }
    served.stop().await;
}
