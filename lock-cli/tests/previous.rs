//! Tests the previous release and this one, mixed: one queue, one token offset, one fence mark and
//! one data folder, as if both were one version. `tools/previous` builds the previous release.

mod support;

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use support::release::Release::{self, Previous, This};
use support::{Home, Running, eventually, text};
use testkit::fixtures::etcd::Node;
use testkit::fixtures::zk::{Ensemble, Settings};

const NAME: &str = "ledger";
/// The number of commands that take turns in each queue, of both releases alternately.
const TURNS: usize = 6;

/// The users of a coordinator, with either release.
struct Users<'a> {
    home: &'a Home,
    /// `None` for the user's own coordinator in the home.
    url: Option<String>,
}

impl Users<'_> {
    fn command(&self, release: Release, arguments: &[&str]) -> Command {
        let mut command = Command::new(release.program());
        command
            .args(arguments)
            .current_dir(self.home.path())
            .env("TURNLOCK_HOME", self.home.path())
            .env_remove("TURNLOCK_BACKEND")
            .stdin(Stdio::null());
        if let Some(url) = &self.url {
            command.env("TURNLOCK_BACKEND", url);
        }
        command
    }

    fn run(&self, release: Release, arguments: &[&str]) -> Output {
        let output = self.command(release, arguments).output();
        output.expect("turnlock starts")
    }

    /// Runs a command, which must succeed, and returns its output.
    fn ask(&self, release: Release, arguments: &[&str]) -> String {
        let output = self.run(release, arguments);
        let said = text(&output.stderr);
        assert!(output.status.success(), "{release:?} {arguments:?}: {said}");
        text(&output.stdout).trim().to_owned()
    }

    fn spawn(&self, release: Release, arguments: &[&str]) -> Running {
        let mut command = self.command(release, arguments);
        let child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        Running::of(child.expect("turnlock starts"))
    }

    /// Returns the length of the queue, which must be the same in both releases.
    fn queue_length(&self, name: &str) -> usize {
        let count = |release| {
            self.ask(release, &["queue", "--json", name])
                .lines()
                .count()
        };
        let (previous, this) = (count(Previous), count(This));
        // A waiter may have come between the two reads.
        previous.min(this)
    }

    /// Takes a lock and returns its token.
    fn take_token(&self, release: Release) -> u64 {
        let print = ["run", NAME, "--", "sh", "-c", "echo $TURNLOCK_TOKEN"];
        let token = self.ask(release, &print);
        token.parse().expect("a token")
    }

    /// Tests one queue in which both releases wait in turn, for the whole lock and for a share of
    /// it.
    fn queue_in_turn(&self, name: &str, shared: bool) {
        let turns = self.home.file(&format!("turns-{name}"));
        let holder = self.spawn(Release::of_turn(TURNS), &["hold", name]);
        eventually("it holds", || self.queue_length(name) == 1);
        let waiters: Vec<Running> = (0..TURNS)
            .map(|turn| {
                let script = format!("echo {turn} $TURNLOCK_TOKEN >>{}", turns.display());
                // Every third waiter is a reader. The previous release has no `--exclusive`.
                let mode: &[&str] = match shared && turn % 3 == 2 {
                    true => &["--shared"],
                    false => &[],
                };
                let arguments = [&["run"], mode, &[name, "--", "sh", "-c", &script]].concat();
                let waiter = self.spawn(Release::of_turn(turn), &arguments);
                eventually("it queues", || self.queue_length(name) == turn + 2);
                waiter
            })
            .collect();
        support::signal(holder.id(), rustix::process::Signal::TERM);
        holder.wait();
        for waiter in waiters {
            let output = waiter.wait();
            assert!(output.status.success(), "{}", text(&output.stderr));
        }
        let lines = support::lines(&turns);
        let numbers = |field: usize| -> Vec<u64> {
            let fields = lines.iter().map(|line| line.split(' ').nth(field));
            let parsed = fields.map(|field| field.and_then(|field| field.parse().ok()));
            parsed.map(|number| number.expect("a number")).collect()
        };
        let expected: Vec<u64> = (0..TURNS as u64).collect();
        assert_eq!(numbers(0), expected, "first come first served: {lines:?}");
        let tokens = numbers(1);
        let rises = tokens.windows(2).all(|pair| pair[0] < pair[1]);
        assert!(rises, "{lines:?}");
    }

    /// Tests one token offset: each release raises it, and both see it.
    fn raise_offset(&self) {
        for release in [Previous, This] {
            let taken = [Previous, This].map(|release| self.take_token(release));
            assert!(taken[0] < taken[1], "{taken:?}");
            let offset = self.ask(release, &[release.token_offset()]);
            let offset: u64 = offset.parse().expect("a number");
            assert!(offset > taken[1], "{offset} after {taken:?}");
            let raised = (offset + 1000).to_string();
            let raise = [release.token_offset(), "--raise-to", &raised];
            assert_eq!(self.ask(release, &raise), raised);
            for release in [This, Previous] {
                assert!(self.take_token(release) > offset + 1000, "{release:?}");
            }
        }
    }

    /// Tests one fence mark: each release writes the file, and refuses a token that is older than
    /// one of the other release.
    fn write_file(&self, file: &str) {
        let mut stale = 0;
        for release in [Previous, This, Previous] {
            let script = format!(
                "echo {release:?} | \"$TURNLOCK\" write {NAME} {file} && echo $TURNLOCK_TOKEN"
            );
            let mut command = self.command(release, &["run", NAME, "--", "sh", "-c", &script]);
            let output = command.env("TURNLOCK", release.program()).output();
            let output = output.expect("turnlock starts");
            assert!(output.status.success(), "{}", text(&output.stderr));
            let token: u64 = text(&output.stdout).trim().parse().expect("a token");
            assert!(token > stale, "{token} after {stale}");
            let written = fs::read_to_string(self.home.file(file)).expect("written");
            assert_eq!(written, format!("{release:?}\n"));
            if stale > 0 {
                let late = stale.to_string();
                for release in [Previous, This] {
                    let refusal = self.run(release, &["write", "--token", &late, NAME, file]);
                    assert_eq!(refusal.status.code(), Some(79), "{release:?}: {refusal:?}");
                }
            }
            stale = token;
        }
    }

    fn mix(&self) {
        self.queue_in_turn("exclusive", false);
        self.queue_in_turn("shared", true);
        self.raise_offset();
        self.write_file("file");
    }
}

