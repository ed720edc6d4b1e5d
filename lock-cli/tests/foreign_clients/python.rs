//! The tests of the Python client `aetcd`, from its source package.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::list::{List, Outcome};
use crate::server::{Kind, Server};
use crate::support::program;
use crate::support::python::python_with;
use crate::{kept, prepare, said_by};

/// The client, and what its tests need in the versions that it names.
const PACKAGES: [&str; 5] = [
    "pytest==9.0.3",
    "pytest-asyncio==1.3.0",
    "pytest-mock==3.15.1",
    "setuptools-scm==8.3.1",
    "aetcd==1.0.0",
];

/// Returns the folder of the sources.
fn fetch(python: &PathBuf) -> PathBuf {
    let folder = kept("aetcd");
    let sources = folder.join("aetcd-1.0.0");
    if !sources.join("tests/integration/test_lock.py").exists() {
        let mut pip = Command::new(python);
        pip.args(["-m", "pip", "download", "--quiet", "--no-deps"])
            .args(["--no-binary", ":all:", "--dest"])
            .arg(&folder)
            .arg("aetcd==1.0.0");
        let remedy = "the package comes from PyPI: this test needs to reach it once";
        prepare(&mut pip, remedy);
        let mut extract = Command::new(python);
        extract
            .args(["-m", "tarfile", "-e"])
            .arg(folder.join("aetcd-1.0.0.tar.gz"))
            .arg(&folder);
        prepare(&mut extract, remedy);
    }
    sources
}

fn check(kind: Kind) {
    program("etcdctl", "etcd-client");
    let python = python_with(&PACKAGES, "aetcd");
    let sources = fetch(&python);
    let server = Server::start(kind);
    let output = Command::new(&python)
        .args(["-m", "pytest", "-v", "--override-ini", "addopts="])
        .args(["-p", "no:cacheprovider", "tests/integration"])
        .current_dir(sources)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("TEST_ETCD_HTTP_URL", format!("http://{}", server.address))
        .stdin(Stdio::null())
        .output()
        .expect("the tests start");
    let said = said_by(&output);
    let mut ended: BTreeMap<String, Outcome> = BTreeMap::new();
    for line in said.lines() {
        let Some(rest) = line.strip_prefix("tests/integration/") else {
            continue;
        };
        let mut words = rest.split(' ');
        let (Some(name), Some(word)) = (words.next(), words.next()) else {
            continue;
        };
        let outcome = match word {
            "PASSED" => Outcome::Passed,
            // Also what comes after a test.
            "FAILED" | "ERROR" => Outcome::Failed,
            _ => continue,
        };
        let worst = ended.entry(name.to_owned()).or_insert(outcome);
        if outcome == Outcome::Failed {
            *worst = Outcome::Failed;
        }
    }
    List::read("python.txt").check(kind, &ended, &said);
}

#[test]
fn the_python_client_passes_its_tests() {
    check(Kind::Turnlock);
}

#[test]
#[ignore = "takes more than a minute: for changes of the list"]
fn the_list_for_python_says_what_etcd_does() {
    check(Kind::Etcd);
}
