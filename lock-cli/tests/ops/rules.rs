//! Tests the files in `ops/` and the runbooks.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use observe_prometheus::prometheus_client::encoding::prometheus_text;
use observe_prometheus::{LockMetrics, Registry};

use tempfile::TempDir;

use super::support::python::python_with;
use super::support::{Home, code, holder, text};
use super::{read, root};

/// Runs a program of the Debian package that has it.
fn run(program: &str, package: &str, args: &[&str]) {
    let output = Command::new(program)
        .args(args)
        .current_dir(root())
        .output();
    let output = output.unwrap_or_else(|error| {
        panic!("{program}: {error}; it comes with: apt-get install {package}")
    });
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", text(&said));
}

/// Returns the names of the alerts.
fn alerts() -> BTreeSet<String> {
    let rules = read("ops/alerts.yaml");
    let names = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "));
    names.map(str::to_owned).collect()
}

pub fn every_alert_fires_and_is_quiet() {
    run(
        "promtool",
        "prometheus",
        &["check", "rules", "ops/alerts.yaml"],
    );
    run(
        "promtool",
        "prometheus",
        &["test", "rules", "ops/alerts_test.yaml"],
    );
    let cases = read("ops/alerts_test.yaml");
    for alert in alerts() {
        let fires = format!("alertname: {alert}\n        exp_alerts:\n          - exp_labels");
        assert!(cases.contains(&fires), "no case in which {alert} fires");
        let quiet = format!("alertname: {alert}, exp_alerts: []");
        assert!(cases.contains(&quiet), "no case in which {alert} is quiet");
    }
}

pub fn every_alert_has_a_runbook() {
    let rules = read("ops/alerts.yaml");
    let folder = fs::read_dir(root().join("docs/runbooks")).expect("the folder");
    let pages = folder.map(|page| page.expect("a page").file_name());
    let pages = pages.map(|page| page.to_string_lossy().trim_end_matches(".md").to_owned());
    // The other pages are for work that is planned.
    let pages: BTreeSet<_> = pages.filter(|page| page.starts_with("Turnlock")).collect();
    let alerts = alerts();
    assert!(alerts.len() > 15, "{alerts:?}");
    assert_eq!(pages, alerts);
    for alert in alerts {
        let url = format!("runbook_url: docs/runbooks/{alert}.md\n");
        assert!(rules.contains(&url), "{alert} does not name its runbook");
        let page = read(&format!("docs/runbooks/{alert}.md"));
        for part in [
            &format!("# {alert}\n")[..],
            "\n## What it means\n",
            "\n## What to do\n",
        ] {
            assert!(page.contains(part), "{alert} has no {part:?}");
        }
    }
}

/// Returns the names of metrics in a text. Prometheus's own are not among them.
fn find_metrics(text: &str) -> BTreeSet<String> {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == ':';
    let words = text.split(|letter| !is_part(letter));
    let is_metric = |word: &&str| {
        let is_ours = word.starts_with("turnlock_") || word.starts_with("grpc_server_");
        is_ours && !word.contains(':') && !word.ends_with('_')
    };
    words.filter(is_metric).map(str::to_owned).collect()
}

pub fn every_metric_that_is_used_exists() {
    let mut registry = Registry::default();
    let metrics = LockMetrics::new();
    metrics.register(&mut registry);
    let _observer = metrics.observer("etcd");
    let mut client = String::new();
    prometheus_text::encode(&mut client, &registry).expect("a string takes any text");
    let home = Home::new();
    let held = holder(&home, &["a"]);
    let output = home.run(&["metrics"]);
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    let mut known = find_metrics(&client);
    known.extend(find_metrics(&text(&output.stdout)));
    // There is none without a session.
    known.insert("turnlock_session_remaining_ratio".to_owned());
    drop(held);
    for file in [
        "ops/alerts.yaml",
        "ops/alerts_test.yaml",
        "ops/dashboard.json",
    ] {
        let used = find_metrics(&read(file));
        assert!(used.len() > 10, "{file}: {used:?}");
        let unknown: Vec<_> = used.difference(&known).collect();
        assert!(
            unknown.is_empty(),
            "{file} uses what nothing exports: {unknown:?}"
        );
    }
    for file in ["docs/observability.md", "docs/operations.md"] {
        for name in find_metrics(&read(file)) {
            let is_known = known.contains(&name) || known.contains(&format!("{name}_bucket"));
            assert!(is_known, "{file} names {name}, which nothing exports");
        }
    }
    let dashboard: serde_json::Value =
        serde_json::from_str(&read("ops/dashboard.json")).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    assert!(panels.len() > 10, "{} panels", panels.len());
}

pub fn the_dashboard_has_grafanas_types() {
    let python = python_with(
        &["grafana-foundation-sdk==1769699998!10.1.0"],
        "grafana_foundation_sdk",
    );
    let script = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/python/dashboard_types.py"
    );
    let check = |file: &Path| {
        let output = Command::new(&python).arg(script).arg(file).output();
        output.expect("it starts")
    };
    let output = check(&root().join("ops/dashboard.json"));
    let said = [&*output.stdout, &*output.stderr].concat();
    assert!(output.status.success(), "{}", text(&said));

    // What Grafana would drop or misread is found.
    let folder = TempDir::new().expect("a temporary folder");
    let spoilt = folder.path().join("dashboard.json");
    let spoils = [
        (r#""unit": "percentunit""#, r#""units": "percentunit""#),
        (r#""editable": true"#, r#""editable": "yes""#),
        (r#""mode": "multi""#, r#""mode": "some""#),
    ];
    for (right, wrong) in spoils {
        let text = read("ops/dashboard.json").replace(right, wrong);
        fs::write(&spoilt, text).expect("written");
        let output = check(&spoilt);
        assert_eq!(code(&output), 1, "{wrong} was not noticed");
    }
}

pub fn alertmanager_takes_its_configuration() {
    let args = ["check-config", "ops/alertmanager.yaml"];
    run("amtool", "prometheus-alertmanager", &args);
}
