//! Tests `turnlock bench`.

mod support;

use std::os::unix::process::ExitStatusExt;

use support::{Home, code, eventually, text};

fn json(line: &str) -> serde_json::Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"))
}

#[test]
fn a_measurement_is_one_line_of_json_and_leaves_nothing_behind() {
    let home = Home::new();
    let command = "bench --workload contended --workers 4 --seconds 0.3 --json";
    let output = home.run(&command.split(' ').collect::<Vec<_>>());
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    let printed = text(&output.stdout);
    assert_eq!(printed.lines().count(), 1, "{printed}");
    let line = json(&printed);
    assert_eq!(line["peer"], "served");
    assert_eq!(line["workload"], "contended");
    assert_eq!(line["workers"], 4);
    let figure = |name: &str| {
        line[name]
            .as_f64()
            .unwrap_or_else(|| panic!("no {name}: {line}"))
    };
    assert!(figure("seconds") >= 0.3);
    let rate = figure("ops") / figure("seconds");
    assert!((figure("ops_per_s") / rate - 1.0).abs() < 0.02, "{line}");
    assert!(figure("p50_us") > 0.0 && figure("p50_us") <= figure("p99_us"));
    assert_eq!(text(&home.run(&["ls", "--json"]).stdout), "");
}

#[test]
fn interrupted_it_leaves_nothing_behind_either() {
    let home = Home::new();
    let command = "bench --workload drain --workers 8 --seconds 3600";
    let running = home.spawn(&command.split(' ').collect::<Vec<_>>());
    eventually("the workers queue", || {
        text(&home.run(&["ls"]).stdout).contains("turnlock-bench/")
    });
    support::signal(running.id(), rustix::process::Signal::INT);
    let output = running.wait();
    let signal = rustix::process::Signal::INT.as_raw();
    assert_eq!(
        output.status.signal(),
        Some(signal),
        "{}",
        text(&output.stderr)
    );
    assert_eq!(text(&home.run(&["ls", "--json"]).stdout), "");
}

#[test]
fn a_report_compares_with_the_bare_requests() {
    let home = Home::new();
    let command = "--backend embedded:memory bench --report new/report --rounds 1 --seconds 0.02";
    let output = home.run(&command.split(' ').collect::<Vec<_>>());
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    let printed = text(&output.stdout);
    assert!(
        printed.contains("of raw") && printed.contains("drain"),
        "{printed}"
    );
    let file = |name: &str| {
        let path = home.file("new/report").join(name);
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"))
    };
    assert!(file("report.md").contains("| memory | drain | 500 |"));
    assert!(file("report.svg").contains("memory"));
    let medians = json(&file("report.json"))["medians"].clone();
    let medians = medians.as_array().expect("a list");
    assert!(
        medians
            .iter()
            .all(|row| row["of_raw"].as_f64().is_some_and(|of| of > 0.0)),
        "{medians:?}"
    );
}

#[test]
fn the_limit_is_where_the_latency_breaks_its_bound() {
    let home = Home::new();
    let find = |bound: &str| {
        let command = format!(
            "--backend embedded:memory bench --workload contended --find-limit={bound} --seconds \
             0.05 --json"
        );
        let output = home.run(&command.split(' ').collect::<Vec<_>>());
        assert_eq!(code(&output), 0, "{}", text(&output.stderr));
        let lines: Vec<_> = text(&output.stdout).lines().map(json).collect();
        (
            lines[..lines.len() - 1].to_vec(),
            lines[lines.len() - 1].clone(),
        )
    };
    let (lines, knee) = find("0.0001");
    assert_eq!(lines.len(), 1, "one worker is too slow already: {lines:?}");
    assert_eq!(
        (&knee["within"], &knee["beyond"]),
        (&json("null"), &json("1"))
    );
    let (lines, knee) = find("2");
    let beyond = knee["beyond"]
        .as_u64()
        .expect("thousands on one lock wait for long");
    for line in lines {
        let is_within = line["p99_us"].as_f64().expect("a latency") <= 2000.0;
        if line["workers"].as_u64() == Some(beyond) {
            assert!(!is_within, "{line}");
        }
        if line["workers"] == knee["within"] {
            assert!(is_within, "{line}");
        }
    }
    // No coordinator ends first where all wait for one lock.
    let ends = knee["bottleneck"].as_str().expect("a name");
    assert!(["lock", "process", "machine"].contains(&ends), "{knee}");
    let words =
        "--backend embedded:memory bench --workload uncontended --find-limit=0.0001 --seconds 0.05";
    let output = home.run(&words.split(' ').collect::<Vec<_>>());
    let said = text(&output.stdout);
    let last = said.lines().last().expect("lines");
    assert!(
        last.starts_with("what ends first: ") && last.contains("; "),
        "{said}"
    );
}

#[test]
fn bad_input_names_the_remedy() {
    let home = Home::new();
    for (args, status, said) in [
        ("bench", 64, "--workload"),
        ("bench --workload fast", 64, "give one of raw, uncontended"),
        ("bench --workload raw --workers 0", 64, "1..=16384"),
        ("bench --workload raw --seconds 0", 64, "give more than 0"),
        ("bench --workload raw --report x", 64, "cannot be used with"),
        ("bench --report /proc/x", 74, "/proc/x"),
        ("--backend redis://x bench --workload raw", 78, "redis"),
    ] {
        let output = home.run(&args.split(' ').collect::<Vec<_>>());
        let stderr = text(&output.stderr);
        assert_eq!(code(&output), status, "{args}: {stderr}");
        assert!(stderr.contains(said), "{args}: {stderr}");
    }
}
