//! Tests `turnlock serve` for other machines: what it demands, what it says, and what its clients say.

mod support;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use rustix::process::Signal;
use support::{Home, Running, code, eventually, program, signal, text, wait_for};
use testkit::fixtures::certs::{Ca, Issued};

const HOST: &str = "127.0.0.1";

/// A coordinator in the foreground, and what it has said so far.
struct Serving {
    running: Running,
    said: Arc<Mutex<Vec<String>>>,
    address: String,
}

impl Serving {
    fn start(home: &Home, args: &[&str]) -> Self {
        let data = home.file("data");
        let data = data.to_str().expect("UTF-8");
        let mut child = home
            .turnlock(&[&["serve", "--data", data], args].concat())
            .stderr(Stdio::piped())
            .spawn()
            .expect("turnlock starts");
        let stderr = BufReader::new(child.stderr.take().expect("piped"));
        let said = Arc::new(Mutex::new(Vec::new()));
        let lines = Arc::clone(&said);
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                lines.lock().expect("not poisoned").push(line);
            }
        });
        let mut serving = Serving {
            running: Running::of(child),
            said,
            address: String::new(),
        };
        let line = serving.wait_to_say("serving ");
        serving.address = line.rsplit(' ').next().expect("an address").to_owned();
        serving
    }

    /// Waits until it says this, and returns the line.
    fn wait_to_say(&self, words: &str) -> String {
        wait_for(words, || {
            let said = self.said.lock().expect("not poisoned");
            said.iter().find(|line| line.contains(words)).cloned()
        })
    }

    fn port(&self) -> &str {
        self.address.rsplit(':').next().expect("a port")
    }
}

/// Returns the arguments of a server with mutual TLS.
fn mutual(listen: &str, server: &Issued, ca: &Ca) -> Vec<String> {
    let ca = ca.file();
    let pairs = [
        ("--listen", listen),
        ("--tls-cert", &server.cert),
        ("--tls-key", &server.key),
        ("--client-ca", &ca),
    ];
    let pairs = pairs.iter();
    pairs
        .flat_map(|(name, value)| [(*name).to_owned(), (*value).to_owned()])
        .collect()
}

fn start(home: &Home, args: &[String]) -> Serving {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    Serving::start(home, &args)
}

fn url(address: &str, ca: &Ca, client: Option<&Issued>) -> String {
    let identity = client.map(|Issued { cert, key, .. }| format!("&cert={cert}&key={key}"));
    let identity = identity.unwrap_or_default();
    format!("etcds://{address}?ca={}{identity}", ca.file())
}

#[test]
fn each_refusal_is_clear_on_both_sides() {
    let home = Home::new();
    let (ca, other) = (Ca::new("ours"), Ca::new("theirs"));
    let revoked = ca.issue("revoked", &[]);
    let mut args = mutual("127.0.0.1:0", &ca.issue("server", &[HOST]), &ca);
    args.extend(["--client-crl".to_owned(), ca.revoke(&[&revoked])]);
    let server = start(&home, &args);
    let address = &server.address;
    let client = ca.issue("client", &[]);
    let try_it = |url: &str| home.run(&["--backend", url, "run", "-w", "5", "x", "--", "true"]);
    let output = try_it(&url(address, &ca, Some(&client)));
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));

    let (foreign, expired) = (
        other.issue("foreign", &[]),
        ca.issue_expired("expired", &[]),
    );
    let plain = format!("etcd://{address}");
    for (url, client_says, server_says) in [
        (
            url(address, &ca, None),
            "CertificateRequired",
            "gave no certificate",
        ),
        (
            url(address, &ca, Some(&foreign)),
            "UnknownCA",
            "not from the authority",
        ),
        (
            url(address, &ca, Some(&expired)),
            "CertificateExpired",
            "has expired",
        ),
        (
            url(address, &ca, Some(&revoked)),
            "CertificateRevoked",
            "is revoked",
        ),
        (
            url(address, &other, Some(&client)),
            "not trusted",
            "refused this server",
        ),
        (plain, "etcds://", "does not speak TLS"),
    ] {
        let output = try_it(&url);
        let said = text(&output.stderr);
        assert!(
            !output.status.success() && said.contains(client_says),
            "{url}: {said}"
        );
        let line = server.wait_to_say(server_says);
        assert!(line.contains("client=127.0.0.1:"), "{line}");
    }
}

#[test]
fn a_server_for_another_name_is_refused_unless_that_name_is_given() {
    let home = Home::new();
    let ca = Ca::new("ours");
    let named = ca.issue("server", &["locks.example"]);
    let server = start(&home, &mutual("127.0.0.1:0", &named, &ca));
    let url = url(&server.address, &ca, Some(&ca.issue("client", &[])));
    let output = home.run(&["--backend", &url, "ls"]);
    let said = text(&output.stderr);
    assert!(
        !output.status.success() && said.contains("another name"),
        "{said}"
    );
    server.wait_to_say("refused this server");
    let url = format!("{url}&server_name=locks.example");
    let output = home.run(&["--backend", &url, "ls"]);
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
}

