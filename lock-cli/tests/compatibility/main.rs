//! Compares the server with a real etcd, method by method and field by field, and keeps the page
//! about it. `UPDATE_PAGES=1` writes the page.

mod answer;
mod page;
mod probe;
mod rows;
mod script;
#[path = "../support/mod.rs"]
mod support;

use std::collections::{BTreeMap, BTreeSet};

use prost_reflect::{DescriptorPool, Kind, MessageDescriptor};
use testkit::etcd_protos;
use testkit::fixtures::etcd::Node;

use self::answer::Answer;
use self::probe::{Probe, Verdict, short};
use self::script::Client;
use self::support::{Home, Server};

/// Adds the fields of a message, and of the messages in it.
fn collect_fields(message: &MessageDescriptor, found: &mut BTreeSet<String>) {
    for field in message.fields() {
        let is_new = found.insert(short(field.full_name()));
        if let (true, Kind::Message(inner)) = (is_new, field.kind()) {
            collect_fields(&inner, found);
        }
    }
}

/// Returns the methods, and the fields of the requests that are not refused as a whole.
fn needed(pool: &DescriptorPool, rows: &[Probe]) -> BTreeSet<String> {
    let refused = |name: &str| {
        let row = rows.iter().find(|row| row.name == name);
        row.is_some_and(|row| row.verdict == Verdict::Refused)
    };
    let mut needed = BTreeSet::new();
    for method in etcd_protos::methods(pool) {
        let name = short(method.full_name());
        if !refused(&name) {
            collect_fields(&method.input(), &mut needed);
        }
        needed.insert(name);
    }
    needed
}

#[tokio::test]
async fn every_method_and_every_field_does_what_the_page_says() {
    let pool = etcd_protos::read_descriptors();
    let rows = rows::all();
    let mut seen = BTreeMap::new();
    for row in &rows {
        *seen.entry(row.name.to_owned()).or_insert(0) += 1;
    }
    let twice: Vec<_> = seen.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "rows that are there twice: {twice:?}");
    let needed = needed(&pool, &rows);
    let there: BTreeSet<_> = seen.into_keys().collect();
    let missing: Vec<_> = needed.difference(&there).collect();
    let unknown: Vec<_> = there.difference(&needed).collect();
    assert!(
        missing.is_empty() && unknown.is_empty(),
        "rows.rs lacks {missing:?}, and has {unknown:?}, which no method needs"
    );

    let etcd = Node::start().await;
    let home = Home::new();
    let server = Server::start(&home);
    let theirs = Client::connect(&etcd.address(), &pool).await;
    let ours = Client::connect(server.address(), &pool).await;
    let mut wrong = Vec::new();
    let beside = rows.iter().filter(|row| !ours.is_about_its_name(row));
    wrong.extend(beside.map(|row| format!("{}: its steps do not use it", row.name)));
    for (number, row) in rows.iter().enumerate() {
        let number = i64::try_from(number).expect("few");
        let (their, our) = tokio::join!(theirs.run(row, number), ours.run(row, number));
        if their.iter().any(Answer::is_cut_short) {
            wrong.push(format!("{}: etcd says less: {their:#?}", row.name));
        }
        let verdict = Verdict::of(&their, &our);
        if verdict != row.verdict {
            let (row, expected) = (row.name, row.verdict);
            wrong.push(format!(
                "{row} is {verdict:?}, not {expected:?}\n  etcd: {their:#?}\n  ours: {our:#?}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    page::check(&pool, &rows);
}
