//! Users and passwords with a real ZooKeeper: nodes belong to their creator, refusals are clear,
//! and no output contains the password.

mod support;

use std::error::Error as StdError;
use std::fmt::Write as _;
use std::time::Duration;

use backend_zk::{Config, ZkBackend};
use lock_core::{Error, ErrorKind, LockName, Release};
use support::{acquire, process, soon};
use tempfile::TempDir;
use testkit::fixtures::certs::private;
use testkit::fixtures::zk::{Ensemble, Settings};
use zookeeper_client::{Client, Error as ZkError};

const TTL: Duration = Duration::from_secs(10);
const CANARY: &str = "canary-7f3a";

/// Writes a file with a password. Returns its folder, too, which removes the file when it is
/// dropped.
fn password(text: &str) -> (TempDir, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("password");
    let file = file.to_str().expect("UTF-8").to_owned();
    private(&file, text);
    (folder, file)
}

/// Returns all texts of an error and its sources.
fn all_of(error: &Error) -> String {
    let mut said = format!("{error:?}");
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(error) = cause {
        write!(said, " {error} {error:?}").expect("a string");
        cause = error.source();
    }
    said
}

async fn refused(url: &str, lock: &LockName) -> Error {
    let mutex = process(url, TTL).mutex(lock).expect("valid");
    let error = soon("a refusal", mutex.acquire()).await;
    let error = error.expect_err("must be refused");
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    assert!(!all_of(&error).contains(CANARY), "{}", all_of(&error));
    error
}

/// Checks what two processes of one user can do, and nobody else.
async fn belongs_to_its_creator(ensemble: &Ensemble, user: &str, others: &[String]) {
    for lock in [
        LockName::new("x").expect("valid"),
        LockName::raw("/jobs/nightly").expect("valid"),
    ] {
        let holder = process(user, TTL);
        let guard = acquire(&holder, &lock).await;
        let queue = process(user, TTL).queue(&lock).await.expect("listed");
        let entry = &queue.entries[0];
        assert!(entry.metadata.is_some(), "ours to read");
        let node = String::from_utf8_lossy(&entry.id.key).into_owned();

        let stranger = Client::connect(&ensemble.connection_string()).await;
        let stranger = stranger.expect("ZooKeeper serves");
        let deleted = stranger.delete(&node, None).await;
        assert_eq!(deleted, Err(ZkError::NoAuth));
        assert_eq!(stranger.get_data(&node).await, Err(ZkError::NoAuth));
        let written = stranger.set_data(&node, b"", None).await;
        assert_eq!(written, Err(ZkError::NoAuth));
        for other in others {
            refused(other, &lock).await;
        }

        let waiter = process(user, TTL).mutex(&lock).expect("valid");
        let waiting = tokio::spawn(async move { waiter.acquire().await });
        assert_eq!(
            soon("release", guard.release()).await.expect("an answer"),
            Release::Released
        );
        let guard = soon("the waiter's turn", waiting).await.expect("no panic");
        assert_eq!(
            guard.expect("granted").release().await.expect("an answer"),
            Release::Released
        );
    }
}

#[tokio::test]
async fn with_digest_nodes_belong_to_their_creator_alone() {
    let ensemble = Ensemble::start(Settings::default());
    let (_ours, file) = password(&format!("{CANARY}\n"));
    let (_theirs, wrong) = password(&format!("not-{CANARY}"));
    let url = ensemble.url();
    let of = |user: &str, file: &str| format!("{url}?user={user}&password_file={file}");
    let others = [of("app", &wrong), of("other", &file), url.clone()];
    belongs_to_its_creator(&ensemble, &of("app", &file), &others).await;
}

#[tokio::test]
async fn a_password_in_the_environment_is_the_same_as_one_in_a_file() {
    let ensemble = Ensemble::start(Settings::default());
    let url = ensemble.url();
    // A variable that is always set where tests run. Any text is good enough as a password.
    let (_folder, file) = password(&std::env::var("PATH").expect("set"));
    let lock = LockName::new("x").expect("valid");
    for source in ["password_env=PATH", &format!("password_file={file}")] {
        let locks = process(&format!("{url}?user=app&{source}"), TTL);
        let guard = acquire(&locks, &lock).await;
        assert_eq!(
            soon("release", guard.release()).await.expect("an answer"),
            Release::Released
        );
    }
    refused(&url, &lock).await;
}

#[tokio::test]
async fn with_sasl_the_servers_know_their_users() {
    let folder = tempfile::tempdir().expect("a folder");
    let jaas = folder.path().join("jaas.conf");
    let jaas = jaas.to_str().expect("UTF-8");
    let users = format!("user_app=\"{CANARY}\" user_other=\"{CANARY}\"");
    let module = "org.apache.zookeeper.server.auth.DigestLoginModule";
    private(
        jaas,
        &format!("Server {{\n  {module} required {users};\n}};\n"),
    );
    let provider = "org.apache.zookeeper.server.auth.SASLAuthenticationProvider";
    let ensemble = Ensemble::start(Settings {
        properties: vec![
            format!("java.security.auth.login.config={jaas}"),
            format!("zookeeper.authProvider.sasl={provider}"),
        ],
        ..Settings::default()
    });
    let (_ours, file) = password(CANARY);
    let (_theirs, wrong) = password(&format!("not-{CANARY}"));
    let url = ensemble.url();
    let of = |user: &str, file: &str| format!("{url}?auth=sasl&user={user}&password_file={file}");
    let others = [of("other", &file), url.clone()];
    belongs_to_its_creator(&ensemble, &of("app", &file), &others).await;

    let lock = LockName::new("x").expect("valid");
    for (user, file) in [("app", &wrong), ("nobody", &file)] {
        let error = refused(&of(user, file), &lock).await;
        assert!(error.to_string().contains("the user"), "{error}");
    }
}

#[test]
fn the_password_is_not_shown() {
    let (_folder, file) = password(CANARY);
    for auth in ["digest", "sasl"] {
        let url = format!("zk://127.0.0.1:1?user=app&password_file={file}&auth={auth}");
        let config = Config::from_url(&url).expect("valid");
        let shown = format!("{config:?} {config:#?}");
        assert!(shown.contains("app") && !shown.contains(CANARY), "{shown}");
        let backend = ZkBackend::new(config).expect("usable");
        let shown = format!("{backend:?} {backend:#?}");
        assert!(!shown.contains(CANARY), "{shown}");
    }
}
