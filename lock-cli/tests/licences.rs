//! Every crate that goes into a build has a licence that users can live with.

use std::process::Command;

/// SPDX identifiers; one alternative of a crate's `OR`, and every part of its `AND`, must be among
/// them.
const ALLOWED: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Zlib",
];

fn allowed(expression: &str) -> bool {
    // Older crates write a slash for OR; parentheses only ever group alternatives.
    let flat = expression.replace('/', " OR ").replace(['(', ')'], "");
    flat.split(" AND ").all(|part| {
        part.split(" OR ")
            .any(|licence| ALLOWED.contains(&licence.trim()))
    })
}

#[test]
fn all_licences_are_permissive() {
    assert!(allowed("MIT/Apache-2.0") && allowed("(MIT OR Apache-2.0) AND Unicode-3.0"));
    assert!(!allowed("GPL-3.0-only") && !allowed("MIT AND GPL-2.0"));

    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version",
            "1",
            "--all-features",
            "--locked",
            "--offline",
        ])
        .args(["--manifest-path", manifest])
        .output()
        .expect("cargo starts");
    assert!(
        output.status.success(),
        "{}If crates are not here yet, run `cargo fetch --locked`.",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    assert!(
        packages.len() > 50,
        "only {} packages were looked at",
        packages.len()
    );
    for package in packages {
        let licence = package["license"].as_str().unwrap_or("none");
        assert!(
            allowed(licence),
            "{} {} has the licence {licence}",
            package["name"],
            package["version"]
        );
    }
}
