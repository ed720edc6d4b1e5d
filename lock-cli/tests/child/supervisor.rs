//! Implements the roles of this program other than testing: a supervisor, and the first process of
//! a terminal session.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use lock_cli::child::{Child, Plan, Signals, SpawnError, Watchdog};
use rustix::fs::{Mode, OFlags};
use turnlock::clock::Clock;

/// `supervise [OPTION VALUE]... -- COMMAND...`
pub const SUPERVISE: &str = "supervise";
/// `session TERMINAL COMMAND...`
pub const SESSION: &str = "session";

pub fn role() -> Option<ExitCode> {
    let mut args = env::args_os().skip(1);
    let role = args.next()?;
    if role == SUPERVISE {
        Some(supervise(args))
    } else if role == SESSION {
        session(args)
    } else {
        None
    }
}

/// The options of the supervisor.
#[derive(Default)]
struct Options {
    /// Leave the session with a terminal.
    detach: bool,
    /// Variables for the command.
    env: Vec<(OsString, OsString)>,
    /// The time for the remaining processes to clean up after a signal to this process.
    grace: Duration,
    /// Count all that the command starts as part of the command.
    whole: bool,
    /// The longest time that the command may run.
    deadline: Option<Duration>,
    /// Act as soon as this file exists.
    when: Option<PathBuf>,
    /// Print this before the act.
    say: Option<OsString>,
    /// Wait for this file before the command is started.
    lock: Option<PathBuf>,
    /// The act: stop the command with TERM first, and with KILL after this time.
    term: Option<Duration>,
    /// The act: drop the handle, and go on.
    drop: bool,
}

fn supervise(mut args: impl Iterator<Item = OsString>) -> ExitCode {
    let mut options = Options::default();
    while let Some(option) = args.next().filter(|option| option != "--") {
        let mut value = || args.next().expect("a value");
        match option.to_str().expect("an option") {
            "--detach" => options.detach = true,
            "--drop" => options.drop = true,
            "--env" => options.env.push((value(), value())),
            "--whole" => options.whole = true,
            "--grace" => options.grace = millis(&value()),
            "--deadline" => options.deadline = Some(millis(&value())),
            "--say" => options.say = Some(value()),
            "--await" => options.lock = Some(value().into()),
            "--when" => options.when = Some(value().into()),
            "--term" => options.term = Some(millis(&value())),
            other => panic!("no option {other}"),
        }
    }
    if options.detach {
        rustix::process::setsid().expect("not the leader of a group");
    }
    let command: Vec<OsString> = args.collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(run(options, command))
}

fn millis(text: &OsString) -> Duration {
    Duration::from_millis(text.to_str().unwrap().parse().unwrap())
}

async fn run(options: Options, command: Vec<OsString>) -> ExitCode {
    let mut signals = Signals::install().unwrap();
    if let Some(lock) = &options.lock {
        println!("waiting");
        tokio::select! {
            () = exists(Some(lock)) => {}
            signal = signals.wait_for_deadly() => return signal.end_this_process(),
        }
    }
    let plan = Plan {
        command,
        env: options.env.clone(),
        grace: options.grace,
        whole: options.whole,
        deadline: options
            .deadline
            .map(|deadline| Clock::system().now() + deadline),
        last_will: Vec::new(),
    };
    let watchdog = Watchdog::start(signals.initial_mask()).unwrap();
    let mut child = match Child::spawn(watchdog, plan, signals).await {
        Ok(child) => child,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(match error {
                SpawnError::NotFound(_) => 127,
                SpawnError::NotExecutable(..) => 126,
                SpawnError::Supervision(_) => 70,
            });
        }
    };
    tokio::select! {
        ended = child.wait() => {
            let status = ended.unwrap().status();
            let end = child.shared_end();
            child.leave(std::future::ready(())).await;
            return match end {
                Some(signal) => signal.end_this_process(),
                None => ExitCode::from(status),
            };
        }
        () = exists(options.when.as_deref()) => {}
    }
    if options.drop {
        drop(child);
        println!("dropped");
        return std::future::pending().await;
    }
    if let Some(text) = &options.say {
        println!("{}", text.display());
    }
    let begun = Instant::now();
    let ended = child
        .stop(options.term.is_some(), options.term.unwrap_or_default())
        .await
        .unwrap();
    println!("stopped {ended:?} after {}", begun.elapsed().as_millis());
    assert_eq!(
        child.wait().await.unwrap(),
        ended,
        "the answer stays the same"
    );
    child.leave(std::future::ready(())).await;
    ExitCode::from(ended.status())
}

async fn exists(file: Option<&std::path::Path>) {
    let Some(file) = file else {
        return std::future::pending().await;
    };
    while fs::metadata(file).is_err() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Executes a command as the leader of a new session on this terminal. Returns only if that fails.
fn session(mut args: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    let terminal = args.next()?;
    rustix::process::setsid().expect("not the leader of a group");
    // The first terminal that the leader of a session opens becomes that of the session.
    let terminal = rustix::fs::open(&terminal, OFlags::RDWR, Mode::empty()).expect("a terminal");
    rustix::stdio::dup2_stdin(&terminal).unwrap();
    rustix::stdio::dup2_stdout(&terminal).unwrap();
    rustix::stdio::dup2_stderr(&terminal).unwrap();
    drop(terminal);
    let error = Command::new(args.next()?).args(args).exec();
    eprintln!("{error}");
    Some(ExitCode::FAILURE)
}
