//! The clients that show a password: Debian's `etcdctl`, and the crate `etcd-client`.

use std::process::{Output, Stdio};

use etcd_client::{
    AlarmAction, AlarmType, Client, ConnectOptions, GetOptions, LockOptions, PutOptions,
};
use tokio::process::Command;
use tonic::Code;

use super::{Files, PASSWORD};
use crate::support::{Served, refusal, required, soon};

async fn connect(
    served: &Served,
    user: &str,
    password: &str,
) -> Result<Client, etcd_client::Error> {
    let options = ConnectOptions::new().with_user(user, password);
    Client::connect([served.endpoint()], Some(options)).await
}

#[tokio::test]
async fn etcd_client_logs_in_and_does_what_it_may() {
    let files = Files::new();
    let served = files.serve();
    let mut alice = connect(&served, "alice", PASSWORD)
        .await
        .expect("she is let in");
    let lease = alice.lease_grant(60, None).await.expect("granted").id();
    let attached = PutOptions::new().with_lease(lease).with_prev_key();
    alice
        .put("a/key", "1", Some(attached))
        .await
        .expect("written");
    let (mut keeper, mut answers) = alice.lease_keep_alive(lease).await.expect("a stream");
    keeper.keep_alive().await.expect("sent");
    let renewed = soon("a renewal", answers.message()).await.expect("open");
    assert!(renewed.expect("an answer").ttl() > 0);
    let shown = alice.lease_time_to_live(lease, None).await.expect("shown");
    assert!(shown.ttl() > 0);
    let leases = alice.leases().await.expect("listed");
    assert_eq!(leases.leases().len(), 1);
    let prefix = GetOptions::new().with_prefix();
    let found = alice.get("a/", Some(prefix.clone())).await.expect("read");
    assert_eq!(found.count(), 1);
    let on_lease = LockOptions::new().with_lease(lease);
    let locked = alice.lock("a/lock", Some(on_lease)).await.expect("locked");
    alice.unlock(locked.key()).await.expect("unlocked");
    let leader = alice
        .campaign("a/election", "me", lease)
        .await
        .expect("led");
    assert!(leader.leader().is_some());
    alice.lease_revoke(lease).await.expect("revoked");
    alice.member_list().await.expect("listed");
    alice.status().await.expect("shown");

    let denied = Code::PermissionDenied;
    let text = "etcdserver: permission denied".to_owned();
    let answer = refusal(alice.get("b/key", None).await);
    assert_eq!(answer, (denied, text.clone()));
    let answer = refusal(alice.get("", Some(GetOptions::new().with_all_keys())).await);
    assert_eq!(answer, (denied, text.clone()));
    let answer = refusal(alice.lock("b/lock", None).await);
    assert_eq!(answer, (denied, text.clone()));
    let alarms = alice.alarm(AlarmAction::Get, AlarmType::None, None);
    assert_eq!(refusal(alarms.await), (denied, text));
    assert_eq!(
        served.coordinator.status().leases,
        0,
        "a denied lock leaves no lease"
    );

    let wrong = refusal(
        connect(&served, "alice", "not the password")
            .await
            .map(|_| ()),
    );
    let text = "etcdserver: authentication failed, invalid user ID or password";
    assert_eq!(wrong, (Code::InvalidArgument, text.to_owned()));
    let mut nobody = served.client().await;
    let answer = refusal(nobody.get("a/key", None).await);
    let text = "etcdserver: invalid auth token";
    assert_eq!(answer, (Code::Unauthenticated, text.to_owned()));
    drop((alice, nobody, keeper, answers));
    served.stop().await;
}

#[tokio::test]
async fn without_rules_a_client_with_a_password_is_told_that_there_is_no_authentication() {
    let served = Served::start();
    let answer = refusal(connect(&served, "alice", PASSWORD).await.map(|_| ()));
    let text = "etcdserver: authentication is not enabled";
    assert_eq!(answer, (Code::FailedPrecondition, text.to_owned()));
    served.stop().await;
}

async fn etcdctl(served: &Served, user: Option<&str>, args: &[&str]) -> Output {
    let mut command = Command::new(required("etcdctl", "etcd-client"));
    command
        .env_clear()
        .env("ETCDCTL_API", "3")
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .args([
            "--endpoints",
            &served.address.to_string(),
            "--command-timeout=30s",
            // In this time it has to show the password, which takes long in a build for tests.
            "--dial-timeout=30s",
        ])
        .args(user.map(|user| format!("--user={user}:{PASSWORD}")))
        .args(args)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    soon(&args.join(" "), command.output())
        .await
        .expect("etcdctl runs")
}

#[tokio::test]
async fn etcdctl_logs_in_and_does_what_it_may() {
    let files = Files::new();
    let served = files.serve();
    let alice = async |args: &[&str]| {
        let output = etcdctl(&served, Some("alice"), args).await;
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).expect("text")
    };
    assert_eq!(alice(&["put", "a/key", "1"]).await, "OK\n");
    assert_eq!(alice(&["get", "--prefix", "a/"]).await, "a/key\n1\n");
    assert_eq!(alice(&["lock", "a/lock", "echo", "held"]).await, "held\n");
    assert!(alice(&["member", "list"]).await.contains("turnlock"));
    assert!(alice(&["endpoint", "status"]).await.contains("turnlock"));

    let refused = async |user: Option<&str>, args: &[&str], text: &str| {
        let output = etcdctl(&served, user, args).await;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{args:?}: {output:?}");
        assert!(said.contains(text), "{args:?}: {said}");
        assert!(!said.contains(PASSWORD), "{said}");
    };
    let denied = "permission denied";
    refused(Some("alice"), &["get", "b/key"], denied).await;
    refused(Some("alice"), &["get", "--from-key", "a/key"], denied).await;
    refused(Some("bob"), &["put", "a/key", "2"], denied).await;
    refused(Some("bob"), &["del", "--prefix", "a/"], denied).await;
    refused(Some("bob"), &["lock", "a/lock", "true"], denied).await;
    refused(Some("alice"), &["compact", "1"], denied).await;
    refused(Some("mallory"), &["get", "a/key"], "authentication failed").await;
    refused(None, &["get", "a/key"], "invalid auth token").await;
    refused(Some("root"), &["user", "add", "eve:eve"], "--rules").await;
    assert_eq!(
        alice(&["get", "a/key"]).await,
        "a/key\n1\n",
        "nobody changed it"
    );
    served.stop().await;
}
