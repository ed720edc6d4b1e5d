//! The Node client `etcd3`, used as its documentation shows it.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use crate::list::{List, Outcome};
use crate::server::{Kind, Server};
use crate::support::program;
use crate::{beside, fill_once, prepare, said_by};

const PACKAGE: &str = "etcd3@1.1.2";

fn check(kind: Kind) {
    let folder = fill_once(&PACKAGE.replace('@', "-"), |folder| {
        let mut npm = Command::new(program("npm", "npm"));
        npm.args(["install", "--no-audit", "--no-fund", "--prefix"])
            .arg(folder)
            .arg(PACKAGE);
        prepare(
            &mut npm,
            "the package comes from npm: this test needs to reach it once",
        );
    });
    let server = Server::start(kind);
    let output = Command::new(program("node", "nodejs"))
        .arg("--test-reporter=tap")
        .arg(beside("node/uses.mjs"))
        .env("SERVER", &server.address)
        .env("MODULES", folder.join("node_modules"))
        .stdin(Stdio::null())
        .output()
        .expect("node starts");
    let said = said_by(&output);
    let ended = said.lines().filter_map(|line| {
        let (outcome, rest) = match line.strip_prefix("ok ") {
            Some(rest) => (Outcome::Passed, rest),
            None => (Outcome::Failed, line.strip_prefix("not ok ")?),
        };
        Some((rest.split_once(" - ")?.1.to_owned(), outcome))
    });
    let ended: BTreeMap<_, _> = ended.collect();
    List::read("node/uses.txt").check(kind, &ended, &said);
}

#[test]
fn the_node_client_works_as_documented() {
    check(Kind::Turnlock);
}

#[test]
fn the_list_for_node_says_what_etcd_does() {
    check(Kind::Etcd);
}
