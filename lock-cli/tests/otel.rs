//! Tests the traces of the command, with a collector in this process: they lead from the job around
//! the command into the program under the lock, and from a waiter to the holder. A collector in
//! trouble changes nothing.

#[path = "support/collector.rs"]
mod collector;
mod support;

use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use collector::{Collector, Exported, find, hex};
use support::{Home, Running, Server, code, eventually, program, text};
use testkit::fixtures::etcd::Node;
use testkit::fixtures::zk::{Ensemble, Settings};

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// A line of a shell that prints its place in a trace.
const PRINT: &str = "echo $TRACEPARENT/$TRACESTATE";

fn traced(home: &Home, url: &str, args: &[impl AsRef<OsStr>]) -> Command {
    let mut command = home.turnlock(&[]);
    command.args(args).env("OTEL_EXPORTER_OTLP_ENDPOINT", url);
    command
}

fn spawn(mut command: Command) -> Running {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    Running::of(command.spawn().expect("turnlock starts"))
}

fn run(command: &mut Command) -> Output {
    command.output().expect("turnlock starts")
}

fn root_of(collector: &Collector, pid: u32) -> Exported {
    collector.wait_for("the span of the command", |span| {
        span.span.name.starts_with("turnlock ") && span.attribute("process.pid") == pid.to_string()
    })
}

/// Has a command hold the lock, and another one wait for it.
fn check_the_link(coordinator: &[&str]) {
    let (home, collector) = (Home::new(), Collector::start());
    let at = |args: &[&str]| {
        let args = coordinator.iter().chain(args).map(|arg| (*arg).to_owned());
        args.collect::<Vec<_>>()
    };
    let script = "touch held; while ! [ -e go ]; do sleep 0.05; done";
    let holding = at(&["run", "jobs/a", "sh", "-c", script]);
    let holder = spawn(traced(&home, &collector.url(), &holding));
    eventually("it holds", || home.file("held").exists());
    let waiter = spawn(traced(
        &home,
        &collector.url(),
        &at(&["run", "jobs/a", "true"]),
    ));
    let queue = at(&["queue", "--json", "jobs/a"]);
    eventually("the other one waits", || {
        text(&run(home.turnlock(&[]).args(&queue)).stdout)
            .lines()
            .count()
            == 2
    });
    // The entry ahead is read after 50 ms.
    std::thread::sleep(Duration::from_secs(2));
    fs::write(home.file("go"), "").expect("written");
    let (holder_pid, waiter_pid) = (holder.id(), waiter.id());
    for ended in [holder.wait(), waiter.wait()] {
        assert_eq!(code(&ended), 0, "{}", text(&ended.stderr));
    }

    let of_holder = root_of(&collector, holder_pid);
    let of_waiter = root_of(&collector, waiter_pid);
    assert_ne!(of_holder.span.trace_id, of_waiter.span.trace_id);
    assert_eq!(of_waiter.service, "turnlock");
    assert_eq!(of_waiter.attribute("process.exit.code"), "0");
    let [held, waited] = [&of_holder, &of_waiter].map(|root| {
        let acquire = collector.in_trace_of(root, "turnlock.acquire");
        assert_eq!(acquire.span.parent_span_id, root.span.span_id);
        assert_eq!(acquire.attribute("turnlock.acquire.outcome"), "granted");
        acquire
    });
    assert_eq!(held.span.links, []);
    let [link] = &waited.span.links[..] else {
        panic!("one link is expected: {waited:?}")
    };
    assert_eq!(link.trace_id, held.span.trace_id);
    assert_eq!(link.span_id, held.span.span_id);
    assert_eq!(find(&link.attributes, "turnlock.link"), "blocker");
    let hold = collector.in_trace_of(&of_holder, "turnlock.hold");
    assert_eq!(hold.span.parent_span_id, held.span.span_id);
    assert_eq!(hold.attribute("turnlock.hold.end"), "released");
    let lasted = hold.span.end_time_unix_nano - hold.span.start_time_unix_nano;
    assert!(lasted >= 2_000_000_000, "{lasted} ns");
}

