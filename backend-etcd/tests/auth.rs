//! Users and passwords with a real etcd: tokens that end do no harm, refusals are clear, and no
//! output contains the password.

mod support;

use std::error::Error as StdError;
use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use backend_etcd::{Config, EtcdBackend};
use futures_util::future::join_all;
use lock_core::{Error, ErrorKind, Locks, Release, State};
use support::{Node, backend, locks};
use testkit::fixtures::certs::private;
use testkit::waiting::soon;

const TTL: Duration = Duration::from_secs(3);
const CANARY: &str = "canary-7f3a";
/// The seconds that a token lives without use.
const TOKEN_TTL: u64 = 2;

/// The kind of etcd's tokens.
enum Tokens {
    /// Known to the server only. Each use prolongs its life.
    Simple,
    /// Ends at a fixed time, and with each change of users and roles.
    Jwt,
}

fn jwt(folder: &Path) -> String {
    let key = rcgen::KeyPair::generate().expect("a key");
    let write = |file: &str, pem: String| {
        let path = folder.join(file);
        let path = path.to_str().expect("UTF-8").to_owned();
        private(&path, &pem);
        path
    };
    let (public, secret) = (
        write("jwt.pub", key.public_key_pem()),
        write("jwt.key", key.serialize_pem()),
    );
    format!("jwt,pub-key={public},priv-key={secret},sign-method=ES256,ttl={TOKEN_TTL}s")
}

struct Guarded {
    etcd: Node,
    folder: tempfile::TempDir,
}

impl Guarded {
    /// Starts an etcd with authentication: `app` may use the locks, `stranger` has no permission.
    async fn start() -> Self {
        Guarded::start_with(Tokens::Simple).await
    }

    async fn start_with(tokens: Tokens) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let token = match tokens {
            Tokens::Simple => "simple".to_owned(),
            Tokens::Jwt => jwt(folder.path()),
        };
        let ttl = TOKEN_TTL.to_string();
        let arguments = [
            "--auth-token",
            &token,
            "--auth-token-ttl",
            &ttl,
            "--bcrypt-cost",
            "4",
        ];
        let etcd = Node::start_with(arguments.map(str::to_owned).into(), false).await;
        let guarded = Guarded { etcd, folder };
        for words in [
            &["user", "add", "root:rootpw"][..],
            &["user", "grant-role", "root", "root"],
            &["user", "add", &format!("app:{CANARY}")],
            &["user", "add", &format!("stranger:{CANARY}")],
            &["role", "add", "locks"],
            &[
                "role",
                "grant-permission",
                "locks",
                "readwrite",
                "--prefix=true",
                "turnlock/",
            ],
            &["user", "grant-role", "app", "locks"],
            &["auth", "enable"],
        ] {
            guarded.ctl(words);
        }
        private(&guarded.password_file(), &format!("{CANARY}\n"));
        guarded
    }

    fn ctl(&self, words: &[&str]) {
        let output = self
            .etcd
            .ctl()
            .args(words)
            .output()
            .expect("these tests need etcdctl: apt-get install etcd-client");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words:?}: {said}");
    }

    fn as_root(&self, words: &[&str]) {
        self.ctl(&[&["--user", "root:rootpw"], words].concat());
    }

    fn password_file(&self) -> String {
        let path = self.folder.path().join("password");
        path.to_str().expect("UTF-8").to_owned()
    }

    fn url(&self, user: &str) -> String {
        let (address, file) = (self.etcd.address(), self.password_file());
        format!("etcd://{address}?user={user}&password_file={file}")
    }

    fn locks(&self, user: &str) -> Locks {
        locks(backend(&self.url(user)), TTL)
    }
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

async fn refused(url: &str) -> Error {
    let locks = locks(backend(url), TTL);
    let mutex = locks.mutex("x").expect("valid");
    let started = Instant::now();
    let error = soon("a refusal", mutex.acquire()).await;
    let error = error.expect_err("must be refused");
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "at once: {error}"
    );
    assert!(!all_of(&error).contains(CANARY), "{}", all_of(&error));
    error
}

#[tokio::test]
async fn a_lock_is_held_and_waited_for_over_many_lives_of_a_token() {
    outlives(Tokens::Simple).await;
}