#[test]
fn a_signal_replaces_the_certificate_and_a_bad_one_changes_nothing() {
    let home = Home::new();
    let ca = Ca::new("ours");
    let server_files = ca.issue("server", &[HOST]);
    let server = start(&home, &mutual("127.0.0.1:0", &server_files, &ca));
    let client = ca.issue("client", &[]);
    let url = url(&server.address, &ca, Some(&client));
    let holder = home.spawn(&["--backend", &url, "hold", "x"]);
    let ls = || home.run(&["--backend", &url, "ls"]);
    eventually("it holds", || text(&ls().stdout).contains('x'));

    let hang_up = || signal(server.running.id(), Signal::HUP);
    fs::write(&server_files.cert, "half a file").expect("written");
    hang_up();
    let line = server.wait_to_say("cannot be used");
    assert!(line.contains(&server_files.cert), "{line}");
    assert_eq!(code(&ls()), 0, "the former one is in use");

    let next = ca.issue("next", &["locks.example"]);
    fs::copy(&next.cert, &server_files.cert).expect("copied");
    fs::copy(&next.key, &server_files.key).expect("copied");
    hang_up();
    server.wait_to_say("the certificates have changed");
    let said = text(&ls().stderr);
    assert!(
        said.contains("another name"),
        "the next one is in use: {said}"
    );
    let output = home.run(&[
        "--backend",
        &format!("{url}&server_name=locks.example"),
        "ls",
    ]);
    let listed = text(&output.stdout);
    assert!(
        listed.contains('x'),
        "the holder has kept its connection: {listed}"
    );
    signal(holder.id(), Signal::TERM);
    holder.wait();
}

#[test]
fn other_machines_are_let_in_only_if_that_is_meant() {
    let home = Home::new();
    let output = home.run(&["serve", "--listen", "0.0.0.0:0"]);
    let said = text(&output.stderr);
    assert_eq!(code(&output), 78, "{said}");
    for words in [
        "not a loopback address",
        "--tls-cert",
        "--client-ca",
        "--insecure",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }

    let server = Serving::start(&home, &["--listen", "0.0.0.0:0", "--insecure"]);
    let line = server.wait_to_say("insecure: 0.0.0.0:");
    assert!(line.contains("take and break any lock"), "{line}");
    let url = format!("etcd://127.0.0.1:{}", server.port());
    let output = home.run(&["--backend", &url, "status"]);
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    let shown = text(&output.stdout);
    assert!(
        shown.contains("warning") && shown.contains("insecure: 0.0.0.0:"),
        "{shown}"
    );
    let output = home.run(&["--backend", &url, "status", "--json"]);
    let shown: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let warning = shown["warnings"][0].as_str().expect("one");
    assert!(warning.contains("insecure"), "{shown}");
}

#[test]
fn who_can_use_an_address_is_said_at_the_start() {
    let home = Home::new();
    let server = Serving::start(&home, &["--listen", "127.0.0.1:0"]);
    let line = server.wait_to_say("open to every user of this machine");
    assert!(line.contains(&server.address), "{line}");
    drop(server);
    let ca = Ca::new("ours");
    let args = mutual("0.0.0.0:0", &ca.issue("server", &[HOST]), &ca);
    let server = start(&home, &args);
    server.wait_to_say("open to everybody with a certificate");
    let said = server.said.lock().expect("not poisoned");
    assert!(
        !said.iter().any(|line| line.contains("insecure")),
        "{said:?}"
    );
}

#[test]
fn arguments_that_would_protect_nothing_are_refused() {
    let home = Home::new();
    let ca = Ca::new("ours");
    let Issued { cert, key, .. } = &ca.issue("server", &[HOST]);
    let socket = format!("unix:{}", home.file("sock").display());
    for args in [
        &["--tls-cert", cert, "--tls-key", key][..],
        &["--listen", &socket, "--tls-cert", cert, "--tls-key", key],
        &["--listen", "127.0.0.1:0", "--tls-cert", cert],
        &["--listen", "127.0.0.1:0", "--client-ca", cert],
        &["--insecure"],
    ] {
        let output = home.run(&[&["serve"], args].concat());
        assert_eq!(code(&output), 64, "{args:?}: {}", text(&output.stderr));
    }
}

#[test]
fn etcdctl_works_over_mutual_tls() {
    let home = Home::new();
    let ca = Ca::new("ours");
    let server = start(
        &home,
        &mutual("127.0.0.1:0", &ca.issue("server", &[HOST]), &ca),
    );
    let client = ca.issue("client", &[]);
    let etcdctl = program("etcdctl", "etcd-client");
    let run = |args: &[&str], identity: Option<&Issued>| {
        let mut command = Command::new(&etcdctl);
        command.env("ETCDCTL_API", "3").arg("--command-timeout=30s");
        command.args(["--endpoints", &format!("https://{}", server.address)]);
        command.args(["--cacert", &ca.file()]);
        if let Some(Issued { cert, key, .. }) = identity {
            command.args(["--cert", cert, "--key", key]);
        }
        command.args(args).output().expect("etcdctl starts")
    };
    for args in [
        &["put", "k", "v"][..],
        &["get", "k"],
        &["lock", "l", "true"],
        &["endpoint", "health"],
        &["endpoint", "status"],
    ] {
        let output = run(args, Some(&client));
        assert!(
            output.status.success(),
            "{args:?}: {}",
            text(&output.stderr)
        );
    }
    assert!(text(&run(&["get", "k"], Some(&client)).stdout).contains('v'));
    let refused = run(&["--dial-timeout=2s", "get", "k"], None);
    assert!(!refused.status.success(), "{}", text(&refused.stdout));
    server.wait_to_say("gave no certificate");
}

#[test]
fn a_key_that_all_users_can_read_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let home = Home::new();
    let ca = Ca::new("ours");
    let files = ca.issue("server", &[HOST]);
    fs::set_permissions(Path::new(&files.key), PermissionsExt::from_mode(0o644)).expect("ours");
    let args = mutual("127.0.0.1:0", &files, &ca);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let output = home.run(&[&["serve"], &args[..]].concat());
    let said = text(&output.stderr);
    assert_eq!(code(&output), 78, "{said}");
    assert!(
        said.contains("chmod o=") && said.contains("tls-key"),
        "{said}"
    );
}