#[test]
fn a_waiter_links_to_the_holder_on_the_embedded_coordinator() {
    check_the_link(&[]);
}

#[test]
fn a_waiter_links_to_the_holder_on_etcd() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let etcd = runtime.block_on(Node::start());
    check_the_link(&[&format!("--backend=etcd://{}", etcd.address())]);
}

#[test]
fn a_waiter_links_to_the_holder_on_zookeeper() {
    let ensemble = Ensemble::start(Settings::default());
    check_the_link(&[&format!("--backend={}", ensemble.url())]);
}

/// Has a command wait behind entries of strangers, which are put into the queues of these names.
fn check_strangers(coordinator: &[&str], names: [&str; 2], put: impl Fn(&str, &[u8])) {
    let (home, collector) = (Home::new(), Collector::start());
    let evil = "\u{1b}]0;x\u{7}";
    let wrong = serde_json::json!({"owner": format!("ann{evil}"), "traceparent": "00-0-0-01"});
    let huge = serde_json::json!({"owner": evil.repeat(56_000), "traceparent": PARENT});
    for (name, value, says) in [
        (names[0], wrong, "waits for ann\\u{1b}]0;x\\u{7}@"),
        (names[1], huge, "waits for another contender"),
    ] {
        put(name, value.to_string().as_bytes());
        let args = ["--log-level=info", "run", "--raw", "-w", "5", name, "true"];
        let args = [coordinator, &args].concat();
        let waited = spawn(traced(&home, &collector.url(), &args));
        let pid = waited.id();
        let waited = waited.wait();
        let said = text(&waited.stderr);
        assert_eq!(code(&waited), 75, "{said}");
        assert!(said.contains(says), "{said}");
        let is_control = |c: char| c.is_control() && c != '\n';
        assert!(!said.contains(is_control), "{said:?}");
        let root = root_of(&collector, pid);
        assert!(root.span.parent_span_id.is_empty());
        let acquire = collector.in_trace_of(&root, "turnlock.acquire");
        assert_eq!(acquire.attribute("turnlock.acquire.outcome"), "timeout");
        assert_eq!(acquire.span.links, []);
    }
}

/// Puts a value of a megabyte, which is too long for an argument.
fn put_by_etcdctl(address: &str, name: &str, value: &[u8]) {
    let mut etcdctl = Command::new(program("etcdctl", "etcd-client"))
        .args(["--endpoints", address, "put", &format!("{name}/write/1")])
        .env("ETCDCTL_API", "3")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("it starts");
    let mut stdin = etcdctl.stdin.take().expect("piped");
    stdin.write_all(value).expect("it reads");
    drop(stdin);
    assert!(etcdctl.wait().expect("a child of ours").success());
}

#[test]
fn what_strangers_say_does_no_harm_on_the_embedded_coordinator() {
    let home = Home::new();
    let server = Server::start(&home);
    let put = |name: &str, value: &[u8]| put_by_etcdctl(server.address(), name, value);
    check_strangers(&["--backend", &server.url()], ["a", "b"], put);
    assert!(server.stop().status.success());
}

#[test]
fn what_strangers_say_does_no_harm_on_etcd() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let etcd = runtime.block_on(Node::start());
    let url = format!("--backend=etcd://{}", etcd.address());
    let put = |name: &str, value: &[u8]| put_by_etcdctl(&etcd.address(), name, value);
    check_strangers(&[&url], ["a", "b"], put);
}

