//! Compares the public interface of each published library with its `public-api.txt`, so that no
//! change goes unnoticed.
//!
//! After an intended change, run `RENEW_PUBLIC_API=1 cargo test -p testkit --test public_api`, and
//! note the change in CHANGELOG.md.
//!
//! The listings are made from rustdoc's JSON. The crate `public-api` and the compiler have to use
//! the same version of its format.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The crates whose libraries are for other programs. The library of `lock-cli` is for its tests.
const CRATES: [&str; 11] = [
    "backend-embedded",
    "backend-etcd",
    "backend-kit",
    "backend-zk",
    "conformance",
    "load",
    "lock-core",
    "lock-fence",
    "observe-otel",
    "observe-prometheus",
    "turnlock",
];

fn root() -> &'static Path {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    folder.parent().unwrap_or(folder)
}

/// Makes the JSON of all crates, and returns its folder.
fn document() -> PathBuf {
    let folder = root().join("target/public-api");
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .args([
            "doc",
            "--quiet",
            "--locked",
            "--offline",
            "--no-deps",
            "--lib",
            "--all-features",
        ])
        .current_dir(root())
        // The stable compiler lets this script alone use unstable options.
        .env("RUSTDOC", root().join("tools/rustdoc-json"))
        // The dependencies are shared with the other builds.
        .env("CARGO_BUILD_BUILD_DIR", root().join("target"))
        .arg("--target-dir")
        .arg(&folder);
    for name in CRATES {
        cargo.args(["--package", name]);
    }
    let output = cargo.output().expect("cargo starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    folder.join("doc")
}

/// Returns the public items of a crate, one a line.
fn list(json: &Path) -> String {
    let api = public_api::Builder::from_rustdoc_json(json)
        .omit_blanket_impls(true)
        .omit_auto_trait_impls(true)
        .omit_auto_derived_impls(true)
        .build();
    let api = api.unwrap_or_else(|error| {
        panic!(
            "{}: {error}. Take the version of the crate public-api that reads what this compiler \
             writes (testkit/Cargo.toml), or the compiler that the listings were made with: Rust \
             1.95.",
            json.display()
        )
    });
    api.items().map(|item| format!("{item}\n")).collect()
}

/// Returns the lines of one text that the other text lacks.
fn only_in<'a>(text: &'a str, other: &str) -> Vec<&'a str> {
    let other: Vec<&str> = other.lines().collect();
    text.lines().filter(|line| !other.contains(line)).collect()
}

#[test]
fn the_public_interfaces_match_their_listings() {
    let folder = document();
    let renews = std::env::var_os("RENEW_PUBLIC_API").is_some();
    let mut differing = Vec::new();
    for name in CRATES {
        let now = list(&folder.join(format!("{}.json", name.replace('-', "_"))));
        let file = root().join(name).join("public-api.txt");
        if renews {
            fs::write(&file, &now).expect("writable");
            continue;
        }
        let listed = fs::read_to_string(&file).unwrap_or_default();
        if listed != now {
            let (gone, new) = (only_in(&listed, &now), only_in(&now, &listed));
            differing.push(format!("{name}: gone {gone:#?}, new {new:#?}"));
        }
    }
    assert!(
        differing.is_empty(),
        "{}\nIf that is intended, run RENEW_PUBLIC_API=1 cargo test -p testkit --test public_api",
        differing.join("\n")
    );
}
