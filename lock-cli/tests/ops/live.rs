//! A holder stands still: its margin is seen to fall, its loss is counted, and somebody is paged.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use testkit::fixtures::free_port;

use super::support::{Home, Running, eventually, signal};
use super::{holder, http, read, root};

const REMAINING: &str = "turnlock_server_lease_remaining_ratio";

/// Starts a program, which says why it fails.
fn start(program: &str, package: &str, args: &[String]) -> Running {
    let child = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn();
    Running::of(child.unwrap_or_else(|error| {
        panic!("{program}: {error}; it comes with: apt-get install {package}")
    }))
}

/// Starts Alertmanager with the configuration of `ops/`, but without its pauses, and with PagerDuty
/// at this port.
fn start_alertmanager(folder: &Path, pagerduty: u16, port: u16) -> Running {
    let mut config = read("ops/alertmanager.yaml");
    for key in ["page", "ticket"] {
        let path = folder.join(format!("{key}.key"));
        fs::write(&path, format!("key-of-{key}")).expect("written");
        let installed = format!("/etc/prometheus/turnlock-{key}.key");
        assert!(config.contains(&installed), "{config}");
        config = config.replace(&installed, &path.display().to_string());
    }
    assert!(config.contains("group_wait: 15s"), "{config}");
    config = config.replace("group_wait: 15s", "group_wait: 1s");
    let global = format!("global: {{pagerduty_url: 'http://127.0.0.1:{pagerduty}/v2/enqueue'}}\n");
    let file = folder.join("alertmanager.yaml");
    fs::write(&file, global + &config).expect("written");
    let args = [
        format!("--config.file={}", file.display()),
        format!("--storage.path={}", folder.join("alertmanager").display()),
        format!("--web.listen-address=127.0.0.1:{port}"),
        "--cluster.listen-address=".to_owned(),
        "--log.level=error".to_owned(),
    ];
    start("prometheus-alertmanager", "prometheus-alertmanager", &args)
}

/// Starts Prometheus with the rules of `ops/`. It scrapes the server and the holder each second.
fn start_prometheus(
    folder: &Path,
    alertmanager: u16,
    jobs: [(&str, u16); 2],
    port: u16,
) -> Running {
    let job = |(name, port): (&str, u16)| {
        format!("  - {{job_name: {name}, static_configs: [{{targets: ['127.0.0.1:{port}']}}]}}\n")
    };
    let config = format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}\n\
         rule_files: ['{}']\n\
         alerting: {{alertmanagers: [{{static_configs: [{{targets: ['127.0.0.1:{alertmanager}']}}]}}]}}\n\
         scrape_configs:\n{}",
        root().join("ops/alerts.yaml").display(),
        jobs.map(job).concat(),
    );
    let file = folder.join("prometheus.yaml");
    fs::write(&file, config).expect("written");
    let args = [
        format!("--config.file={}", file.display()),
        format!(
            "--storage.tsdb.path={}",
            folder.join("prometheus").display()
        ),
        format!("--web.listen-address=127.0.0.1:{port}"),
        "--log.level=error".to_owned(),
    ];
    start("prometheus", "prometheus", &args)
}

/// Returns the value that Prometheus finds for an expression without blanks.
fn query(prometheus: u16, expression: &str) -> Option<f64> {
    let answer = http::get(prometheus, &format!("/api/v1/query?query={expression}")).ok()?;
    let answer: serde_json::Value = serde_json::from_str(&answer).ok()?;
    answer["data"]["result"][0]["value"][1]
        .as_str()?
        .parse()
        .ok()
}

pub fn a_stopped_holder_is_seen_and_its_loss_is_paged() {
    let home = Home::new();
    let ports: [u16; 5] = std::array::from_fn(|_| free_port());
    let [grpc, server, app, alertmanager, prometheus] = ports;
    let (pagerduty, pages) = http::stand_in_for_pagerduty();
    let _server = home.spawn(&[
        "serve",
        "--listen",
        &format!("127.0.0.1:{grpc}"),
        "--metrics-listen",
        &format!("127.0.0.1:{server}"),
    ]);
    eventually("the coordinator is ready", || {
        http::get(server, "/readyz").is_ok_and(|answer| answer == "ok\n")
    });
    let held = holder::start(&format!("etcd://127.0.0.1:{grpc}"), app);
    eventually("the lock is held", || {
        let scrape = http::get(app, "/metrics").unwrap_or_default();
        http::value(&scrape, "turnlock_held{mode=\"exclusive\"}") == Some(1.0)
    });
    let folder = home.path().to_path_buf();
    let _alertmanager = start_alertmanager(&folder, pagerduty, alertmanager);
    let jobs = [("turnlock", server), ("app", app)];
    let _prometheus = start_prometheus(&folder, alertmanager, jobs, prometheus);
    let losses = "count_over_time(turnlock_holds_lost_total{reason=\"expired\"}[5m])";
    eventually("Prometheus has seen the series at 0 more than once", || {
        query(prometheus, losses).is_some_and(|count| count > 2.0)
    });

    signal(held.id(), Signal::STOP);
    let mut margins = Vec::new();
    eventually("the lease of the stopped holder runs out", || {
        let scrape = http::get(server, "/metrics").expect("the server is not stopped");
        match http::value(&scrape, REMAINING) {
            Some(margin) => {
                margins.push(margin);
                std::thread::sleep(Duration::from_millis(100));
                false
            }
            None => true,
        }
    });
    // A renewal may have been on its way when it was stopped.
    let from = margins.len().min(3);
    let falls = margins[from..].windows(2).all(|pair| pair[1] < pair[0]);
    assert!(falls && margins.len() > 5, "{margins:?}");
    assert!(
        margins.last().is_some_and(|last| *last < 0.3),
        "{margins:?}"
    );
    let scrape = http::get(server, "/metrics").expect("an answer");
    let expired = http::value(&scrape, "turnlock_server_leases_expired_total");
    assert_eq!(expired, Some(1.0));

    signal(held.id(), Signal::CONT);
    let lost = |reason: &str| {
        let scrape = http::get(app, "/metrics").unwrap_or_default();
        let series = format!("turnlock_holds_lost_total{{reason=\"{reason}\"}}");
        http::value(&scrape, &series).unwrap_or(0.0)
    };
    eventually("the loss is counted", || lost("expired") == 1.0);
    for other in ["closed", "entry_gone", "session_gone", "store_gone"] {
        assert_eq!(lost(other), 0.0, "{other}");
    }
    eventually("somebody is paged", || {
        let pages = pages.lock().expect("no panic");
        pages
            .iter()
            .any(|page| page["payload"]["class"] == "TurnlockHoldsLost")
    });
    let pages = pages.lock().expect("no panic");
    let is_of_loss = |page: &&serde_json::Value| page["payload"]["class"] == "TurnlockHoldsLost";
    let page = pages.iter().find(is_of_loss).expect("the page");
    assert_eq!(page["event_action"], "trigger");
    assert_eq!(page["routing_key"], "key-of-ticket");
    assert_eq!(page["payload"]["severity"], "warning");
    let summary = page["payload"]["summary"].as_str().unwrap_or_default();
    assert!(
        summary.ends_with("has lost locks that it held: expired"),
        "{summary}"
    );
    let runbook = page["payload"]["custom_details"]["runbook"].as_str();
    assert_eq!(runbook, Some("docs/runbooks/TurnlockHoldsLost.md"));
}