#[test]
fn what_strangers_say_does_no_harm_on_zookeeper() {
    let ensemble = Ensemble::start(Settings::default());
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let put = |name: &str, value: &[u8]| {
        runtime.block_on(async {
            let client = zookeeper_client::Client::connect(&ensemble.connection_string()).await;
            let client = client.expect("it serves");
            let options = zookeeper_client::CreateMode::Persistent
                .with_acls(zookeeper_client::Acls::anyone_all());
            let made = client.create(name, b"", &options).await;
            made.expect("it is new");
            let node = format!("{name}/_c_6c70f95c-3f5b-4b9b-a3f2-d26c6ad5a0a9-lock-0000000000");
            let made = client.create(&node, value, &options).await;
            made.expect("there is room");
        });
    };
    let url = format!("--backend={}", ensemble.url());
    check_strangers(&[&url], ["/a", "/b"], put);
}

#[test]
fn one_trace_leads_through_the_command_into_the_program() {
    let (home, collector) = (Home::new(), Collector::start());
    let inner = env!("CARGO_BIN_EXE_turnlock");
    let args = ["run", "outer", inner, "run", "inner", "sh", "-c", PRINT];
    let output = run(traced(&home, &collector.url(), &args)
        .env("TRACEPARENT", PARENT)
        .env("TRACESTATE", "vendor=1"));
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    let is_root = |parent: Vec<u8>| {
        move |span: &Exported| {
            span.span.name == "turnlock run" && span.span.parent_span_id == parent
        }
    };
    let parent = u64::from_str_radix("00f067aa0ba902b7", 16).expect("a number");
    let outer = collector.wait_for("the outer run", is_root(parent.to_be_bytes().to_vec()));
    let inner = collector.wait_for("the inner run", is_root(outer.span.span_id.clone()));
    assert_eq!(
        text(&output.stdout),
        format!("{}/vendor=1\n", inner.traceparent())
    );
    let spans = collector.spans();
    assert!(
        spans.len() >= 8,
        "two runs, acquires, holds, releases: {spans:?}"
    );
    for span in &spans {
        let trace = hex(&span.span.trace_id);
        assert_eq!(trace, "4bf92f3577b34da6a3ce929d0e0e4736", "{span:?}");
    }
}

#[test]
fn a_position_that_breaks_the_rules_or_is_not_sampled_makes_no_parent_and_no_spans() {
    let (home, collector) = (Home::new(), Collector::start());
    let args = ["run", "a", "sh", "-c", PRINT];
    let wrong = PARENT.to_uppercase();
    let output = run(traced(&home, &collector.url(), &args)
        .env("TRACEPARENT", &wrong)
        .env("TRACESTATE", "vendor=1"));
    let root = collector.wait_for("the run", |span| span.span.name == "turnlock run");
    assert!(root.span.parent_span_id.is_empty());
    assert_eq!(text(&output.stdout), format!("{}/\n", root.traceparent()));

    let before = collector.spans().len();
    let unsampled = PARENT.replace("b7-01", "b7-00");
    let output = run(traced(&home, &collector.url(), &args).env("TRACEPARENT", &unsampled));
    let printed = text(&output.stdout);
    assert_eq!(printed[..36], PARENT[..36], "in the trace: {printed}");
    assert!(printed.ends_with("-00/\n"), "{printed}");
    // It ended after it had sent whatever it has.
    assert_eq!(collector.spans().len(), before);
}

#[test]
fn without_a_collector_a_position_is_stored_and_passed_on() {
    let home = Home::new();
    let script = format!("{PRINT}; \"$0\" queue --json a");
    let args = [
        "run",
        "a",
        "sh",
        "-c",
        &script,
        env!("CARGO_BIN_EXE_turnlock"),
    ];
    for (position, stored) in [(PARENT, true), ("00-0-0-01", false)] {
        let mut command = home.turnlock(&args);
        let output = run(command.env("TRACEPARENT", position));
        assert_eq!(code(&output), 0, "{}", text(&output.stderr));
        let printed = text(&output.stdout);
        let (first, queue) = printed.split_once('\n').expect("two lines");
        assert_eq!(first, format!("{position}/"));
        let entry: serde_json::Value = serde_json::from_str(queue.trim()).expect("JSON");
        let expected = stored.then_some("4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(entry["trace_id"].as_str(), expected, "{entry}");
    }
    let output = run(home
        .turnlock(&["--log-format=json", "run", "a", "true"])
        .env("TRACEPARENT", PARENT));
    let said = text(&output.stderr);
    assert!(!said.is_empty());
    for line in said.lines() {
        let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
        assert_eq!(line["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(line["correlationId"], "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(line["span_id"], "00f067aa0ba902b7");
    }
}

/// Accepts connections for ever, and does this with each.
fn serve(deal_with: impl Fn(std::net::TcpStream) + Send + Sync + Copy + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || deal_with(stream));
        }
    });
    url
}

