//! Tests `turnlock snapshot` and `turnlock restore`: a team's coordinator is lost, and comes back.

mod support;

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use backend_embedded::{Config, Coordinator};
use rustix::process::Signal;
use support::{Home, Running, Server, code, eventually, lines, program, signal, text};
use testkit::fixtures::etcd::Node;

fn succeeds(output: &Output) -> String {
    assert_eq!(code(output), 0, "{}", text(&output.stderr));
    text(&output.stdout)
}

fn refused(output: &Output, status: i32, said: &str) {
    let stderr = text(&output.stderr);
    assert_eq!(code(output), status, "{stderr}");
    assert!(stderr.contains(said), "{stderr}");
}

/// Ends a server as a power cut does.
fn kill(server: Server) {
    signal(server.id(), Signal::KILL);
    server.wait();
}

/// Restores a snapshot into this folder of the home.
fn restore(home: &Home, file: &str, folder: &str) -> Output {
    let data = home.file(folder);
    home.run(&["restore", file, "--data", data.to_str().expect("text")])
}

/// A team that writes a fenced file under a lock.
struct Team<'a> {
    home: &'a Home,
    url: String,
}

impl Team<'_> {
    fn run(&self, args: &[&str]) -> Output {
        self.home.run(&[&["--backend", &self.url], args].concat())
    }

    /// Appends the token of a hold to the file. Returns the hold's fencing token.
    fn write(&self) -> Output {
        let script = "echo $TURNLOCK_TOKEN | \"$TURNLOCK\" append ledger file && \
                      echo $TURNLOCK_FENCING_TOKEN";
        let mut command = self.home.turnlock(&["--backend", &self.url]);
        command
            .args(["run", "ledger", "-c", script])
            .env("SHELL", "/bin/sh")
            .env("TURNLOCK", env!("CARGO_BIN_EXE_turnlock"));
        command.output().expect("turnlock starts")
    }

    /// Writes to the file with the token of an earlier hold.
    fn write_late(&self, fencing_token: &str) -> Output {
        let script = "echo late | \"$TURNLOCK\" append ledger file";
        let mut command = std::process::Command::new("/bin/sh");
        command
            .args(["-c", script])
            .env("TURNLOCK", env!("CARGO_BIN_EXE_turnlock"))
            .env("TURNLOCK_BACKEND", &self.url)
            .env("TURNLOCK_NAME", "ledger")
            .env("TURNLOCK_FENCING_TOKEN", fencing_token)
            .current_dir(self.home.path());
        command.output().expect("sh starts")
    }

    /// Takes and releases locks until the file named `end` is there.
    fn load(&self, end: &Path) -> Running {
        let script = "n=0; until [ -e \"$END\" ]; do \
                      n=$((n + 1)); \"$TURNLOCK\" run -q load-$((n % 7)) true || exit 1; done";
        let mut command = std::process::Command::new("/bin/sh");
        command
            .args(["-c", script])
            .env("TURNLOCK", env!("CARGO_BIN_EXE_turnlock"))
            .env("TURNLOCK_BACKEND", &self.url)
            .env("END", end)
            .current_dir(self.home.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Running::of(command.spawn().expect("sh starts"))
    }

    fn tokens(&self) -> Vec<u64> {
        let lines = lines(&self.home.file("file"));
        let tokens = lines.iter().map(|line| line.parse().expect("a token"));
        tokens.collect()
    }
}

