//! Tests a crate outside of the workspace that depends on the crates as they are packaged. The
//! crate selects each backend by its feature, takes a lock, runs a part of the suite, and measures
//! a load.
//!
//! The packages are unpacked below `target/consumer`. The dependencies that they share with the
//! workspace are not built again.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use testkit::fixtures::etcd::Node;
use testkit::fixtures::zk::{Ensemble, Settings};

const PROGRAM: &str = include_str!("program.rs");
/// The crates that are not published.
const UNPUBLISHED: [&str; 4] = ["benches", "models", "simulation", "testkit"];

const MANIFEST: &str = r#"[package]
name = "consumer"
version = "0.0.0"
edition = "2024"
publish = false

[features]
embedded = ["turnlock/embedded", "load/embedded"]
etcd = ["turnlock/etcd", "load/etcd"]
zk = ["turnlock/zk", "load/zk"]

[dependencies]
conformance = { version = "*", default-features = false }
load = { version = "*", default-features = false }
turnlock = { version = "*", default-features = false }

# As in the workspace, so that what both need is built once.
[profile.dev]
debug = "line-tables-only"

[workspace]
members = ["packages/*"]

[patch.crates-io]
"#;

fn root() -> &'static Path {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    folder.parent().unwrap_or(folder)
}

fn run(command: &mut Command) -> String {
    let output = command.output().expect("the program starts");
    let printed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {printed}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn cargo(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO"));
    command
        .args(arguments)
        .args(["--quiet", "--offline"])
        .current_dir(folder)
        .env("PROTOC", root().join("tools/protoc"))
        .env("CARGO_BUILD_BUILD_DIR", root().join("target"));
    command
}

/// Packages all crates that are published, and unpacks the packages into a workspace of their own.
fn unpack(folder: &Path) {
    let _ = fs::remove_dir_all(folder.join("packages"));
    let _ = fs::remove_dir_all(folder.join("made/package"));
    fs::create_dir_all(folder.join("packages")).expect("a folder");
    fs::create_dir_all(folder.join("src")).expect("a folder");
    let mut package = cargo(
        root(),
        &["package", "--workspace", "--no-verify", "--allow-dirty"],
    );
    for name in UNPUBLISHED {
        package.args(["--exclude", name]);
    }
    run(package.arg("--target-dir").arg(folder.join("made")));
    let made = fs::read_dir(folder.join("made/package")).expect("the packages");
    let mut archives: Vec<PathBuf> = made.map(|file| file.expect("a file").path()).collect();
    archives.retain(|path| {
        path.extension()
            .is_some_and(|extension| extension == "crate")
    });
    assert!(archives.len() >= 10, "{archives:?}");

    let mut manifest = MANIFEST.to_owned();
    for archive in archives {
        let unpacking = ["-x", "-z", "-f"];
        let packages = folder.join("packages");
        run(Command::new("tar")
            .args(unpacking)
            .arg(&archive)
            .arg("-C")
            .arg(&packages));
        let stem = archive.file_stem().expect("a name").to_string_lossy();
        let (name, _) = stem.rsplit_once('-').expect("a version");
        manifest.push_str(&format!("{name} = {{ path = \"packages/{stem}\" }}\n"));
    }
    fs::write(folder.join("Cargo.toml"), manifest).expect("writable");
    fs::write(folder.join("src/main.rs"), PROGRAM).expect("writable");
    // The dependencies have the same versions as in the workspace.
    fs::copy(root().join("Cargo.lock"), folder.join("Cargo.lock")).expect("copied");
}

/// Builds the program with one backend, and runs it on a coordinator.
fn consume(folder: &Path, feature: &str, url: &str) {
    let mut program = cargo(
        folder,
        &["run", "--package", "consumer", "--features", feature],
    );
    let printed = run(program.args(["--", url]));
    let lines: Vec<&str> = printed.lines().collect();
    let [token, suite, bench] = lines[..] else {
        panic!("{feature}: {printed}");
    };
    let number = |line: &str, word: &str| -> u64 {
        let rest = line.strip_prefix(word).unwrap_or_default().trim_start();
        let number = rest
            .split(' ')
            .next()
            .and_then(|number| number.parse().ok());
        number.unwrap_or_else(|| panic!("{feature}: {line}"))
    };
    assert!(number(token, "token") > 0);
    assert!(number(suite, "suite") > 15, "{suite}");
    assert!(number(bench, "bench") > 0);
}

#[test]
fn the_packages_build_and_a_feature_selects_each_backend() {
    let folder = root().join("target/consumer");
    unpack(&folder);
    run(&mut cargo(
        &folder,
        &["check", "--workspace", "--all-features"],
    ));

    consume(&folder, "embedded", "embedded:memory");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let node = runtime.block_on(Node::start());
    consume(&folder, "etcd", &format!("etcd://{}", node.address()));
    let ensemble = Ensemble::start(Settings::default());
    consume(&folder, "zk", &ensemble.url());
}
