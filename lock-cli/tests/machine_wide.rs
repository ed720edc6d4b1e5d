//! Tests one coordinator for all users of a machine: switched on, in use, down, and switched off.
//! Each test has a machine of its own: namespaces of mounts, processes and sockets, with a copy of
//! /etc and three users.

mod support;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use support::{Running, eventually, program, text};
use tempfile::TempDir;

/// Sets up the differences from the machine around it, and stays as its first process.
const SETUP: &str = r#"set -e
mount -t tmpfs -o mode=755 none /run
mkdir /run/etc && cp -a /etc/. /run/etc && mount --bind /run/etc /etc
rm -rf /etc/turnlock
for folder in /var/lib /home; do mount -t tmpfs -o mode=755 none $folder; done
mount -t tmpfs -o mode=700 none /root
for user in turnlock:12000 alice:12001 bob:12002; do
    echo "${user%:*}:x:${user#*:}:${user#*:}::/home/${user%:*}:/bin/sh" >>/etc/passwd
    echo "${user%:*}:x:${user#*:}:" >>/etc/group
    install -d -m 700 -o ${user#*:} -g ${user#*:} /home/${user%:*}
done
install -d -m 700 -o 12000 -g 12000 /var/lib/turnlock
install -d -m 750 -o 12000 -g 12000 /run/turnlock
echo ready
exec sleep infinity
"#;

/// The group of the users who may use the coordinator.
const GROUP: u32 = 12000;

#[derive(Clone, Copy)]
enum As {
    Root,
    /// A user in the group.
    Alice,
    /// A user who is not in the group.
    Bob,
    Service,
}

struct Machine {
    /// The process outside that waits for the first process inside.
    around: Child,
    first: u32,
    folder: TempDir,
}

impl Machine {
    fn new() -> Self {
        assert!(rustix::process::geteuid().is_root(), "run this as root");
        let folder = tempfile::Builder::new()
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .tempdir()
            .expect("a temporary folder");
        let copy = folder.path().join("turnlock");
        std::fs::copy(env!("CARGO_BIN_EXE_turnlock"), copy).expect("copied");
        let mut around = Command::new(program("unshare", "util-linux"))
            .args(["--mount", "--pid", "--net", "--fork", "--mount-proc"])
            .args(["--kill-child", "sh", "-c", SETUP])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare starts");
        let mut said = String::new();
        let stdout = around.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut said).expect("text");
        assert_eq!(said, "ready\n");
        let pid = around.id();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        let first = children.expect("our child").trim().parse();
        Machine {
            around,
            first: first.expect("one child"),
            folder,
        }
    }

    /// Makes a command that runs a program inside.
    fn program(&self, user: As, words: &[&str]) -> Command {
        let (uid, groups, home) = match user {
            As::Root => (0, 0, "/root"),
            As::Service => (12000, 12000, "/home/turnlock"),
            As::Alice => (12001, GROUP, "/home/alice"),
            As::Bob => (12002, 12002, "/home/bob"),
        };
        let mut command = Command::new(program("nsenter", "util-linux"));
        command
            .arg(format!("--target={}", self.first))
            .args(["--mount", "--pid", "--net", "--wd=/", "--"])
            .args([
                "setpriv",
                &format!("--reuid={uid}"),
                &format!("--regid={uid}"),
            ])
            .arg(format!("--groups={groups}"))
            .args(["--", "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"])
            .arg(format!("HOME={home}"))
            .args(words)
            .stdin(Stdio::null());
        command
    }

    fn turnlock(&self, user: As, args: &[&str]) -> Command {
        let path = self.folder.path().join("turnlock");
        let words = [&[path.to_str().expect("text")], args].concat();
        self.program(user, &words)
    }

    fn run(&self, user: As, args: &[&str]) -> Output {
        let output = self.turnlock(user, args).output();
        output.expect("nsenter starts")
    }

    /// Runs the command. Returns its status and all of its output.
    fn says(&self, user: As, args: &[&str]) -> (Option<i32>, String) {
        let output = self.run(user, args);
        let said = text(&output.stdout) + &text(&output.stderr);
        (output.status.code(), said)
    }

    fn succeeds(&self, user: As, args: &[&str]) -> String {
        let (status, said) = self.says(user, args);
        assert_eq!(status, Some(0), "{args:?}: {said}");
        said
    }

    fn spawn(&self, user: As, args: &[&str]) -> Running {
        let child = self
            .turnlock(user, args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        Running::of(child.expect("nsenter starts"))
    }

    /// Starts the service and waits until it listens.
    fn serve(&self) -> Running {
        let service = self.spawn(As::Service, &["serve", "--system"]);
        eventually("it listens", || {
            let url = "etcd+unix:///run/turnlock/turnlock.sock?server_uid=12000";
            self.run(As::Root, &["--backend", url, "ls"])
                .status
                .success()
        });
        service
    }

    /// Holds the lock `a`, without options, until the file that the command waits for exists.
    fn hold(&self, user: As) -> Running {
        let holder = self.spawn(user, &["hold", "a"]);
        eventually("it holds", || {
            !self.succeeds(user, &["queue", "--json", "a"]).is_empty()
        });
        holder
    }

    /// Ends a holder by its pid inside the machine, as its user sees it.
    fn end(&self, user: As, holder: Running) {
        let queue = self.succeeds(user, &["queue", "--json", "a"]);
        let entry: serde_json::Value = serde_json::from_str(queue.trim()).expect("one holder");
        let pid = entry["pid"].to_string();
        let told = self.program(As::Root, &["kill", "-TERM", &pid]).status();
        assert!(told.expect("nsenter starts").success());
        assert!(holder.wait().status.success());
    }

    /// Kills the service.
    fn kill_service(&self, service: Running) {
        let status = self.succeeds(As::Root, &["status", "--json"]);
        let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
        let pid = status["pid"].to_string();
        let told = self.program(As::Root, &["kill", "-KILL", &pid]).status();
        assert!(told.expect("nsenter starts").success());
        service.wait();
    }

    fn exists(&self, path: &str) -> bool {
        let inside = format!("/proc/{}/root{path}", self.first);
        Path::new(&inside).exists()
    }

    fn write(&self, path: &str, content: &str, mode: &str) {
        let script =
            format!("mkdir -p $(dirname {path}); printf '{content}' >{path}; chmod {mode} {path}");
        let done = self.program(As::Root, &["sh", "-c", &script]).status();
        assert!(done.expect("nsenter starts").success());
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // The first process of the machine dies with it, and all others die with that one.
        let _ = self.around.kill();
        let _ = self.around.wait();
    }
}

const FILE: &str = "/etc/turnlock/backend";

#[test]
fn two_users_of_a_machine_exclude_each_other() {
    let machine = Machine::new();
    let service = machine.serve();
    machine.succeeds(As::Root, &["system", "enable"]);
    let holder = machine.hold(As::Root);
    let (status, said) = machine.says(As::Alice, &["run", "-n", "a", "--", "true"]);
    assert_eq!(status, Some(75), "{said}");
    let queue = machine.succeeds(As::Alice, &["queue", "a"]);
    assert!(queue.contains("holds"), "{queue}");
    let (status, said) = machine.says(As::Bob, &["run", "-n", "a", "--", "true"]);
    assert_eq!(status, Some(77), "{said}");
    assert!(
        said.contains("may not open the coordinator's socket"),
        "{said}"
    );
    machine.end(As::Root, holder);
    machine.succeeds(As::Alice, &["run", "-n", "a", "--", "true"]);

    let status = machine.succeeds(As::Alice, &["status", "--json"]);
    let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
    assert_eq!(status["kind"], "machine");
    assert_eq!(status["decided_by"], FILE);
    assert!(status["pid"].is_number(), "{status}");
    for folder in ["/root/.local", "/home/alice/.local", "/home/bob/.local"] {
        assert!(!machine.exists(folder), "{folder} was made");
    }
    drop(service);
}

#[test]
fn nobody_falls_back_to_his_own_when_the_machines_is_down() {
    let machine = Machine::new();
    let service = machine.serve();
    machine.succeeds(As::Root, &["system", "enable"]);
    machine.kill_service(service);
    assert_eq!(machine.says(As::Root, &["status"]).0, Some(69));
    for user in [As::Root, As::Alice] {
        let (status, said) = machine.says(user, &["run", "-n", "a", "--", "echo", "ran"]);
        assert_eq!(status, Some(69), "{said}");
        assert!(!said.contains("ran\n"), "{said}");
        assert!(said.contains("/run/turnlock/turnlock.sock"), "{said}");
    }
    for folder in ["/root/.local", "/home/alice/.local"] {
        assert!(!machine.exists(folder), "{folder} was made");
    }
    // The service comes back on the socket that the killed one left behind.
    let service = machine.serve();
    machine.succeeds(As::Alice, &["run", "-n", "a", "--", "true"]);
    drop(service);
}

#[test]
fn the_service_is_not_enabled_under_a_holder_of_an_own_coordinator() {
    let machine = Machine::new();
    let service = machine.serve();
    let holder = machine.hold(As::Alice);
    let (status, said) = machine.says(As::Root, &["system", "enable"]);
    assert_eq!(status, Some(75), "{said}");
    assert!(
        said.contains("user alice, in /home/alice/.local/state/turnlock"),
        "{said}"
    );
    assert!(!machine.exists(FILE));
    machine.end(As::Alice, holder);

    // Her own coordinator is idle now, and the change ends it.
    let own = "/home/alice/.local/state/turnlock/turnlock.sock";
    assert!(machine.exists(own));
    machine.succeeds(As::Root, &["system", "enable"]);
    assert!(!machine.exists(own), "it still serves");
    let status = machine.succeeds(As::Alice, &["status"]);
    assert!(status.contains("this machine's"), "{status}");
    let queue = machine.succeeds(As::Alice, &["run", "a", "-c", "echo $TURNLOCK_TOKEN"]);
    assert!(!queue.is_empty());

    // A user who names a folder has chosen that folder's coordinator.
    let path = machine.folder.path().join("turnlock");
    let words = [
        "env",
        "TURNLOCK_HOME=/home/alice/mine",
        path.to_str().expect("text"),
    ];
    let named = machine
        .program(
            As::Alice,
            &[&words[..], &["run", "a", "--", "true"]].concat(),
        )
        .output()
        .expect("nsenter starts");
    assert!(named.status.success(), "{}", text(&named.stderr));
    // No user's own coordinator starts any more.
    let folder = "/home/alice/.local/state/turnlock";
    let (status, said) = machine.says(As::Alice, &["serve", "--background", "--data", folder]);
    assert_eq!(status, Some(78), "{said}");
    assert!(said.contains(FILE), "{said}");
    drop(service);
}

#[test]
fn the_service_is_enabled_by_root_only_and_once_it_answers() {
    let machine = Machine::new();
    let (status, said) = machine.says(As::Root, &["system", "enable"]);
    assert_eq!(status, Some(69), "{said}");
    assert!(said.contains("systemctl"), "{said}");
    let (status, said) = machine.says(As::Alice, &["system", "enable"]);
    assert_eq!(status, Some(77), "{said}");
    for url in ["embedded:memory", "nowhere", "etcd://a b"] {
        let (status, said) = machine.says(As::Root, &["system", "enable", url]);
        assert_eq!(status, Some(64), "{said}");
    }
    assert!(!machine.exists(FILE));
}

#[test]
fn the_service_is_not_disabled_under_a_holder() {
    let machine = Machine::new();
    let service = machine.serve();
    machine.succeeds(As::Root, &["system", "enable"]);
    let shown = machine.succeeds(As::Bob, &["system", "show"]);
    assert!(
        shown.starts_with("etcd+unix:///run/turnlock/turnlock.sock"),
        "{shown}"
    );
    let holder = machine.hold(As::Alice);
    let (status, said) = machine.says(As::Root, &["system", "disable"]);
    assert_eq!(status, Some(75), "{said}");
    assert!(machine.exists(FILE));
    machine.end(As::Alice, holder);
    machine.succeeds(As::Root, &["system", "disable"]);
    assert!(!machine.exists(FILE));
    machine.succeeds(As::Bob, &["run", "a", "--", "true"]);
    let status = machine.succeeds(As::Bob, &["status"]);
    assert!(
        status.contains("your own, /home/bob/.local/state/turnlock"),
        "{status}"
    );
    drop(service);
}

#[test]
fn without_a_service_manager_root_gets_the_folders_made() {
    let machine = Machine::new();
    let script = "rmdir /run/turnlock /var/lib/turnlock";
    let removed = machine.program(As::Root, &["sh", "-c", script]).status();
    assert!(removed.expect("nsenter starts").success());
    let service = machine.spawn(As::Root, &["serve", "--system"]);
    let url = "etcd+unix:///run/turnlock/turnlock.sock";
    eventually("it listens", || {
        machine.says(As::Alice, &["--backend", url, "status"]).0 == Some(0)
    });
    let script = "stat -c %a:%g /run/turnlock /run/turnlock/turnlock.sock /var/lib/turnlock";
    let modes = machine.program(As::Root, &["sh", "-c", script]).output();
    let modes = text(&modes.expect("nsenter starts").stdout);
    assert_eq!(modes, "750:12000\n660:12000\n700:0\n");
    drop(service);
}

#[test]
fn a_file_that_is_wrong_is_not_passed_over() {
    let machine = Machine::new();
    let url = "etcd+unix:///run/turnlock/turnlock.sock";
    for (content, mode, word) in [
        ("", "644", "one line"),
        ("etcd://a\\netcd://b", "644", "one line"),
        ("embedded:memory", "644", "does not begin with"),
        (url, "600", "ermission denied"),
        (url, "666", "others than root can write it"),
    ] {
        machine.write(FILE, content, mode);
        for args in [&["run", "a", "--", "echo", "ran"][..], &["ls"], &["status"]] {
            let (status, said) = machine.says(As::Alice, args);
            assert_eq!(status, Some(78), "{content:?} {mode} {args:?}: {said}");
            assert!(said.contains(FILE) && said.contains(word), "{said}");
            assert!(!said.contains("ran\n"), "{said}");
        }
    }
    assert!(!machine.exists("/home/alice/.local"));
    // Root repairs it.
    let service = machine.serve();
    machine.write(FILE, "nonsense", "644");
    machine.succeeds(As::Root, &["system", "enable"]);
    machine.succeeds(As::Alice, &["run", "a", "--", "true"]);
    drop(service);
}