#[test]
fn a_collector_in_trouble_changes_no_status_and_costs_a_second_at_most() {
    let home = Home::new();
    // Started before anything is measured.
    assert_eq!(code(&home.run(&["run", "a", "true"])), 0);
    let args = ["run", "a", "sh", "-c", "echo out; exit 7"];
    let measure = |command: &mut Command| {
        let started = Instant::now();
        let output = run(command);
        assert_eq!(code(&output), 7, "{}", text(&output.stderr));
        assert_eq!(
            (text(&output.stdout), text(&output.stderr)),
            ("out\n".into(), String::new())
        );
        started.elapsed()
    };
    let absent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let absent = format!("http://{}", absent.local_addr().expect("bound"));
    let refusing = serve(drop);
    let hanging = serve(|mut stream| {
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let lying = serve(|mut stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let without = (0..5).map(|_| measure(&mut home.turnlock(&args))).max();
    let without = without.expect("five");
    for url in [
        &absent,
        &refusing,
        &hanging,
        &lying,
        "http://192.0.2.1:4317",
    ] {
        let with = measure(&mut traced(&home, url, &args));
        // A second, and as much again as a busy machine may take for the run itself.
        let limit = without + Duration::from_secs(1) + (without * 4).max(Duration::from_secs(3));
        assert!(with < limit, "{url}: {with:?}, and {without:?} without it");
    }
    // The lock is free before the spans are handed over, and a signal ends the command as ever.
    let mut interrupted = spawn(traced(&home, &hanging, &["run", "a", "sleep", "100"]));
    eventually("it holds", || home.queue("a").len() == 1);
    support::signal(interrupted.id(), rustix::process::Signal::TERM);
    eventually("it has ended", || interrupted.ended());
    let ended = interrupted.wait();
    let by = std::os::unix::process::ExitStatusExt::signal(&ended.status);
    assert_eq!(by, Some(15), "{ended:?}");
}

#[test]
fn nothing_is_sent_unless_the_environment_asks_for_it() {
    let (home, collector) = (Home::new(), Collector::start());
    let args = ["run", "a", "true"];
    for (name, value, says) in [
        ("OTEL_SDK_DISABLED", "TRUE", ""),
        ("OTEL_TRACES_EXPORTER", "none", ""),
        (
            "OTEL_EXPORTER_OTLP_PROTOCOL",
            "http/protobuf",
            "by grpc alone",
        ),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "", ""),
        (
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "not a url",
            "no traces are sent",
        ),
    ] {
        let output = run(traced(&home, &collector.url(), &args).env(name, value));
        assert_eq!(code(&output), 0, "{name}={value}");
        let said = text(&output.stderr);
        assert_eq!(said.is_empty(), says.is_empty(), "{name}={value}: {said}");
        assert!(said.contains(says), "{name}={value}: {said}");
    }
    assert_eq!(collector.spans().len(), 0);
    let output = run(traced(&home, &collector.url(), &args)
        .env("OTEL_TRACES_EXPORTER", "otlp")
        .env("OTEL_SERVICE_NAME", "nightly"));
    assert_eq!(code(&output), 0);
    let root = collector.wait_for("the run", |span| span.span.name == "turnlock run");
    assert_eq!(root.service, "nightly");
}
