//! Tests that the Debian package installs its files, and that a purge removes them all.
//!
//! It goes into a root folder of its own, with a database of packages of its own, so nothing of
//! this machine changes. Its scripts run as `dpkg` runs them for a folder that is no system of its
//! own yet.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

mod support;
use support::text;

const TURNLOCK: &str = env!("CARGO_BIN_EXE_turnlock");

/// The accounts of a system, which outlive the packages that made them.
const ACCOUNTS: &[&str] = &[
    "etc/.pwd.lock",
    "etc/group",
    "etc/gshadow",
    "etc/passwd",
    "etc/shadow",
];

/// A root folder without packages.
struct Root(TempDir);

impl Root {
    fn new() -> Self {
        let dir = TempDir::new().expect("a temporary folder");
        for folder in ["etc", "var/lib/dpkg/info", "var/lib/dpkg/updates"] {
            fs::create_dir_all(dir.path().join(folder)).expect("a temporary folder");
        }
        for file in ["status", "available"] {
            fs::write(dir.path().join("var/lib/dpkg").join(file), "").expect("a file");
        }
        Root(dir)
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn dpkg(&self, args: &[&str]) {
        let mut command = Command::new("dpkg");
        command
            .arg(format!("--root={}", self.0.path().display()))
            // There is no C library in the root folder, so chroot could run nothing.
            .args(["--force-script-chrootless", "--force-depends"])
            .args(["--force-not-root", "--force-bad-path"])
            .args(args)
            .env("DEBIAN_FRONTEND", "noninteractive");
        succeeds(&mut command);
    }

    /// Returns all files, links and folders, except for those of dpkg's database.
    fn files(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let mut folders = vec![self.0.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).expect("a folder of ours") {
                let path = entry.expect("an entry").path();
                let below = path.strip_prefix(self.0.path()).expect("below the root");
                if below.starts_with("var/lib/dpkg") || below.starts_with("var/log") {
                    continue;
                }
                found.insert(below.to_str().expect("UTF-8").to_owned());
                if path.is_dir() && !path.is_symlink() {
                    folders.push(path);
                }
            }
        }
        found
    }
}

fn succeeds(command: &mut Command) -> Output {
    let output = command.output().expect("the program starts");
    assert!(
        output.status.success(),
        "{command:?}: {}{}",
        text(&output.stdout),
        text(&output.stderr)
    );
    output
}

/// Builds the package of the command that is tested.
fn package(out: &Path) -> PathBuf {
    let output = succeeds(
        Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tools/deb"))
            .args(["--binary", TURNLOCK, "--compression", "none"])
            .arg("--out")
            .arg(out),
    );
    PathBuf::from(text(&output.stdout).trim_end())
}

/// Returns the text of a file that was compressed for the package.
fn unpacked(file: &Path) -> String {
    text(&succeeds(Command::new("gzip").arg("-dc").arg(file)).stdout)
}

#[test]
fn the_package_is_installed_upgraded_removed_and_purged() {
    let out = TempDir::new().expect("a temporary folder");
    let package = package(out.path());
    let package = package.to_str().expect("UTF-8");
    let root = Root::new();
    let before = root.files();

    root.dpkg(&["--install", package]);
    installed(&root);
    root.dpkg(&["--verify", "turnlock"]);
    let installed_files = root.files();
    // An upgrade to the next version does the same.
    root.dpkg(&["--install", package]);
    assert_eq!(root.files(), installed_files);

    // A coordinator of the machine leaves these files, and the decision to use it.
    for folder in [
        "var/lib/turnlock",
        "var/lib/turnlock-shared",
        "etc/turnlock",
        "etc/systemd/system/multi-user.target.wants",
        "etc/systemd/system/sockets.target.wants",
    ] {
        fs::create_dir_all(root.path(folder)).expect("a folder");
    }
    fs::write(root.path("var/lib/turnlock/journal"), "x").expect("a file");
    fs::write(root.path("etc/turnlock/backend"), "x").expect("a file");
    for (target, unit) in [
        ("multi-user", "turnlock.service"),
        ("multi-user", "turnlock-shared.service"),
        ("sockets", "turnlock.socket"),
    ] {
        let enabled = root.path(&format!("etc/systemd/system/{target}.target.wants/{unit}"));
        std::os::unix::fs::symlink(format!("/usr/lib/systemd/system/{unit}"), &enabled)
            .expect("a link");
    }

    root.dpkg(&["--remove", "turnlock"]);
    let left = root.files();
    assert!(
        !left.iter().any(|file| file.starts_with("usr/")),
        "{left:?}"
    );
    assert!(left.contains("var/lib/turnlock/journal"));
    assert!(left.contains("etc/turnlock/backend"));

    root.dpkg(&["--purge", "turnlock"]);
    fs::remove_dir_all(root.path("etc/systemd")).expect("a folder of the test's");
    let left: Vec<_> = root
        .files()
        .difference(&before)
        .filter(|file| !ACCOUNTS.contains(&file.trim_end_matches('-')))
        .cloned()
        .collect();
    assert!(left.is_empty(), "left behind: {left:?}");
}

