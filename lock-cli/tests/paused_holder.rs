//! Tests the classic failure as the page in the documentation shows it.

mod support;

use std::path::Path;
use std::process::Command;

use support::{Home, text};

const PAGE: &str = include_str!("../../docs/paused-holder.md");
const SCRIPT: &str = include_str!("../../docs/paused-holder.sh");

/// Returns the block of the page that begins with this line.
fn block(opening: &str) -> &'static str {
    let (_, rest) = PAGE.split_once(opening).expect("the page has the block");
    rest.split_once("```").expect("the block ends").0
}

/// Replaces each token in the text by its distance from the first one.
fn from_the_first(text: &str) -> String {
    let mut first = None;
    let words = text.split_inclusive(|c: char| !c.is_ascii_digit());
    words
        .map(|word| {
            let end = word.find(|c: char| !c.is_ascii_digit());
            let (number, rest) = word.split_at(end.unwrap_or(word.len()));
            match number.parse::<i64>() {
                Ok(token) if number.len() > 9 => {
                    let distance = token - *first.get_or_insert(token);
                    format!("{distance:+}{rest}")
                }
                _ => word.to_owned(),
            }
        })
        .collect()
}

#[test]
fn the_page_shows_the_real_output() {
    assert_eq!(block("```sh\n"), SCRIPT, "the page has the script");
    let home = Home::new();
    let programs = Path::new(env!("CARGO_BIN_EXE_turnlock"))
        .parent()
        .expect("a folder");
    let path = std::env::var("PATH").expect("a path");
    let output = Command::new("sh")
        .args(["-c", SCRIPT])
        .env("PATH", format!("{}:{path}", programs.display()))
        .env("TURNLOCK_HOME", home.path())
        .env("SHELL", "/bin/sh")
        .env_remove("TURNLOCK_BACKEND")
        .current_dir(home.path())
        .output()
        .expect("sh starts");
    let said = text(&output.stdout);
    // In a fresh coordinator the same steps have tokens in the same distances.
    let shown = said.replace(home.path().to_str().expect("text"), "/srv");
    assert_eq!(
        from_the_first(&shown),
        from_the_first(block("```text\n")),
        "{}",
        text(&output.stderr)
    );
    let (without, with) = said.split_once("--- with a fence").expect("both");
    assert!(without.contains("A has ended:    A, with token"), "{said}");
    assert!(with.contains("A has ended:    B, with token"), "{said}");
}
