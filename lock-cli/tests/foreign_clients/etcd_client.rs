//! The tests of the Rust client `etcd-client`, from the crate that Turnlock itself uses.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use testkit::etcd_protos::find_crate;

use crate::list::{List, Outcome};
use crate::server::{Kind, private_folder};
use crate::support::{program, text};
use crate::{fill_once, kept, prepare, said_by};

/// Starts a server where the tests look for one, and runs them. All of it ends with this script,
/// which is the first process of a namespace. The port is that of a network with nothing else in it.
const SCRIPT: &str = "\
ip link set lo up
\"$@\" >/dev/null 2>&1 &
until etcdctl --endpoints localhost:2379 endpoint health >/dev/null 2>&1; do sleep 0.05; done
for tests in $TESTS; do $tests --test-threads 1 2>&1; done
exit 0
";

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("a name"));
        match path.is_dir() {
            true => copy(&path, &target),
            false => _ = fs::copy(&path, &target).expect("copied"),
        }
    }
}

/// Builds the tests of the crate, with the versions that its lock file names.
fn build() -> Vec<PathBuf> {
    let found = find_crate();
    let name = found.file_name().expect("its name and version");
    let folder = fill_once(&name.to_string_lossy(), |folder| copy(&found, folder));
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .args(["test", "--locked", "--no-run", "--message-format=json"])
        .args(["--test", "client", "--test", "namespace"])
        .arg("--target-dir")
        .arg(kept("etcd-client").join("target"))
        .current_dir(&folder)
        .env("CARGO_INCREMENTAL", "0")
        // Its versions of the crates may not be here yet.
        .env_remove("CARGO_NET_OFFLINE")
        .env_remove("RUSTFLAGS");
    let built = prepare(
        &mut cargo,
        "the crates come from crates.io: this test needs to reach it once",
    );
    let said = text(&built.stdout);
    let artifacts = said.lines().filter_map(|line| {
        let artifact: serde_json::Value = serde_json::from_str(line).ok()?;
        let is_test = artifact["target"]["kind"][0] == "test";
        let program = artifact["executable"].as_str().filter(|_| is_test)?;
        Some(PathBuf::from(program))
    });
    artifacts.collect()
}

fn check(kind: Kind) {
    program("etcdctl", "etcd-client");
    program("ip", "iproute2");
    let tests = build();
    let tests: Vec<_> = tests
        .iter()
        .map(|path| path.to_str().expect("UTF-8"))
        .collect();
    assert_eq!(tests.len(), 2, "{tests:?}");
    let folder = private_folder();
    let data = folder.path().display().to_string();
    let mut isolated = Command::new(program("unshare", "util-linux"));
    isolated.args(["--net", "--pid", "--fork", "--kill-child"]);
    if !rustix::process::geteuid().is_root() {
        isolated.args(["--user", "--map-root-user"]);
    }
    let (server, variables) = kind.program();
    let output = isolated
        .args(["timeout", "300", "sh", "-c", SCRIPT, "sh"])
        .arg("env")
        .args(
            variables
                .iter()
                .map(|(name, value)| format!("{name}={value}")),
        )
        .arg(server)
        .args(kind.arguments("127.0.0.1:2379", &data))
        .env("ETCDCTL_API", "3")
        .env("TESTS", tests.join(" "))
        .stdin(Stdio::null())
        .output()
        .expect("unshare starts");
    let said = said_by(&output);
    let ended = said.lines().filter_map(|line| {
        let (name, outcome) = line.strip_prefix("test ")?.split_once(" ... ")?;
        let outcome = match outcome {
            "ok" => Outcome::Passed,
            "FAILED" => Outcome::Failed,
            // The crate itself ignores what needs several members, or a later etcd.
            _ => return None,
        };
        Some((name.to_owned(), outcome))
    });
    let ended: BTreeMap<_, _> = ended.collect();
    List::read("etcd_client.txt").check(kind, &ended, &said);
}

#[test]
fn the_rust_client_passes_its_tests() {
    check(Kind::Turnlock);
}

#[test]
fn the_list_for_rust_says_what_etcd_does() {
    check(Kind::Etcd);
}
