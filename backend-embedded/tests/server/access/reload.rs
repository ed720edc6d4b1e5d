//! Rules and users that change while clients are connected.

use std::fs;

use backend_embedded::server::access::{AccessError, add_user};
use backend_kit::secret::Secret;
use etcd_client::proto::{PbPutRequest, PbPutResponse};
use etcd_client::{Client, ConnectOptions, WatchOptions};
use tonic::Code;
use tonic::transport::Channel;

use super::wire::{ask, log_in, log_in_with};
use super::{Files, PASSWORD, RULES};
use crate::support::{refusal, soon, until};

async fn put(channel: &Channel, token: &str, key: &str) -> Option<Code> {
    let request = PbPutRequest {
        key: key.into(),
        ..PbPutRequest::default()
    };
    let answer = ask::<PbPutResponse>(channel, "/etcdserverpb.KV/Put", Some(token), request).await;
    answer.err().map(|status| status.code())
}

#[tokio::test]
async fn a_right_that_is_withdrawn_ends_for_streams_that_are_open() {
    let files = Files::new();
    let served = files.serve();
    let user = ConnectOptions::new().with_user("alice", PASSWORD);
    let mut alice = Client::connect([served.endpoint()], Some(user))
        .await
        .expect("she is let in");
    let lease = alice.lease_grant(600, None).await.expect("granted").id();
    let attached = etcd_client::PutOptions::new().with_lease(lease);
    alice
        .put("a/key", "1", Some(attached))
        .await
        .expect("written");
    let prefix = WatchOptions::new().with_prefix();
    let mut watch = alice.watch("a/", Some(prefix)).await.expect("allowed");
    let (mut keeper, mut renewals) = alice.lease_keep_alive(lease).await.expect("a stream");

    fs::write(
        files.path("rules.toml"),
        RULES.replace("user:alice", "user:carol"),
    )
    .expect("written");
    files.access.reload().expect("they are good");
    let admin = log_in(&served.channel().await, "root").await;
    assert_eq!(put(&served.channel().await, &admin, "a/secret").await, None);
    soon("the end of the watch", async {
        loop {
            let answer = watch.message().await.expect("open").expect("goes on");
            let events = answer.events().iter();
            let seen = events
                .filter_map(|event| event.kv())
                .filter(|kv| kv.key() == b"a/secret");
            assert_eq!(seen.count(), 0, "the right was withdrawn before");
            if answer.canceled() {
                assert!(answer.cancel_reason().contains("permission denied"));
                return;
            }
        }
    })
    .await;
    keeper.keep_alive().await.expect("sent");
    let renewal = soon("an answer", async {
        loop {
            match renewals.message().await {
                Ok(Some(_)) => {}
                ended => return ended,
            }
        }
    });
    assert_eq!(refusal(renewal.await).0, Code::PermissionDenied);
    drop((alice, watch, keeper, renewals));
    served.stop().await;
}

#[tokio::test]
async fn a_user_who_has_another_password_has_to_show_it() {
    let files = Files::new();
    let served = files.serve();
    let channel = served.channel().await;
    let [alice, bob] = [
        log_in(&channel, "alice").await,
        log_in(&channel, "bob").await,
    ];
    let other = "another password of hers";
    add_user(
        &files.path("users"),
        "alice",
        &Secret::new(other.to_owned()),
    )
    .expect("changed");
    files.access.reload().expect("they are good");
    assert_eq!(
        put(&channel, &alice, "a/key").await,
        Some(Code::Unauthenticated)
    );
    assert_eq!(
        put(&channel, &bob, "b/key").await,
        None,
        "nothing has changed for him"
    );
    let refused = log_in_with(&channel, "alice", PASSWORD)
        .await
        .expect_err("the former one");
    assert_eq!(refused.code(), Code::InvalidArgument);
    let token = log_in_with(&channel, "alice", other)
        .await
        .expect("hers")
        .token;
    assert_eq!(put(&channel, &token, "a/key").await, None);
    drop(channel);
    served.stop().await;
}

#[tokio::test]
async fn a_file_that_cannot_be_used_leaves_the_former_rules() {
    let files = Files::new();
    let served = files.serve();
    let channel = served.channel().await;
    let alice = log_in(&channel, "alice").await;
    for bad in ["", "[[rule]]\nsubject = \"user:alice\"\n", "[[rule"] {
        fs::write(files.path("rules.toml"), bad).expect("written");
        let error = files.access.reload().expect_err(bad);
        assert!(matches!(error, AccessError::Malformed { .. }), "{error}");
        assert_eq!(put(&channel, &alice, "a/key").await, None);
        assert_eq!(
            put(&channel, &alice, "b/key").await,
            Some(Code::PermissionDenied)
        );
    }
    fs::remove_file(files.path("rules.toml")).expect("removed");
    files.access.reload().expect_err("it is gone");
    assert_eq!(put(&channel, &alice, "a/key").await, None);
    drop(channel);
    served.stop().await;
}

#[tokio::test]
async fn a_changed_file_is_noticed() {
    let files = Files::new();
    let served = files.serve();
    let channel = served.channel().await;
    let alice = log_in(&channel, "alice").await;
    assert_eq!(
        put(&channel, &alice, "c/key").await,
        Some(Code::PermissionDenied)
    );
    let rule = "\n[[rule]]\nsubject = \"user:alice\"\nnamespace = \"c\"\nright = \"lock\"\n";
    fs::write(files.path("rules.toml"), format!("{RULES}{rule}")).expect("written");
    until("the new rule counts", async || {
        put(&channel, &alice, "c/key").await.is_none()
    })
    .await;
    drop(channel);
    served.stop().await;
}
