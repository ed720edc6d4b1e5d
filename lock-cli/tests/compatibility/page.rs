//! The page about compatibility.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use prost_reflect::DescriptorPool;
use testkit::etcd_protos;

use crate::probe::{Probe, Verdict, short};

const INTRODUCTION: &str = "\
# What `turnlock serve` does of etcd's API

This page is made by `lock-cli/tests/compatibility`, which sends the same requests to `turnlock serve` and to etcd
3.4, and compares the answers. *As etcd* means the same answers; *limited*, different answers; *refused*, the status
`UNIMPLEMENTED` with the name of the method. The methods and fields are those of etcd 3.7. Methods that are served are
listed with their request fields.

| Method or field | Here | Difference |
|---|---|---|
";

const CLIENTS: &str = "
## Tests of other clients

These clients run their own tests against `turnlock serve`, in `lock-cli/tests/foreign_clients`. The lists there name
the tests that are run, their outcomes on etcd 3.4 beside ours, and the reason of each failure. Go's tests that need
several servers, or a server within the process, are left out. A new store numbers its changes from the present time,
and these tests expect them from 1. So they get a server whose clock makes it begin with 1.

| Tests | pass on etcd | pass here |
|---|---|---|
";

/// The lists of tests, and what they are of.
const LISTS: [(&str, &str); 6] = [
    ("etcd_client.txt", "`etcd-client` 0.21.1 (Rust), its own"),
    (
        "go/client.txt",
        "etcd's Go client 3.4, `clientv3/integration`",
    ),
    ("go/concurrency.txt", "its recipes, `clientv3/concurrency`"),
    ("go/services.txt", "etcd's services, `integration`"),
    ("python.txt", "`aetcd` 1.0.0 (Python), its own"),
    (
        "node/uses.txt",
        "`etcd3` 1.1.2 (Node), what its documentation shows",
    ),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Returns the rows of a method, with those of its fields that were not listed before.
fn write_rows(pool: &DescriptorPool, rows: &[Probe]) -> String {
    let mut text = String::new();
    let mut left: Vec<_> = rows.iter().collect();
    let mut write = |name: &str, label: &str| {
        let Some(at) = left.iter().position(|row| row.name == name) else {
            return;
        };
        let row = left.remove(at);
        let (verdict, reason) = (row.verdict.text(), row.reason);
        writeln!(text, "| {label} | {verdict} | {reason} |").expect("it is a text");
    };
    for method in etcd_protos::methods(pool) {
        let name = short(method.full_name());
        write(&name, &format!("**{name}**"));
        let refused = |row: &Probe| row.name == name && row.verdict == Verdict::Refused;
        if rows.iter().any(refused) {
            continue;
        }
        let mut fields = std::collections::BTreeSet::new();
        crate::collect_fields(&method.input(), &mut fields);
        // In the order of the rows, which is that of the protos.
        for row in rows.iter().filter(|row| fields.contains(row.name)) {
            write(row.name, &format!("`{}`", row.name));
        }
    }
    text
}

fn write_lists() -> String {
    let mut text = String::new();
    for (list, label) in LISTS {
        let path = root().join("lock-cli/tests/foreign_clients").join(list);
        let list = std::fs::read_to_string(path).expect("a list");
        let rows = list.lines().filter(|line| !line.starts_with('#'));
        let cells = rows.map(|row| row.split('|').map(str::trim).collect::<Vec<_>>());
        let passed: Vec<_> = cells
            .map(|cells| [cells[1] == "passed", cells[2] == "passed"])
            .collect();
        let [etcd, ours] = [0, 1].map(|at| passed.iter().filter(|row| row[at]).count());
        let all = passed.len();
        writeln!(text, "| {label} | {etcd} of {all} | {ours} of {all} |").expect("it is a text");
    }
    text
}

/// Compares the page with the rows, or writes it.
pub fn check(pool: &DescriptorPool, rows: &[Probe]) {
    const PAGE: &str = "docs/etcd-compatibility.md";
    let page = [
        INTRODUCTION,
        &write_rows(pool, rows),
        CLIENTS,
        &write_lists(),
    ]
    .concat();
    if std::env::var_os("UPDATE_PAGES").is_some() {
        std::fs::write(root().join(PAGE), page).expect("the page is written");
        return;
    }
    let text = std::fs::read_to_string(root().join(PAGE)).unwrap_or_default();
    assert!(
        text == page,
        "{PAGE} is out of date: run this test with UPDATE_PAGES=1"
    );
}
