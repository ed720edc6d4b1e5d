//! Pythons with packages of PyPI.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{program, text};

/// Returns a Python that can import a module of the last of these packages, in a virtual environment.
/// It is made once and kept in cargo's target folder.
pub fn python_with(packages: &[&str], module: &str) -> PathBuf {
    let package = packages.join(" ");
    // A version may have signs that a path must not have: `1769699379!11.6.0`.
    let name = package.replace(['!', '=', ' '], "-");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let python = folder.join("bin").join("python");
    let import = format!("import {module}");
    let can_import = || {
        let imported = Command::new(&python).args(["-c", &import]).output();
        imported.is_ok_and(|output| output.status.success())
    };
    if !can_import() {
        let run = |command: &mut Command, remedy: &str| {
            let output = command.output().expect("it starts");
            assert!(output.status.success(), "{}{remedy}", text(&output.stderr));
        };
        run(
            Command::new(program("python3", "python3"))
                .args(["-m", "venv", "--clear"])
                .arg(&folder),
            "no virtual environment: apt-get install python3-venv",
        );
        run(
            Command::new(&python)
                .args(["-m", "pip", "install", "--quiet"])
                .args(packages),
            &format!("{package} comes from PyPI: this test needs to reach it once"),
        );
    }
    python
}
