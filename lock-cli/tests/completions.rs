//! Tests the completions in the shells that they are for.

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

mod support;
use support::{program, text};

const TURNLOCK: &str = env!("CARGO_BIN_EXE_turnlock");

/// Writes the completion script of bash, zsh or fish to a file of this name.
fn script(dir: &Path, shell: &str, name: &str) {
    let output = Command::new(TURNLOCK)
        .args(["completions", shell])
        .output()
        .expect("turnlock starts");
    assert!(output.status.success(), "{}", text(&output.stderr));
    fs::write(dir.join(name), output.stdout).expect("a temporary folder");
}

/// Runs a shell and returns the lines that it prints.
fn run(dir: &Path, shell: &str, args: &[&str]) -> Vec<String> {
    let package = match shell {
        "timeout" => "coreutils",
        _ => shell,
    };
    let output = Command::new(program(shell, package))
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

/// Returns the completions that bash offers at the end of the last word.
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

/// Returns the completions that fish offers at the end of this line.
fn fish(line: &str) -> Vec<String> {
    let dir = TempDir::new().expect("a temporary folder");
    script(dir.path(), "fish", "turnlock.fish");
    let complete = format!("source turnlock.fish; complete --do-complete='{line}'");
    let offered = run(dir.path(), "fish", &["--no-config", "-c", &complete]);
    // A tab and a description follow the word.
    let word = |line: String| line.split('\t').next().unwrap_or_default().to_owned();
    offered.into_iter().map(word).collect()
}

#[test]
fn bash_completes_commands_options_and_values() {
    assert_eq!(bash(&["turnlock", "que"]), ["queue"]);
    assert_eq!(bash(&["turnlock", "run", "--on-"]), ["--on-lost"]);
    let values = bash(&["turnlock", "run", "--on-lost", ""]);
    assert_eq!(values, ["term", "kill", "ignore"]);
    // Readline completes files, not the script.
    assert!(bash(&["turnlock", "write", "site", "index"]).is_empty());
}

#[test]
fn bash_completes_the_command_under_the_lock() {
    let offered = bash(&["turnlock", "run", "a", "--", "base6"]);
    assert!(offered.contains(&"base64".to_owned()), "{offered:?}");
    // An option after `--` belongs to the command, not to turnlock.
    assert!(bash(&["turnlock", "run", "a", "--", "cat", "--on"]).is_empty());
}

#[test]
fn fish_completes_commands_options_and_values() {
    assert_eq!(fish("turnlock que"), ["queue"]);
    assert_eq!(fish("turnlock run --on-"), ["--on-lost"]);
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

/// Returns the line that zsh shows after Tab is pressed at the end of this line, up to the expected
/// text. zsh completes only on a terminal, so a second zsh provides one. It waits for the expected
/// text, and is ended if that never comes.
fn zsh(line: &str, expected: &str) {
    let dir = TempDir::new().expect("a temporary folder");
    script(dir.path(), "zsh", "_turnlock");
    let complete = r#"
        zmodload zsh/zpty
        zpty shell zsh -f -i
        zpty -w shell "fpath=($PWD \$fpath); autoload -Uz compinit; compinit -D -u; print re''ady"
        zpty -r shell said '*ready*'
        zpty -w -n shell $1$'\t'
        zpty -r shell said "*$2*"
        zpty -d shell
    "#;
    let args = ["60", "zsh", "-f", "-c", complete, "zsh", line, expected];
    run(dir.path(), "timeout", &args);
}

#[test]
fn zsh_completes_commands_options_and_values() {
    program("zsh", "zsh");
    zsh("turnlock que", "turnlock queue");
    zsh("turnlock run --on-l", "turnlock run --on-lost");
    zsh("turnlock run --on-lost=ig", "turnlock run --on-lost=ignore");
}

#[test]
fn zsh_completes_the_command_under_the_lock() {
    program("zsh", "zsh");
    zsh("turnlock run a base6", "turnlock run a base64");
    zsh("turnlock run a -- base6", "turnlock run a -- base64");
    zsh("turnlock run a -- nice base6", "run a -- nice base64");
    zsh("turnlock edit a file -- base6", "edit a file -- base64");
}
