//! Tests `turnlock metrics` and `turnlock serve --metrics-listen`.

mod support;

use std::net::TcpListener;
use std::process::Command;

use support::{Home, code, eventually, holder, text};
use testkit::scrape::check_with_promtool;

#[test]
fn the_users_own_coordinator_gives_its_metrics() {
    let home = Home::new();
    let output = home.run(&["metrics"]);
    assert_eq!(code(&output), 69, "{}", text(&output.stderr));
    let said = text(&output.stderr);
    assert!(
        said.contains("metrics.sock") && said.contains("none runs"),
        "{said}"
    );

    let held = holder(&home, &["a"]);
    let url = format!("etcd+unix://{}", home.file("turnlock.sock").display());
    for args in [&["metrics"][..], &["--backend", &url, "metrics"]] {
        let output = home.run(args);
        assert_eq!(code(&output), 0, "{}", text(&output.stderr));
        let metrics = text(&output.stdout);
        assert!(
            metrics.contains("\nturnlock_server_locks{state=\"held\"} 1.0\n"),
            "{metrics}"
        );
        check_with_promtool(&metrics);
    }
    drop(held);
}

#[test]
fn other_coordinators_are_asked_at_their_address() {
    let home = Home::new();
    let output = home.run(&["--backend", "etcd://127.0.0.1:1", "metrics"]);
    assert_eq!(code(&output), 78);
    let said = text(&output.stderr);
    assert!(said.contains("--metrics-listen"), "{said}");
}

#[test]
fn a_taken_port_ends_it_before_a_lock_is_served() {
    let home = Home::new();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("an address").to_string();
    let output = home.run(&["serve", "--metrics-listen", &address]);
    assert_eq!(code(&output), 78);
    let said = text(&output.stderr);
    assert!(said.contains(&address) && said.contains("in use"), "{said}");
    assert!(!said.contains("serving"), "{said}");
    assert!(!home.file("turnlock.sock").exists());
    let output = home.run(&["serve", "--metrics-listen", "nowhere"]);
    assert_eq!(code(&output), 64, "{}", text(&output.stderr));
}

#[test]
fn a_server_can_be_watched_as_an_etcd() {
    let home = Home::new();
    let server = home.spawn(&["serve", "--metrics-etcd-names"]);
    let metrics = || text(&home.run(&["metrics"]).stdout);
    eventually("it serves metrics", || {
        metrics().contains("\netcd_server_has_leader 1.0\n")
    });
    check_with_promtool(&metrics());
    support::signal(server.id(), rustix::process::Signal::TERM);
    assert_eq!(code(&server.wait()), 0);
}

#[test]
fn a_server_answers_at_the_address_that_it_was_given() {
    let home = Home::new();
    let port = testkit::fixtures::free_port();
    let address = format!("127.0.0.1:{port}");
    let server = home.spawn(&["serve", "--metrics-listen", &address]);
    eventually("it answers", || {
        let answer = Command::new("python3")
            .args([
                "-c",
                "import sys, urllib.request as u; print(u.urlopen(sys.argv[1]).read().decode())",
            ])
            .arg(format!("http://{address}/readyz"))
            .output()
            .expect("python3 starts");
        text(&answer.stdout).contains("ok")
    });
    let metrics = text(&home.run(&["metrics"]).stdout);
    assert!(metrics.contains("\nturnlock_server_keys "), "{metrics}");
    assert!(!metrics.contains("etcd_server_"), "{metrics}");
    support::signal(server.id(), rustix::process::Signal::TERM);
    assert_eq!(code(&server.wait()), 0);
    assert!(
        !home.file("metrics.sock").exists(),
        "it is removed at the end"
    );
}
