//! Debian's `etcdctl` against the served coordinator.

use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::support::{Served, required, soon, until};

pub struct Etcdctl {
    program: String,
    endpoint: String,
}

impl Etcdctl {
    pub fn new(served: &Served) -> Self {
        Self {
            program: required("etcdctl", "etcd-client"),
            endpoint: served.address.to_string(),
        }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .env_clear()
            .env("ETCDCTL_API", "3")
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .args(["--endpoints", &self.endpoint, "--command-timeout=30s"])
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    async fn output(&self, args: &[&str]) -> Output {
        soon(&args.join(" "), self.command(args).output())
            .await
            .expect("etcdctl runs")
    }

    /// Runs `etcdctl`, which has to succeed, and returns its output.
    pub async fn run(&self, args: &[&str]) -> String {
        let output = self.output(args).await;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "etcdctl {args:?}: {text}{errors}");
        text
    }

    /// Runs `etcdctl`, which has to fail, and returns its error output.
    pub async fn fail(&self, args: &[&str]) -> String {
        let output = self.output(args).await;
        assert!(
            !output.status.success(),
            "etcdctl {args:?} succeeded: {output:?}"
        );
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    async fn run_with_input(&self, args: &[&str], input: &str) -> String {
        let mut child = self
            .command(args)
            .stdin(Stdio::piped())
            .spawn()
            .expect("etcdctl runs");
        let mut stdin = child.stdin.take().expect("a pipe");
        stdin.write_all(input.as_bytes()).await.expect("written");
        drop(stdin);
        let output = soon(&args.join(" "), child.wait_with_output())
            .await
            .expect("etcdctl ran");
        assert!(output.status.success(), "etcdctl {args:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn start(&self, args: &[&str]) -> Running {
        let mut child = self.command(args).spawn().expect("etcdctl runs");
        let stdout = child.stdout.take().expect("a pipe");
        Running {
            child,
            lines: BufReader::new(stdout).lines(),
        }
    }
}

struct Running {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Running {
    async fn line(&mut self) -> String {
        soon("a line from etcdctl", self.lines.next_line())
            .await
            .expect("readable")
            .expect("etcdctl goes on")
    }

    async fn says_nothing(&mut self) -> bool {
        tokio::time::timeout(Duration::from_millis(300), self.lines.next_line())
            .await
            .is_err()
    }

    async fn interrupt(mut self) {
        let pid = self.child.id().expect("it runs").to_string();
        let status = Command::new("kill").args(["-INT", &pid]).status();
        assert!(status.await.expect("kill runs").success());
        soon("etcdctl to end", self.child.wait())
            .await
            .expect("waited");
    }
}

#[tokio::test]
async fn put_get_del() {
    let served = Served::start();
    let etcdctl = Etcdctl::new(&served);
    assert_eq!(etcdctl.run(&["put", "a", "1"]).await, "OK\n");
    etcdctl.run(&["put", "b", "2"]).await;
    etcdctl.run(&["put", "ab", "0"]).await;
    assert_eq!(
        etcdctl.run(&["put", "--prev-kv", "a", "3"]).await,
        "OK\na\n1\n"
    );
    assert_eq!(etcdctl.run(&["get", "a"]).await, "a\n3\n");
    assert_eq!(
        etcdctl.run(&["get", "--prefix", "a"]).await,
        "a\n3\nab\n0\n"
    );
    assert_eq!(
        etcdctl.run(&["get", "--from-key", "ab"]).await,
        "ab\n0\nb\n2\n"
    );
    assert_eq!(
        etcdctl.run(&["get", "a", "b", "--limit", "1"]).await,
        "a\n3\n"
    );
    assert_eq!(
        etcdctl
            .run(&["get", "--prefix", "", "--keys-only", "--sort-by", "value"])
            .await,
        "ab\n\nb\n\na\n\n"
    );
    assert_eq!(
        etcdctl
            .run(&[
                "get",
                "--prefix",
                "",
                "--sort-by",
                "create",
                "--order",
                "descend"
            ])
            .await,
        "ab\n0\nb\n2\na\n3\n"
    );
    // Four puts on a fresh store: revision 5.
    assert_eq!(etcdctl.run(&["get", "--rev", "5", "a"]).await, "a\n3\n");
    assert_eq!(etcdctl.run(&["get", "--rev", "3", "a"]).await, "a\n1\n");
    let error = etcdctl.fail(&["get", "--rev", "99", "a"]).await;
    assert!(
        error.contains("etcdserver: mvcc: required revision is a future revision"),
        "{error}"
    );
    assert_eq!(etcdctl.run(&["del", "--prefix", "a"]).await, "2\n");
    assert_eq!(etcdctl.run(&["del", "a"]).await, "0\n");
    assert_eq!(etcdctl.run(&["get", "--prefix", ""]).await, "b\n2\n");
    assert_eq!(
        etcdctl.run(&["compaction", "5"]).await,
        "compacted revision 5\n"
    );
    for refused in [&["compaction", "5"][..], &["get", "--rev", "4", "a"]] {
        let error = etcdctl.fail(refused).await;
        assert!(
            error.contains("etcdserver: mvcc: required revision has been compacted"),
            "{error}"
        );
    }
    assert_eq!(etcdctl.run(&["get", "--rev", "5", "a"]).await, "a\n3\n");
    served.stop().await;
}

#[tokio::test]
async fn txn() {
    let served = Served::start();
    let etcdctl = Etcdctl::new(&served);
    etcdctl.run(&["put", "k", "v"]).await;
    let script = "value(\"k\") = \"v\"\nmod(\"k\") > \"0\"\n\nput k new\nget k\n\nput k never\n\n";
    let output = etcdctl.run_with_input(&["txn"], script).await;
    assert_eq!(output, "SUCCESS\n\nOK\n\nk\nnew\n");
    let output = etcdctl.run_with_input(&["txn"], script).await;
    assert_eq!(output, "FAILURE\n\nOK\n");
    assert_eq!(etcdctl.run(&["get", "k"]).await, "k\nnever\n");
    served.stop().await;
}

#[tokio::test]
async fn watch() {
    let served = Served::start();
    let etcdctl = Etcdctl::new(&served);
    etcdctl.run(&["put", "w/1", "old"]).await;
    let mut watch = etcdctl.start(&["watch", "--prefix", "w/", "--rev", "2", "--prev-kv"]);
    for expected in ["PUT", "w/1", "old"] {
        assert_eq!(watch.line().await, expected);
    }
    etcdctl.run(&["put", "w/1", "new"]).await;
    for expected in ["PUT", "w/1", "old", "w/1", "new"] {
        assert_eq!(watch.line().await, expected);
    }
    etcdctl.run(&["put", "x", ""]).await;
    etcdctl.run(&["del", "w/1"]).await;
    for expected in ["DELETE", "w/1", "new", "w/1"] {
        assert_eq!(watch.line().await, expected);
    }
    watch.interrupt().await;
    served.stop().await;
}

/// Parses the lease id in `lease <id> granted with ...`.
fn lease_id(output: &str) -> String {
    output.split_whitespace().nth(1).expect("an id").to_owned()
}

#[tokio::test]
async fn lease() {
    let served = Served::start();
    let etcdctl = Etcdctl::new(&served);
    let output = etcdctl.run(&["lease", "grant", "60"]).await;
    let id = lease_id(&output);
    assert_eq!(output, format!("lease {id} granted with TTL(60s)\n"));
    etcdctl.run(&["put", "--lease", &id, "k", ""]).await;
    let output = etcdctl.run(&["lease", "keep-alive", "--once", &id]).await;
    assert_eq!(output, format!("lease {id} keepalived with TTL(60)\n"));
    let output = etcdctl.run(&["lease", "timetolive", "--keys", &id]).await;
    let beginning = format!("lease {id} granted with TTL(60s), remaining(");
    assert!(
        output.starts_with(&beginning) && output.ends_with("s), attached keys([k])\n"),
        "{output}"
    );
    assert_eq!(
        etcdctl.run(&["lease", "list"]).await,
        format!("found 1 leases\n{id}\n")
    );
    let output = etcdctl.run(&["lease", "revoke", &id]).await;
    assert_eq!(output, format!("lease {id} revoked\n"));
    assert_eq!(etcdctl.run(&["get", "k"]).await, "");
    let output = etcdctl.run(&["lease", "timetolive", &id]).await;
    assert_eq!(output, format!("lease {id} already expired\n"));
    let error = etcdctl.fail(&["lease", "revoke", &id]).await;
    assert!(
        error.contains("etcdserver: requested lease not found"),
        "{error}"
    );
    served.stop().await;
}

#[tokio::test]
async fn lock_holders_follow_each_other() {
    let served = Served::start();
    let etcdctl = Etcdctl::new(&served);
    let mut first = etcdctl.start(&["lock", "l"]);
    let key = first.line().await;
    assert!(key.starts_with("l/"), "{key}");
    let mut second = etcdctl.start(&["lock", "l"]);
    until("the second to queue", || async {
        served.coordinator.status().keys == 2
    })
    .await;
    assert!(second.says_nothing().await);
    first.interrupt().await;
    let key = second.line().await;
    assert!(key.starts_with("l/"), "{key}");
    second.interrupt().await;
    until("the lock to be free", || async {
        served.coordinator.status().keys == 0
    })
    .await;
    served.stop().await;
}

#[tokio::test]
async fn lock_excludes() {
    const CONTENDERS: usize = 3;
    const TURNS: usize = 5;
    let served = Served::start();
    let etcdctl = Etcdctl::new(&served);
    let folder = tempfile::tempdir().expect("a folder");
    let counter = folder.path().join("counter");
    std::fs::write(&counter, "0").expect("written");
    let counter = counter.to_str().expect("text").to_owned();
    // The script loses counts when two of it run at once.
    let script = folder.path().join("increment");
    let text = "n=$(cat \"$1\"); sleep 0.02; echo $((n + 1)) > \"$1\"";
    std::fs::write(&script, text).expect("written");
    let script = script.to_str().expect("text").to_owned();
    let contend = async || {
        for _ in 0..TURNS {
            etcdctl.run(&["lock", "l", "sh", &script, &counter]).await;
        }
    };
    let contenders = futures_util::future::join_all((0..CONTENDERS).map(|_| contend()));
    contenders.await;
    let counted = std::fs::read_to_string(&counter).expect("read");
    assert_eq!(counted.trim(), (CONTENDERS * TURNS).to_string());
    served.stop().await;
}

#[tokio::test]
async fn the_lock_service_and_etcdctl_stand_in_one_queue() {
    let served = Served::start();
    let etcdctl = Etcdctl::new(&served);
    let mut client = served.client().await;
    let mut first = etcdctl.start(&["lock", "l"]);
    first.line().await;
    let service = tokio::spawn({
        let mut client = client.clone();
        async move { client.lock("l", None).await }
    });
    let keys = |count| {
        let coordinator = served.coordinator.clone();
        move || std::future::ready(coordinator.status().keys == count)
    };
    until("the service to queue", keys(2)).await;
    let mut third = etcdctl.start(&["lock", "l"]);
    until("the third to queue", keys(3)).await;
    assert!(!service.is_finished());
    first.interrupt().await;
    let held = soon("the service's turn", service)
        .await
        .expect("not panicked")
        .expect("locked");
    assert!(third.says_nothing().await);
    client.unlock(held.key()).await.expect("unlocked");
    third.line().await;
    third.interrupt().await;
    served.stop().await;
}

#[tokio::test]
async fn elect() {
    let served = Served::start();
    let etcdctl = Etcdctl::new(&served);
    let mut first = etcdctl.start(&["elect", "e", "one"]);
    let key = first.line().await;
    assert!(key.starts_with("e/"), "{key}");
    assert_eq!(first.line().await, "one");
    let mut listening = etcdctl.start(&["elect", "-l", "e"]);
    assert_eq!(
        (listening.line().await, listening.line().await),
        (key, "one".to_owned())
    );
    let mut second = etcdctl.start(&["elect", "e", "two"]);
    until("the second to queue", || async {
        served.coordinator.status().keys == 2
    })
    .await;
    assert!(second.says_nothing().await);
    first.interrupt().await;
    let key = second.line().await;
    assert_eq!(second.line().await, "two");
    assert_eq!(
        (listening.line().await, listening.line().await),
        (key, "two".to_owned())
    );
    second.interrupt().await;
    listening.interrupt().await;
    served.stop().await;
}

#[tokio::test]
async fn endpoint_and_member() {
    let served = Served::start();
    let etcdctl = Etcdctl::new(&served);
    let status = etcdctl.run(&["endpoint", "status"]).await;
    let fields: Vec<&str> = status.trim().split(", ").collect();
    assert_eq!(fields[0], etcdctl.endpoint);
    let member = format!("{:x}", served.coordinator.status().member_id);
    assert_eq!(fields[1], member, "{status}");
    assert!(fields[2].starts_with("3.5.0+turnlock."), "{status}");
    assert_eq!(fields[4], "true", "it is the leader: {status}");

    let health = etcdctl.output(&["endpoint", "health"]).await;
    let output = [health.stdout, health.stderr].concat();
    let output = String::from_utf8_lossy(&output);
    assert!(
        health.status.success() && output.contains("is healthy"),
        "{output}"
    );

    let list = etcdctl.run(&["member", "list"]).await;
    assert!(
        list.starts_with(&format!("{member}, started, turnlock, ")),
        "{list}"
    );
    assert!(list.contains(&served.endpoint()), "{list}");

    let error = etcdctl.fail(&["user", "list"]).await;
    let text = "turnlock does not implement etcdserverpb.Auth/UserList";
    assert!(error.contains(text), "{error}");
    served.stop().await;
}