#[tokio::test]
async fn a_lock_is_held_and_waited_for_over_many_lives_of_a_jwt() {
    outlives(Tokens::Jwt).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn permissions_that_change_again_and_again_delay_a_request_and_fail_none() {
    const BURSTS: usize = 10;
    const CHANGES: usize = 20;
    let guarded = Guarded::start_with(Tokens::Jwt).await;
    let locks = guarded.locks("app");
    let mutex = locks.mutex("x").expect("valid");
    let as_root = etcd_client::ConnectOptions::new().with_user("root", "rootpw");
    let root = etcd_client::Client::connect([guarded.etcd.address()], Some(as_root)).await;
    let mut root = root.expect("the server is up");
    for burst in 0..BURSTS {
        // Each change ends all tokens, also this client's own.
        let changes = async {
            for number in 0..CHANGES {
                root.refresh_token().await.expect("a token");
                let role = format!("r{burst}-{number}");
                root.role_add(role).await.expect("a new role");
            }
        };
        let requests = async {
            for _ in 0..3 {
                let guard = soon("acquire", mutex.acquire()).await.expect("acquired");
                let released = soon("release", guard.release()).await;
                assert_eq!(released.expect("an answer"), Release::Released);
            }
        };
        tokio::join!(changes, requests);
    }
    soon("close", locks.close()).await.expect("closed");
}

#[tokio::test]
async fn a_forbidden_transaction_is_refused_also_within_a_group() {
    const LOCKS: usize = 24;
    let guarded = Guarded::start().await;
    guarded.as_root(&["user", "add", &format!("guest:{CANARY}")]);
    guarded.as_root(&["role", "add", "some"]);
    for prefix in ["turnlock/free", "turnlock/@"] {
        let words = [
            "role",
            "grant-permission",
            "some",
            "readwrite",
            "--prefix=true",
        ];
        guarded.as_root(&[&words[..], &[prefix]].concat());
    }
    guarded.as_root(&["user", "grant-role", "guest", "some"]);
    let locks = guarded.locks("guest");
    let acquires = (0..LOCKS).map(|number| {
        let kind = if number % 4 == 3 { "forbidden" } else { "free" };
        let mutex = locks.mutex(format!("{kind}-{number}")).expect("valid");
        async move { (kind, mutex.acquire().await) }
    });
    let mut guards = Vec::new();
    for (kind, acquired) in soon("the answers", join_all(acquires)).await {
        match acquired {
            Ok(guard) if kind == "free" => guards.push(guard),
            Err(error) if kind == "forbidden" => {
                assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
            }
            other => panic!("{kind}: {other:?}"),
        }
    }
    for guard in guards {
        assert_eq!(guard.release().await.expect("an answer"), Release::Released);
    }
    let words = [
        "--user",
        "root:rootpw",
        "get",
        "--prefix",
        "turnlock/forbidden",
    ];
    let made = guarded.etcd.ctl().args(words).output().expect("etcdctl");
    assert!(made.status.success(), "{made:?}");
    assert_eq!(
        String::from_utf8_lossy(&made.stdout),
        "",
        "nothing was made"
    );
}

async fn outlives(tokens: Tokens) {
    let guarded = Guarded::start_with(tokens).await;
    let (holder, waiter) = (guarded.locks("app"), guarded.locks("app"));
    let mutex = holder.mutex("x").expect("valid");
    let guard = soon("acquire", mutex.acquire()).await.expect("acquired");
    let mutex = waiter.mutex("x").expect("valid");
    let mut waiting = Vec::new();
    // One after the other, so that watches are made on a stream whose token has ended.
    for round in 0..3 {
        let mutex = mutex.clone();
        waiting.push(tokio::spawn(async move {
            let guard = mutex.acquire().await.expect("acquired");
            guard.release().await.expect("an answer")
        }));
        let until = Instant::now() + Duration::from_secs(2 * TOKEN_TTL);
        while Instant::now() < until {
            assert!(!matches!(guard.state(), State::Lost(_)), "{guard:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        // Changes the permissions during the life of the tokens.
        let other = holder.mutex("y").expect("valid");
        let fresh = soon("acquire", other.acquire()).await.expect("acquired");
        let role = format!("r{round}");
        guarded.as_root(&["role", "add", &role]);
        guarded.as_root(&["user", "grant-role", "app", &role]);
        assert_eq!(
            soon("release", fresh.release()).await.expect("an answer"),
            Release::Released
        );
        assert!(!waiting.iter().any(|w| w.is_finished()), "it is held");
    }
    assert_eq!(
        soon("release", guard.release()).await.expect("an answer"),
        Release::Released
    );
    for waiter in waiting {
        let release = soon("a turn", waiter).await.expect("no panic");
        assert_eq!(release, Release::Released);
    }
    soon("close", holder.close()).await.expect("closed");
    soon("close", waiter.close()).await.expect("closed");
}

#[tokio::test]
async fn wrong_credentials_and_permissions_are_refused_at_once() {
    let guarded = Guarded::start().await;
    let error = refused(&guarded.url("stranger")).await;
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    assert!(error.to_string().contains("permission denied"), "{error}");

    private(&guarded.password_file(), &format!("not-{CANARY}"));
    for user in ["app", "nobody"] {
        let error = refused(&guarded.url(user)).await;
        assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
        assert!(error.to_string().contains("check the user"), "{error}");
    }

    let error = refused(&format!("etcd://{}", guarded.etcd.address())).await;
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    assert!(error.to_string().contains("parameters user"), "{error}");

    guarded.as_root(&["auth", "disable"]);
    let error = refused(&guarded.url("app")).await;
    assert_eq!(error.kind(), ErrorKind::Configuration, "{error}");
    assert!(error.to_string().contains("parameter user"), "{error}");
}

#[tokio::test]
async fn a_permission_taken_away_ends_a_wait() {
    let guarded = Guarded::start().await;
    let (holder, waiter) = (guarded.locks("app"), guarded.locks("app"));
    let mutex = holder.mutex("x").expect("valid");
    let guard = soon("acquire", mutex.acquire()).await.expect("acquired");
    let mutex = waiter.mutex("x").expect("valid");
    let waiting = tokio::spawn(async move { mutex.acquire().await.map(drop) });
    tokio::time::sleep(Duration::from_millis(500)).await;
    guarded.as_root(&["user", "revoke-role", "app", "locks"]);
    // The waiter notices it at its next look.
    let error = soon("a refusal", waiting).await.expect("no panic");
    let error = error.expect_err("the permission is gone");
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    drop(guard);
}

#[test]
fn the_password_is_not_shown() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("password");
    let file = file.to_str().expect("UTF-8");
    private(file, CANARY);
    let url = format!("etcd://127.0.0.1:1?user=app&password_file={file}");
    let config = Config::from_url(&url).expect("valid");
    let shown = format!("{config:?} {config:#?}");
    assert!(shown.contains("app") && !shown.contains(CANARY), "{shown}");
    let backend = EtcdBackend::new(config).expect("usable");
    let shown = format!("{backend:?} {backend:#?}");
    assert!(!shown.contains(CANARY), "{shown}");
}
