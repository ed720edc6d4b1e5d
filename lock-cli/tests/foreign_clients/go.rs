//! The tests of etcd's Go client, from Debian's package of etcd's sources. They run with a harness
//! of ours, `go/cluster.go`, which starts the server that is tested.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::list::{List, Outcome};
use crate::server::Kind;
use crate::support::program;
use crate::{beside, kept, prepare, said_by};

const GOPATH: &str = "/usr/share/gocode";
const ETCD: &str = "/usr/share/gocode/src/go.etcd.io/etcd";

/// The files of etcd's harness and of its tests that are used. The others need its server within
/// the process, or several of them.
const KEPT: [(&str, &[&str]); 2] = [
    (
        "integration",
        &[
            "cluster_direct.go",
            "main_test.go",
            "util_test.go",
            "v3_barrier_test.go",
            "v3_double_barrier_test.go",
            "v3_election_test.go",
            "v3_grpc_test.go",
            "v3_lease_test.go",
            "v3_lock_test.go",
            "v3_queue_test.go",
            "v3_stm_test.go",
            "v3_watch_test.go",
            "v3election_grpc_test.go",
            "v3lock_grpc_test.go",
        ],
    ),
    (
        "clientv3/integration",
        &[
            "doc.go",
            "kv_test.go",
            "lease_test.go",
            "leasing_test.go",
            "main_test.go",
            "mirror_test.go",
            "namespace_test.go",
            "role_test.go",
            "server_shutdown_test.go",
            "txn_test.go",
            "user_test.go",
            "util.go",
            "watch_fragment_test.go",
            "watch_test.go",
        ],
    ),
];

/// The names of all tests of a run, as a pattern.
fn pattern(names: &[&str]) -> String {
    format!("^({})$", names.join("|"))
}

/// Describes the files that Go is to build instead of those in the packages.
fn overlay() -> String {
    let mut replaced = BTreeMap::new();
    for (folder, files) in KEPT {
        let folder = Path::new(ETCD).join(folder);
        let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| {
            panic!(
                "{}: {error}: apt-get install golang-etcd-server-dev",
                folder.display()
            )
        });
        for entry in entries {
            let path = entry.expect("an entry").path();
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if name.ends_with(".go") && !files.contains(&name.as_str()) {
                // A file that is replaced by nothing is not there.
                replaced.insert(path.display().to_string(), String::new());
            }
        }
    }
    let harness = format!("{ETCD}/integration/cluster.go");
    replaced.insert(harness, beside("go/cluster.go").display().to_string());
    serde_json::json!({ "Replace": replaced }).to_string()
}

/// Builds the tests of a package.
fn build(package: &str) -> std::path::PathBuf {
    let folder = kept("go");
    let name = package.replace('/', "-");
    let (overlaid, built) = (folder.join(format!("{name}.json")), folder.join(&name));
    std::fs::write(&overlaid, overlay()).expect("written");
    let mut go = Command::new(program("go", "golang-go"));
    go.args(["test", "-c", "-vet=off", "-overlay"])
        .arg(&overlaid)
        .arg("-o")
        .arg(&built)
        .arg(format!("go.etcd.io/etcd/{package}"))
        .env("GO111MODULE", "off")
        .env("GOPATH", GOPATH)
        .env("GOFLAGS", "")
        .env("GOCACHE", folder.join("cache"));
    prepare(
        &mut go,
        "this needs Debian's sources of etcd: apt-get install golang-go golang-etcd-server-dev",
    );
    built
}

/// Runs some tests of a package in one process. Returns how each ended, and what was said.
fn run(built: &Path, kind: Kind, names: &[&str]) -> (BTreeMap<String, Outcome>, String) {
    let (server, variables) = kind.program();
    let mut tests = Command::new(built);
    tests
        .args(["-test.v", "-test.timeout", "10m", "-test.run"])
        .arg(pattern(names))
        .env("SERVER", server)
        .stdin(Stdio::null());
    for (name, value) in variables {
        // The tests themselves know the right time.
        tests.env(format!("SERVER_{name}"), value);
    }
    let output = tests.output().expect("the tests start");
    let said = said_by(&output);
    let lines = said.lines();
    let ended = lines.filter_map(|line| {
        let (outcome, rest) = match line.strip_prefix("--- PASS: ") {
            Some(rest) => (Outcome::Passed, rest),
            None => (Outcome::Failed, line.strip_prefix("--- FAIL: ")?),
        };
        Some((rest.split(' ').next()?.to_owned(), outcome))
    });
    (ended.collect(), said)
}

/// Runs the listed tests of a package.
fn check(package: &str, list: &'static str, kind: Kind) {
    let list = List::read(list);
    let built = build(package);
    let (mut ended, mut said) = run(&built, kind, &list.expected(kind, Outcome::Passed));
    // A test that fails may end its process, or wait until the end of it.
    for name in list.expected(kind, Outcome::Failed) {
        let (alone, told) = run(&built, kind, &[name]);
        let outcome = alone.get(name).copied().unwrap_or(Outcome::Failed);
        ended.insert(name.to_owned(), outcome);
        said.push_str(&told);
    }
    list.check(kind, &ended, &said);
}

#[test]
fn the_recipes_of_the_go_client_pass_their_tests() {
    check("clientv3/concurrency", "go/concurrency.txt", Kind::Turnlock);
}

#[test]
fn the_go_client_passes_its_tests() {
    check("clientv3/integration", "go/client.txt", Kind::Turnlock);
}

#[test]
fn the_tests_of_etcds_services_pass() {
    check("integration", "go/services.txt", Kind::Turnlock);
}

#[test]
#[ignore = "takes five minutes: for changes of the lists"]
fn the_lists_for_go_say_what_etcd_does() {
    check("clientv3/concurrency", "go/concurrency.txt", Kind::Etcd);
    check("clientv3/integration", "go/client.txt", Kind::Etcd);
    check("integration", "go/services.txt", Kind::Etcd);
}