fn installed(root: &Root) {
    let version = succeeds(Command::new(root.path("usr/bin/turnlock")).arg("--version"));
    assert_eq!(
        text(&version.stdout),
        format!("turnlock {}\n", env!("CARGO_PKG_VERSION"))
    );

    // Shells and `man` find the output of the command where they look for it.
    let said = |args: &[&str]| text(&succeeds(Command::new(TURNLOCK).args(args)).stdout);
    for (shell, file) in [
        ("bash", "usr/share/bash-completion/completions/turnlock"),
        ("zsh", "usr/share/zsh/vendor-completions/_turnlock"),
        ("fish", "usr/share/fish/vendor_completions.d/turnlock.fish"),
    ] {
        let packed = fs::read_to_string(root.path(file)).expect(file);
        assert_eq!(packed, said(&["completions", shell]), "{file}");
    }
    for (args, file) in [
        (&["man"][..], "usr/share/man/man1/turnlock.1.gz"),
        (&["man", "run"], "usr/share/man/man1/turnlock-run.1.gz"),
        (
            &["man", "fence", "check"],
            "usr/share/man/man1/turnlock-fence-check.1.gz",
        ),
    ] {
        assert_eq!(unpacked(&root.path(file)), said(args), "{file}");
    }

    // There is a user for the service, and nobody can log in as that user.
    let line = |file: &str| {
        let accounts = fs::read_to_string(root.path(file)).expect(file);
        let ours = accounts.lines().find(|line| line.starts_with("turnlock:"));
        ours.unwrap_or_else(|| panic!("no turnlock in {file}"))
            .to_owned()
    };
    assert!(line("etc/passwd").ends_with("/nologin"));
    line("etc/group");
    for name in ["turnlock.service", "turnlock-shared.service"] {
        let unit = root.path("usr/lib/systemd/system").join(name);
        let unit = fs::read_to_string(unit).expect("the unit");
        assert!(unit.contains("\nUser=turnlock\n"), "{unit}");
        assert!(unit.contains("ExecStart=/usr/bin/turnlock serve"), "{unit}");
    }
    for file in ["systemd/system/turnlock.socket", "tmpfiles.d/turnlock.conf"] {
        let file = fs::read_to_string(root.path("usr/lib").join(file)).expect(file);
        assert!(file.contains("/run/turnlock"), "{file}");
    }
    // The package has decided nothing for the machine.
    for decision in ["etc/turnlock", "etc/systemd", "var/lib/turnlock"] {
        assert!(!root.path(decision).exists(), "{decision}");
    }

    let doc = |file: &str| root.path("usr/share/doc/turnlock").join(file);
    let copyright = fs::read_to_string(doc("copyright")).expect("a licence");
    assert!(copyright.contains("\n Permission is hereby granted"));
    assert!(!copyright.contains("@MIT@"), "{copyright}");
    let notices = unpacked(&doc("third-party.gz"));
    assert!(notices.contains("\ntokio-1") && notices.contains("Copyright (c) Tokio Contributors"));
    assert!(unpacked(&doc("changelog.gz")).starts_with("# Changelog"));
    let readme = fs::read_to_string(doc("README.md")).expect("a README");
    assert!(readme.contains("](docs/command.md)") && doc("docs/command.md").exists());
}

#[test]
fn an_option_that_does_not_exist_is_refused() {
    let deb = concat!(env!("CARGO_MANIFEST_DIR"), "/../tools/deb");
    let output = Command::new(deb).arg("--nonsense").output().expect("sh");
    assert_eq!(output.status.code(), Some(64));
    assert!(text(&output.stderr).contains("usage: tools/deb"));
}
