//! Tests other clients of `turnlock serve`, which is killed and started again while they wait: they
//! go on waiting, and get their turn.

mod support;

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use rustix::process::Signal;
use support::{Home, PATIENCE, Running, eventually, program, signal};

/// A server that keeps its port when it is killed and started again.
struct Server {
    home: Home,
    address: String,
    running: Option<Running>,
}

impl Server {
    fn start() -> Self {
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = free.local_addr().expect("bound").to_string();
        drop(free);
        let mut server = Server {
            home: Home::new(),
            address,
            running: None,
        };
        server.run();
        server
    }

    fn run(&mut self) {
        let running = self.home.spawn(&["serve", "--listen", &self.address]);
        self.running = Some(running);
        eventually("it serves", || self.ask(&["get", "probe"]).is_some());
    }

    /// Kills the server, and starts it again.
    fn kill_and_run(&mut self) {
        let running = self.running.take().expect("it runs");
        signal(running.id(), Signal::KILL);
        drop(running);
        self.run();
    }

    fn etcdctl(&self, args: &[&str]) -> Command {
        let mut command = Command::new(program("etcdctl", "etcd-client"));
        command
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &self.address])
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Returns the output of etcdctl, unless it fails.
    fn ask(&self, args: &[&str]) -> Option<String> {
        let output = self.etcdctl(args).output().expect("etcdctl runs");
        let text = || String::from_utf8_lossy(&output.stdout).into_owned();
        output.status.success().then(text)
    }

    /// Returns the keys with this prefix, the oldest first.
    fn keys(&self, prefix: &str) -> Vec<String> {
        let sorted = ["get", "--prefix", "--keys-only", "--sort-by=CREATE", prefix];
        let keys = self.ask(&sorted).expect("it serves");
        let keys = keys.lines().filter(|line| !line.is_empty());
        keys.map(str::to_owned).collect()
    }

    /// Starts an etcdctl that keeps running.
    fn client(&self, args: &[&str]) -> Client {
        let mut child = self.etcdctl(args).spawn().expect("etcdctl runs");
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let (said, lines) = channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if said.send(line).is_err() {
                    break;
                }
            }
        });
        Client {
            child,
            lines,
            _stdin: stdin,
        }
    }
}

struct Client {
    child: Child,
    lines: Receiver<String>,
    /// The client keeps running for as long as its stdin is open.
    _stdin: Option<ChildStdin>,
}

impl Client {
    /// Returns the next line that the client prints.
    fn line(&mut self) -> String {
        self.lines.recv_timeout(PATIENCE).unwrap_or_else(|_| {
            let _ = self.child.kill();
            let errors = self.child.stderr.take().map(std::io::read_to_string);
            panic!("it says nothing, but for {errors:?}");
        })
    }

    fn is_silent(&self) -> bool {
        self.lines.try_recv().is_err()
    }

    /// Ends the client as Ctrl-C does: it releases its lock.
    fn interrupt(mut self) {
        signal(self.child.id(), Signal::INT);
        eventually("it ends", || self.child.try_wait().expect("ours").is_some());
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Makes so many other changes that a short history would have forgotten the earlier ones.
fn bustle(server: &Server) {
    for round in 0..3 {
        let (key, value) = ("bustle", round.to_string());
        server.ask(&["put", key, &value]).expect("put");
        server.ask(&["del", key]).expect("deleted");
    }
}

#[test]
fn etcdctl_lock_waits_over_a_restart_and_gets_the_lock() {
    let mut server = Server::start();
    let mut holder = server.client(&["lock", "l"]);
    assert_eq!(holder.line(), server.keys("l/")[0]);
    let mut first = server.client(&["lock", "l"]);
    eventually("the first one waits", || server.keys("l/").len() == 2);
    let mut second = server.client(&["lock", "l"]);
    eventually("the second one waits", || server.keys("l/").len() == 3);
    let queue = server.keys("l/");
    bustle(&server);
    for _ in 0..2 {
        server.kill_and_run();
        bustle(&server);
    }
    assert_eq!(server.keys("l/"), queue);
    assert!(first.is_silent() && second.is_silent());
    holder.interrupt();
    assert_eq!(first.line(), queue[1]);
    assert!(second.is_silent());
    first.interrupt();
    assert_eq!(second.line(), queue[2]);
}

#[test]
fn etcdctl_lock_learns_of_a_release_during_a_restart() {
    let mut server = Server::start();
    let mut holder = server.client(&["lock", "l"]);
    holder.line();
    let mut waiter = server.client(&["lock", "l"]);
    eventually("it waits", || server.keys("l/").len() == 2);
    let queue = server.keys("l/");
    // The waiter is stopped while the coordinator is killed, and while the next one takes the
    // release and is killed, too. The event that the waiter missed happened two restarts ago.
    signal(waiter.child.id(), Signal::STOP);
    server.kill_and_run();
    server.ask(&["del", &queue[0]]).expect("deleted");
    bustle(&server);
    server.kill_and_run();
    signal(waiter.child.id(), Signal::CONT);
    assert_eq!(waiter.line(), queue[1]);
}

#[test]
fn campaigns_and_their_observers_go_on_over_a_restart() {
    let mut server = Server::start();
    let mut leader = server.client(&["elect", "e", "one"]);
    assert_eq!(leader.line(), server.keys("e/")[0]);
    assert_eq!(leader.line(), "one");
    let mut observer = server.client(&["elect", "--listen", "e"]);
    assert_eq!(observer.line(), server.keys("e/")[0]);
    assert_eq!(observer.line(), "one");
    let mut campaigner = server.client(&["elect", "e", "two"]);
    eventually("it campaigns", || server.keys("e/").len() == 2);
    let queue = server.keys("e/");
    bustle(&server);
    server.kill_and_run();
    assert!(campaigner.is_silent() && observer.is_silent());
    leader.interrupt();
    assert_eq!(campaigner.line(), queue[1]);
    assert_eq!(campaigner.line(), "two");
    assert_eq!(observer.line(), queue[1]);
    assert_eq!(observer.line(), "two");
    // Another client waits for the very first leader, whether it has reached that point or not.
    let mut early = server.client(&["elect", "--listen", "f"]);
    server.kill_and_run();
    let mut late = server.client(&["elect", "f", "three"]);
    late.line();
    assert_eq!(early.line(), server.keys("f/")[0]);
}
