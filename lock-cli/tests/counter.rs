//! Tests the main job: several processes change one file.

mod support;

use std::fs;
use std::process::{Command, Stdio};

use support::{Home, lines, text};

const PROCESSES: usize = 8;
const TURNS: usize = 50;

/// Reads the counter, waits, and writes it back plus one. Notes the fencing token.
const INCREMENT: &str =
    r#"n=$(cat counter); sleep 0.002; echo $((n+1)) > counter; echo "$TURNLOCK_TOKEN" >> tokens"#;

fn count(home: &Home, turn: &str) -> usize {
    fs::write(home.file("counter"), "0\n").expect("writable");
    let worker = format!("i=0; while [ $i -lt {TURNS} ]; do {turn} || exit 1; i=$((i+1)); done");
    let workers: Vec<_> = (0..PROCESSES)
        .map(|_| {
            Command::new("sh")
                .args(["-c", &worker])
                .env("TURNLOCK", env!("CARGO_BIN_EXE_turnlock"))
                .env("TURNLOCK_HOME", home.path())
                .env("INCREMENT", INCREMENT)
                .current_dir(home.path())
                .stderr(Stdio::piped())
                .spawn()
                .expect("sh starts")
        })
        .collect();
    for worker in workers {
        let output = worker.wait_with_output().expect("a child of ours");
        assert!(output.status.success(), "{}", text(&output.stderr));
    }
    fs::read_to_string(home.file("counter"))
        .expect("readable")
        .trim()
        .parse()
        .expect("a number")
}

#[test]
fn eight_processes_lose_no_update_under_the_lock_and_lose_some_without() {
    let home = Home::new();
    let counted = count(&home, r#""$TURNLOCK" run counter -- sh -c "$INCREMENT""#);
    assert_eq!(counted, PROCESSES * TURNS);
    let tokens: Vec<u64> = lines(&home.file("tokens"))
        .iter()
        .map(|line| line.parse().expect("a token"))
        .collect();
    assert_eq!(tokens.len(), PROCESSES * TURNS);
    assert!(
        tokens.windows(2).all(|pair| pair[0] < pair[1]),
        "tokens rise: {tokens:?}"
    );

    let counted = count(&home, r#"sh -c "$INCREMENT""#);
    assert!(
        counted < PROCESSES * TURNS,
        "without the lock nothing was lost: this test proves nothing here"
    );
}

#[test]
fn twenty_that_start_at_once_start_one_coordinator() {
    let home = Home::new();
    let all: Vec<_> = (0..20)
        .map(|_| home.spawn(&["run", "first", "--", "sh", "-c", "echo $TURNLOCK_TOKEN"]))
        .collect();
    let mut tokens: Vec<u64> = all
        .into_iter()
        .map(|one| {
            let output = one.wait();
            assert!(output.status.success(), "{}", text(&output.stderr));
            text(&output.stdout).trim().parse().expect("a token")
        })
        .collect();
    tokens.sort_unstable();
    tokens.dedup();
    assert_eq!(tokens.len(), 20);
}
