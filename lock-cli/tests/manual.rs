//! Tests that `man` can show the manual pages, and that they name the variables that the command
//! reads.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

mod support;
use support::{program, text};

fn turnlock(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_turnlock"))
        .args(args)
        .output()
        .expect("turnlock starts")
}

/// Returns a page as `man` shows it in 80 columns. A complaint of `man` fails the test.
fn rendered(page: &Path) -> String {
    let output = Command::new(program("man", "man-db"))
        .args(["--warnings=w", "--local-file"])
        .arg(page)
        .env("MANWIDTH", "80")
        .env("LC_ALL", "C.UTF-8")
        .output()
        .expect("man starts");
    assert!(output.status.success());
    assert_eq!(text(&output.stderr), "", "{}", page.display());
    text(&output.stdout)
}

#[test]
fn every_command_has_a_page_that_man_shows() {
    let dir = TempDir::new().expect("a temporary folder");
    let pages = dir.path().join("share/man1");
    let output = turnlock(&["man", "--dir", pages.to_str().expect("UTF-8")]);
    assert!(output.status.success(), "{}", text(&output.stderr));

    let names: BTreeSet<_> = fs::read_dir(&pages)
        .expect("the folder was made")
        .map(|entry| entry.expect("an entry").file_name())
        .map(|name| name.into_string().expect("UTF-8"))
        .collect();
    for page in ["turnlock.1", "turnlock-run.1", "turnlock-fence-check.1"] {
        assert!(names.contains(page), "{page} is missing in {names:?}");
    }
    let root = rendered(&pages.join("turnlock.1"));
    for name in &names {
        let shown = rendered(&pages.join(name));
        for section in ["NAME", "SYNOPSIS", "OPTIONS", "EXIT STATUS", "FILES"] {
            let heading = |line: &str| line == section;
            assert!(shown.lines().any(heading), "{name} lacks {section}");
        }
        // The page of the group describes the commands in it.
        let name = name.trim_end_matches(".1");
        let grouped = name.matches('-').count() > 1;
        assert!(grouped || root.contains(name), "turnlock.1 lacks {name}");
    }

    let run = rendered(&pages.join("turnlock-run.1"));
    assert!(run.contains("turnlock run [OPTIONS] NAME -c TEXT"), "{run}");
    assert!(root.contains("\n       turnlock run deploy -c 'echo $TURNLOCK_TOKEN'"));
}

#[test]
fn a_page_is_printed_as_it_is_written() {
    let dir = TempDir::new().expect("a temporary folder");
    let folder = dir.path().to_str().expect("UTF-8");
    assert!(turnlock(&["man", "--dir", folder]).status.success());
    for (args, file) in [
        (&["man"][..], "turnlock.1"),
        (&["man", "fence", "check"], "turnlock-fence-check.1"),
    ] {
        let printed = turnlock(args);
        assert!(printed.status.success(), "{}", text(&printed.stderr));
        let written = fs::read(dir.path().join(file)).expect("the page");
        assert_eq!(text(&printed.stdout), text(&written));
    }
}

#[test]
fn a_page_that_does_not_exist_or_cannot_be_written_is_a_status() {
    let unknown = turnlock(&["man", "fence", "nonsense"]);
    assert_eq!(unknown.status.code(), Some(64));
    let said = text(&unknown.stderr);
    assert!(said.contains("fence nonsense"), "{said}");

    let unwritable = turnlock(&["man", "--dir", "/dev/null/man1"]);
    assert_eq!(unwritable.status.code(), Some(74));
    let said = text(&unwritable.stderr);
    assert!(said.contains("/dev/null/man1"), "{said}");
}

#[test]
fn the_version_is_one_line_unless_all_is_asked_for() {
    let version = format!("turnlock {}\n", env!("CARGO_PKG_VERSION"));
    for flag in ["--version", "-V"] {
        assert_eq!(text(&turnlock(&[flag]).stdout), version);
    }
    let said = text(&turnlock(&["--version", "--verbose"]).stdout);
    assert!(said.starts_with(&version), "{said}");
    for line in ["commit: ", "features: ", "platform: "] {
        assert!(said.contains(line), "{said}");
    }
}

/// Collects the variables that these sources name.
fn variables(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).expect("sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "tests") {
            variables(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let source = fs::read_to_string(&path).expect("UTF-8");
            let words = source.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            found.extend(
                words
                    .filter(|word| word.starts_with("TURNLOCK_"))
                    .map(str::to_owned),
            );
        }
    }
}

#[test]
fn every_variable_of_ours_is_in_the_manual() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut found = BTreeSet::new();
    for part in ["lock-cli", "backend-etcd", "backend-zk", "backend-embedded"] {
        variables(&root.join(part).join("src"), &mut found);
    }
    // This variable is read when the program is built.
    found.remove("TURNLOCK_COMMIT");
    assert!(found.len() > 5, "only {found:?}");
    let page = text(&turnlock(&["man"]).stdout);
    for name in &found {
        assert!(page.contains(name.as_str()), "the manual lacks {name}");
    }
}
