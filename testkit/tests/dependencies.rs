//! Tests that the dependencies keep the rules of `deny.toml`: on licences, on sources, and on the
//! number of versions of each crate. The dependencies must also build with the oldest compiler that
//! the crates promise, and the published command must contain no test fixtures.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

fn root() -> &'static Path {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    folder.parent().unwrap_or(folder)
}

fn cargo(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO"))
        .args(arguments)
        .args(["--locked", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo starts");
    assert!(
        output.status.success(),
        "{}If crates are not here yet, run `cargo fetch --locked`.",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Returns the packages of all features on all systems.
fn packages() -> Vec<Value> {
    let text = cargo(&["metadata", "--format-version", "1", "--all-features"]);
    let metadata: Value = serde_json::from_str(&text).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages").clone();
    assert!(packages.len() > 50, "only {} packages", packages.len());
    packages
}

fn text<'a>(package: &'a Value, field: &str) -> &'a str {
    package[field].as_str().unwrap_or_default()
}

/// Returns the strings of a list in `deny.toml`.
fn rule(section: &str, key: &str) -> BTreeSet<String> {
    let text = std::fs::read_to_string(root().join("deny.toml")).expect("the rules");
    let list = text
        .split_once(&format!("\n[{section}]\n"))
        .and_then(|(_, rest)| rest.split_once(&format!("\n{key} = [")))
        .and_then(|(_, rest)| rest.split_once(']'));
    let (list, _) = list.unwrap_or_else(|| panic!("no {key} in [{section}]"));
    list.split('"')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

fn is_allowed(expression: &str, allowed: &BTreeSet<String>) -> bool {
    // Older crates write a slash for OR; parentheses only ever group alternatives.
    let flat = expression.replace('/', " OR ").replace(['(', ')'], "");
    flat.split(" AND ").all(|part| {
        part.split(" OR ")
            .any(|licence| allowed.contains(licence.trim()))
    })
}

#[test]
fn all_licences_are_permissive() {
    let allowed = rule("licenses", "allow");
    let is_allowed = |expression| is_allowed(expression, &allowed);
    assert!(is_allowed("MIT/Apache-2.0") && is_allowed("(MIT OR Apache-2.0) AND Unicode-3.0"));
    assert!(!is_allowed("GPL-3.0-only") && !is_allowed("MIT AND GPL-2.0"));
    for package in &packages() {
        let licence = package["license"].as_str().unwrap_or("none");
        assert!(
            is_allowed(licence),
            "{} {} has the licence {licence}",
            text(package, "name"),
            text(package, "version")
        );
    }
}

#[test]
fn all_sources_are_the_registry() {
    let allowed = rule("sources", "allow-registry");
    for package in &packages() {
        // A crate of this workspace has no source.
        let Some(source) = package["source"].as_str() else {
            continue;
        };
        let registry = source.strip_prefix("registry+").unwrap_or(source);
        assert!(
            allowed.contains(registry),
            "{} comes from {source}",
            text(package, "name")
        );
    }
}

#[test]
fn every_crate_has_one_version_unless_it_is_listed() {
    let mut versions = BTreeMap::<String, BTreeSet<String>>::new();
    for package in &packages() {
        let name = text(package, "name").to_owned();
        let version = text(package, "version").to_owned();
        versions.entry(name).or_default().insert(version);
    }
    let mut skips = rule("bans", "skip");
    let mut surplus = Vec::new();
    for (name, versions) in versions.iter().filter(|(_, versions)| versions.len() > 1) {
        let left = versions
            .iter()
            .filter(|version| !skips.remove(&format!("{name}@{version}")));
        let left: Vec<_> = left.collect();
        if left.len() > 1 {
            surplus.push(format!("{name}: {left:?}"));
        }
    }
    assert!(surplus.is_empty(), "in more than one version: {surplus:#?}");
    assert!(skips.is_empty(), "listed without need: {skips:?}");
}

/// Parses the first three parts of a version, for comparisons.
fn parse_version(version: &str) -> Vec<u64> {
    let parts = version.split(['.', '-', '+']).map(str::parse);
    let mut number: Vec<u64> = parts.map_while(Result::ok).take(3).collect();
    number.resize(3, 0);
    number
}

#[test]
fn every_dependency_builds_with_the_oldest_promised_compiler() {
    let packages = packages();
    let is_member = |package: &&Value| package["source"].is_null();
    let member = packages.iter().find(is_member).expect("a crate of ours");
    let promised = parse_version(text(member, "rust_version"));
    assert!(promised > vec![1, 80, 0], "{promised:?}");
    for package in &packages {
        let needed = text(package, "rust_version");
        assert!(
            parse_version(needed) <= promised,
            "{} {} needs Rust {needed}",
            text(package, "name"),
            text(package, "version")
        );
    }
}

#[test]
fn the_command_contains_no_test_fixtures_and_one_tls_provider() {
    let tree = cargo(&["tree", "-p", "lock-cli", "-e", "normal", "--prefix", "none"]);
    let crates: BTreeSet<&str> = tree
        .lines()
        .filter_map(|line| line.split(' ').next())
        .collect();
    assert!(crates.contains("turnlock") && crates.contains("conformance"));
    for stranger in [
        "benches",
        "criterion",
        "libtest-mimic",
        "models",
        "rcgen",
        "simulation",
        "testkit",
    ] {
        assert!(
            !crates.contains(stranger),
            "the command contains {stranger}"
        );
    }
    let is_provider = |name: &&&str| ["aws-lc-rs", "ring", "openssl"].contains(*name);
    let providers: Vec<_> = crates.iter().filter(is_provider).collect();
    assert_eq!(providers.len(), 1, "{providers:?}");
}