#[test]
fn after_a_restore_the_fence_refuses_everything_old_and_nothing_new() {
    let home = Home::new();
    let first = Server::start_with(
        &home,
        &["--data", home.file("first").to_str().expect("text")],
    );
    let address = first.address().to_owned();
    let team = Team {
        home: &home,
        url: first.url(),
    };
    succeeds(&team.write());
    let holder = home.spawn(&["--backend", &team.url, "hold", "--ttl", "4", "kept"]);
    eventually("it holds", || {
        !succeeds(&team.run(&["queue", "kept"])).is_empty()
    });
    let end = home.file("end");
    let loads = [team.load(&end), team.load(&end)];

    let said = succeeds(&team.run(&["--json", "snapshot", "saved"]));
    let said: serde_json::Value = serde_json::from_str(&said).expect("JSON");
    let saved_at = said["revision"].as_u64().expect("a number");
    let file = fs::metadata(home.file("saved")).expect("there");
    assert_eq!(file.len(), said["bytes"].as_u64().expect("a number"));
    assert_eq!(file.permissions().mode() & 0o777, 0o600);

    // The team goes on after the snapshot. One of its holds is remembered for later.
    for _ in 0..3 {
        succeeds(&team.write());
    }
    let old = succeeds(&team.write()).trim().to_owned();
    fs::write(&end, "").expect("written");
    for load in loads {
        let output = load.wait();
        assert!(output.status.success(), "{}", text(&output.stderr));
    }
    let before = team.tokens();
    assert!(*before.last().expect("some") > saved_at);
    kill(first);

    let said = succeeds(&restore(&home, "saved", "second"));
    assert!(
        said.contains("restored") && said.contains("sessions"),
        "{said}"
    );
    let data = home.file("second");
    let second = Server::start_at(&home, &address, &["--data", data.to_str().expect("text")]);
    // A hold from before is lost, not believed, and is in nobody's way for longer than its time.
    let lost = holder.wait();
    assert_eq!(code(&lost), 76, "{}", text(&lost.stderr));
    succeeds(&team.run(&["run", "-w", "30", "kept", "true"]));

    let content = fs::read(home.file("file")).expect("readable");
    succeeds(&team.write());
    let after = team.tokens();
    assert!(
        after[before.len()] > *before.last().expect("some"),
        "{before:?} {after:?}"
    );
    assert!(content.len() < fs::read(home.file("file")).expect("readable").len());
    refused(&team.write_late(&old), 79, "");
    for _ in 0..3 {
        succeeds(&team.write());
    }
    let tokens = team.tokens();
    assert!(tokens.is_sorted_by(|a, b| a < b), "{tokens:?}");
    assert_eq!(
        tokens.len(),
        before.len() + 4,
        "nothing late, and nothing lost"
    );
    second.stop();
}

#[test]
fn what_cannot_be_restored_is_refused_with_the_way_out() {
    let home = Home::new();
    succeeds(&home.run(&["run", "a", "true"]));
    succeeds(&home.run(&["snapshot", "saved"]));
    let whole = fs::read(home.file("saved")).expect("readable");
    for (name, bytes, said) in [
        ("short", &whole[..whole.len() - 1], "copy it again"),
        ("empty", &[], "copy it again"),
        ("text", &[b'x'; 2000], "turnlock snapshot"),
    ] {
        fs::write(home.file(name), bytes).expect("written");
        refused(&restore(&home, name, "new"), 74, said);
        refused(&restore(&home, name, "new"), 74, name);
    }
    let mut damaged = whole.clone();
    damaged[100] ^= 1;
    fs::write(home.file("damaged"), damaged).expect("written");
    refused(&restore(&home, "damaged", "new"), 74, "damaged");
    let mut newer = whole;
    newer[8] = 9;
    fs::write(home.file("newer"), newer).expect("written");
    refused(&restore(&home, "newer", "new"), 74, "format version 9");
    refused(&restore(&home, "none", "new"), 74, "none");
    assert!(!home.file("new").exists(), "nothing is made of a bad one");

    // The own coordinator has a store in its folder, and runs.
    let own = home.path().to_str().expect("text");
    refused(
        &home.run(&["restore", "saved", "--data", own]),
        78,
        "in use by process",
    );
    succeeds(&home.run(&["stop"]));
    refused(
        &home.run(&["restore", "saved", "--data", own]),
        78,
        "there is a store already",
    );
    let mut from_stdin = home.turnlock(&["--json", "restore", "-", "--data", "new"]);
    from_stdin.stdin(File::open(home.file("saved")).expect("there"));
    let said = succeeds(&from_stdin.output().expect("turnlock starts"));
    let said: serde_json::Value = serde_json::from_str(&said).expect("JSON");
    assert!(
        said["revision"].as_u64() > said["snapshot_revision"].as_u64(),
        "{said}"
    );
    refused(
        &restore(&home, "saved", "new"),
        78,
        "there is a store already",
    );
    refused(&home.run(&["snapshot", "none/saved"]), 74, "none/saved");
    let zookeeper = ["--backend", "zk://127.0.0.1:1", "snapshot", "x"];
    refused(&home.run(&zookeeper), 78, "dataDir");
}