#[test]
fn both_use_the_users_own_coordinator_whichever_started_it() {
    for starter in [Previous, This] {
        let home = Home::new();
        let users = Users {
            home: &home,
            url: None,
        };
        users.take_token(starter);
        users.mix();
    }
}

#[test]
fn both_open_one_data_folder_in_turn() {
    let home = Home::new();
    let users = Users {
        home: &home,
        url: None,
    };
    let mut last = 0;
    for release in [Previous, This, Previous, This] {
        let token = users.take_token(release);
        assert!(token > last, "{token} after {last}");
        let raised = token + 10;
        let raise = [release.token_offset(), "--raise-to", &raised.to_string()];
        users.ask(release, &raise);
        users.write_file("file");
        last = users.take_token(release);
        assert!(last > raised, "{last} after {raised}");
        users.ask(release, &["stop"]);
        assert_eq!(home.coordinator(), None);
    }
}

#[test]
fn both_use_a_coordinator_that_either_serves() {
    for server in [Previous, This] {
        let home = Home::new();
        let socket = home.file("s");
        let own = Users {
            home: &home,
            url: None,
        };
        let data = home.file("data");
        let listen = format!("unix:{}", socket.display());
        let data = data.to_str().expect("UTF-8");
        let serve = ["serve", "--data", data, "--listen", &listen];
        let _serving = own.spawn(server, &serve);
        eventually("it serves", || socket.exists());
        let url = Some(format!("etcd+unix://{}", socket.display()));
        Users { home: &home, url }.mix();
    }
}

#[test]
fn both_use_etcd() {
    let home = Home::new();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let node = runtime.block_on(Node::start());
    let url = Some(format!("etcd://{}", node.address()));
    Users { home: &home, url }.mix();
}

#[test]
fn both_use_zookeeper() {
    let home = Home::new();
    let ensemble = Ensemble::start(Settings::default());
    let url = Some(ensemble.url());
    Users { home: &home, url }.mix();
}

/// The previous release gives a mark the permissions of its file, and this one exchanges such a mark
/// for a closed one: while others of either release wait for the lock of the mark.
#[test]
fn writers_keep_each_other_out_while_a_mark_is_exchanged() {
    use std::os::unix::fs::MetadataExt;
    const WRITERS: usize = 24;
    let home = Home::new();
    let users = Users {
        home: &home,
        url: None,
    };
    let mark = home.file(".log.fence");
    let mode = || fs::metadata(&mark).expect("there").mode() & 0o777;
    let append = |release: Release, line: &str| {
        let script = "echo $0 | \"$TURNLOCK\" append --token 7 ledger log";
        let mut command = Command::new("sh");
        command
            .args(["-c", script, line])
            .current_dir(home.path())
            .env("TURNLOCK", release.program())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Running::of(command.spawn().expect("sh starts"))
    };
    let succeeds = |writer: Running| {
        let output = writer.wait();
        assert!(output.status.success(), "{}", text(&output.stderr));
    };
    succeeds(append(Previous, "first"));
    assert_eq!(mode(), 0o644);
    // All wait for this lock, and have the mark open that is exchanged.
    let open = fs::File::open(&mark).expect("readable");
    open.lock().expect("free");
    let writers: Vec<Running> = (0..WRITERS)
        .map(|number| append(Release::of_turn(number), &number.to_string()))
        .collect();
    for writer in &writers {
        eventually("it waits", || has_open(writer.id(), &mark));
    }
    drop(open);
    writers.into_iter().for_each(succeeds);
    assert_eq!(mode(), 0o600, "this release has exchanged it");
    let mut written = support::lines(&home.file("log"));
    assert_eq!(written.remove(0), "first");
    let mut numbers: Vec<usize> = written
        .iter()
        .map(|line| line.parse().expect("a whole line"))
        .collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..WRITERS).collect::<Vec<_>>());
    let late = users.run(Previous, &["append", "--token", "6", NAME, "log"]);
    assert_eq!(late.status.code(), Some(79), "{late:?}");
}

/// Returns whether a child of this process, or a child of its own, has the file open.
fn has_open(process: u32, file: &Path) -> bool {
    let children = fs::read_to_string(format!("/proc/{process}/task/{process}/children"));
    let children = children.unwrap_or_default();
    let children = children.split_whitespace().map(str::to_owned);
    std::iter::once(process.to_string())
        .chain(children)
        .any(|id| {
            let open = fs::read_dir(format!("/proc/{id}/fd"));
            let mut open = open.into_iter().flatten().flatten();
            open.any(|fd| fs::read_link(fd.path()).is_ok_and(|target| target == file))
        })
}
