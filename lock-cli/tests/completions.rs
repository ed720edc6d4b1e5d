//! The completions work in the shells that they are for.

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

mod support;
use support::{program, text};

const TURNLOCK: &str = env!("CARGO_BIN_EXE_turnlock");

/// What bash, zsh or fish is told, in a file of this name.
fn script(dir: &Path, shell: &str, name: &str) {
    let output = Command::new(TURNLOCK)
        .args(["completions", shell])
        .output()
        .expect("turnlock starts");
    assert!(output.status.success(), "{}", text(&output.stderr));
    fs::write(dir.join(name), output.stdout).expect("a temporary folder");
}

/// What a shell prints.
fn run(dir: &Path, shell: &str, args: &[&str]) -> Vec<String> {
    let output = Command::new(program(shell, shell))
        .args(args)
        .current_dir(dir)
        .env("HOME", dir)
        .env("XDG_CONFIG_HOME", dir)
        .output()
        .expect("the shell starts");
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stderr), "");
    text(&output.stdout).lines().map(str::to_owned).collect()
}

/// What bash offers where the last of these words ends.
fn bash(words: &[&str]) -> Vec<String> {
    let dir = TempDir::new().expect("a temporary folder");
    script(dir.path(), "bash", "turnlock");
    let complete = r#"
        source ./turnlock
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
        read -r -a registered < <(complete -p turnlock)
        for ((i = 0; i < ${#registered[@]}; i++)); do
            [[ ${registered[i]} != -F ]] || function=${registered[i + 1]}
        done
        "$function" turnlock "${COMP_WORDS[-1]}" "${COMP_WORDS[-2]}"
        ((${#COMPREPLY[@]} == 0)) || printf '%s\n' "${COMPREPLY[@]}"
    "#;
    let args = [&["--norc", "-c", complete, "bash"], words].concat();
    run(dir.path(), "bash", &args)
}

/// What fish offers where this line ends.
fn fish(line: &str) -> Vec<String> {
    let dir = TempDir::new().expect("a temporary folder");
    script(dir.path(), "fish", "turnlock.fish");
    let complete = format!("source turnlock.fish; complete --do-complete='{line}'");
    let offered = run(dir.path(), "fish", &["--no-config", "-c", &complete]);
    // A tab and a description follow.
    let word = |line: String| line.split('\t').next().unwrap_or_default().to_owned();
    offered.into_iter().map(word).collect()
}

#[test]
fn bash_completes_commands_options_and_values() {
    assert_eq!(bash(&["turnlock", "que"]), ["queue"]);
    assert_eq!(bash(&["turnlock", "run", "--on"]), ["--on-lost"]);
    let values = bash(&["turnlock", "run", "--on-lost", ""]);
    assert_eq!(values, ["term", "kill", "ignore"]);
    // Files are readline's part.
    assert!(bash(&["turnlock", "write", "site", "index"]).is_empty());
}

#[test]
fn bash_completes_the_command_under_the_lock() {
    let offered = bash(&["turnlock", "run", "a", "--", "base6"]);
    assert!(offered.contains(&"base64".to_owned()), "{offered:?}");
    // An option after `--` is not ours.
    assert!(bash(&["turnlock", "run", "a", "--", "cat", "--on"]).is_empty());
}

#[test]
fn fish_completes_commands_options_and_values() {
    assert_eq!(fish("turnlock que"), ["queue"]);
    assert_eq!(fish("turnlock run --on"), ["--on-lost"]);
    let mut values = fish("turnlock run --on-lost ");
    values.sort();
    assert_eq!(values, ["ignore", "kill", "term"]);
}

#[test]
fn fish_completes_the_command_under_the_lock() {
    let offered = fish("turnlock run a -- base6");
    assert!(offered.contains(&"base64".to_owned()), "{offered:?}");
    assert!(!fish("turnlock run a -- cat --on").contains(&"--on-lost".to_owned()));
}

/// zsh completes only on a terminal, so this asks whether it takes the file for what it is.
#[test]
fn zsh_loads_the_completion_by_itself() {
    let dir = TempDir::new().expect("a temporary folder");
    script(dir.path(), "zsh", "_turnlock");
    let load = r#"
        fpath=($PWD $fpath)
        autoload -Uz compinit
        compinit -D -u
        print -- $_comps[turnlock]
        autoload +X _turnlock
        functions _turnlock | grep -c -- "--on-lost"
    "#;
    let said = run(dir.path(), "zsh", &["-f", "-c", load]);
    assert_eq!(said.first().map(String::as_str), Some("_turnlock"));
    assert_eq!(said.len(), 2, "{said:?}");
}