#[test]
fn a_snapshot_is_for_admins() {
    let home = Home::new();
    let rules = "[[rule]]\nsubject = \"*\"\nprefix = \"\"\nright = \"lock\"\n";
    fs::write(home.file("rules.toml"), rules).expect("written");
    let server = Server::start_with(&home, &["--rules", "rules.toml"]);
    let output = home.run(&["--backend", &server.url(), "snapshot", "saved"]);
    refused(&output, 77, "");
    let left = fs::read_dir(home.path()).expect("a folder");
    let left = left.map(|entry| entry.expect("an entry").file_name());
    let left: Vec<_> = left
        .filter(|name| name.to_string_lossy().starts_with("saved"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    server.stop();
}

#[test]
fn the_tokens_of_an_etcd_that_goes_back_are_refused_until_the_offset_is_raised() {
    let home = Home::new();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let mut etcd = runtime.block_on(Node::start());
    let team = Team {
        home: &home,
        url: format!("etcd://{}", etcd.address()),
    };
    succeeds(&team.write());
    let said = succeeds(&team.run(&["snapshot", "saved"]));
    assert!(said.contains("bytes"), "{said}");
    refused(
        &restore(&home, "saved", "new"),
        74,
        "etcdutl snapshot restore",
    );
    for _ in 0..5 {
        succeeds(&team.write());
    }
    let before = team.tokens();
    let highest = before.last().expect("some").to_string();
    assert!(
        runtime.block_on(etcd.restore(&home.file("saved"))),
        "it serves"
    );

    refused(&team.write(), 79, &highest);
    assert_eq!(team.tokens(), before, "nothing was written");
    succeeds(&team.run(&["token-offset", "--raise-to", &highest]));
    for _ in 0..3 {
        succeeds(&team.write());
    }
    let tokens = team.tokens();
    assert!(tokens.is_sorted_by(|a, b| a < b), "{tokens:?}");
    assert_eq!(tokens.len(), before.len() + 3);
}

/// Makes a snapshot of a thousand large keys with `etcdctl`, and returns how many there are.
fn save_much(home: &Home) -> usize {
    let etcdctl = program("etcdctl", "etcd-client");
    let server = Server::start_with(home, &["--data", home.file("much").to_str().expect("text")]);
    let etcdctl = |args: &[&str], input: Stdio| {
        let mut command = std::process::Command::new(&etcdctl);
        command
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", server.address()])
            .args(args)
            .stdin(input)
            .current_dir(home.path());
        let output = command.output().expect("etcdctl starts");
        assert!(output.status.success(), "{output:?}");
    };
    // A transaction takes 128 puts.
    let value = "v".repeat(8_000);
    for round in 0..12 {
        let puts: Vec<String> = (0..100)
            .map(|nth| format!("put k/{round}/{nth} {value}"))
            .collect();
        fs::write(home.file("txn"), format!("\n{}\n\n\n", puts.join("\n"))).expect("written");
        etcdctl(
            &["txn"],
            File::open(home.file("txn")).expect("there").into(),
        );
    }
    etcdctl(&["snapshot", "save", "saved"], Stdio::null());
    server.stop();
    1_200
}

#[test]
fn a_restore_that_is_killed_leaves_nothing_that_a_server_opens() {
    let home = Home::new();
    let keys = save_much(&home);
    let started = std::time::Instant::now();
    succeeds(&restore(&home, "saved", "whole"));
    let whole = started.elapsed();
    let (mut halves, mut wholes) = (0, 0);
    let mut chance = fastrand::Rng::new();
    for round in 0..8 {
        let name = format!("killed-{round}");
        let data = home.file(&name);
        let running = home.spawn(&["restore", "saved", "--data", data.to_str().expect("text")]);
        // Any moment is right: this only makes them differ.
        std::thread::sleep(whole.mul_f64(chance.f64() * 1.2));
        signal(running.id(), Signal::KILL);
        let ended = running.wait();
        let is_whole = data.join("store.redb").exists();
        match Coordinator::open(Config::new(&data)) {
            Ok(coordinator) if is_whole => {
                wholes += 1;
                assert_eq!(coordinator.status().keys, keys);
                coordinator.close().expect("closed");
            }
            Ok(coordinator) => {
                // It was killed before it had begun: the folder is new.
                assert_eq!(coordinator.status().keys, 0, "{ended:?}");
                coordinator.close().expect("closed");
            }
            Err(error) => {
                halves += 1;
                assert!(error.to_string().contains("has not ended"), "{error}");
                succeeds(&restore(&home, "saved", &name));
                let coordinator = Coordinator::open(Config::new(&data)).expect("whole now");
                assert_eq!(coordinator.status().keys, keys);
                coordinator.close().expect("closed");
            }
        }
    }
    println!("{halves} were killed midway, {wholes} were done");
    // One that has begun is found for certain.
    let data = home.file("begun");
    let running = home.spawn(&["restore", "saved", "--data", data.to_str().expect("text")]);
    support::within(Duration::from_secs(60), "it has begun", || {
        data.join("store.redb.restoring").exists() || data.join("store.redb").exists()
    });
    signal(running.id(), Signal::KILL);
    running.wait();
    let served = home.run(&[
        "serve",
        "--data",
        data.to_str().expect("text"),
        "--idle",
        "1",
    ]);
    match data.join("store.redb").exists() {
        true => _ = succeeds(&served),
        false => refused(&served, 78, "a restore into this folder has not ended"),
    }
}
