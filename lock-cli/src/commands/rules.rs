//! `turnlock rules`: ask a file of rules, and add users to a file of users.

use std::io::{self, BufRead, IsTerminal, Read};

use backend_embedded::server::access::{
    AccessError, Rules as FileOfRules, Subject, add_user, keys_of_lock, keys_of_one,
};
use backend_kit::secret::Secret;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use serde_json::json;

use crate::child::Signals;
use crate::cli::{AddUser, Global, Rules, RulesCheck};
use crate::commands::blocking::run_interruptibly;
use crate::commands::names::parse_name;
use crate::exit::{Exit, Failure};
use crate::output::{announce, print, print_json, say};

/// The longest password that is read, in bytes.
const MAX_INPUT_BYTES: u64 = 4096;

pub async fn rules(global: Global, command: Rules) -> Result<Exit, Failure> {
    match command {
        Rules::Check(args) => check(&global, &args),
        Rules::AddUser(args) => add(args).await,
    }
}

fn check(global: &Global, args: &RulesCheck) -> Result<Exit, Failure> {
    let rules = FileOfRules::read(&args.file).map_err(to_failure)?;
    let keys = match args.key {
        true => keys_of_one(args.name.as_encoded_bytes()),
        false => keys_of_lock(&args.namespace, &parse_name(&args.name, args.raw)?)?,
    };
    let subject = Subject::new(args.subjects.clone());
    let right = args.right;
    let decisive = rules.find(&subject, right, &keys);
    let rule = decisive.or_else(|| rules.find_most(&subject, &keys));
    let allowed = decisive.is_some();
    if global.json {
        print_json(&json!({
            "allowed": allowed,
            "subject": subject.to_string(),
            "right": right.to_string(),
            "name": args.name.to_string_lossy(),
            "line": rule.map(|rule| rule.line()),
            "rule": rule.map(ToString::to_string),
        }))?;
    } else {
        print(match (allowed, rule) {
            (true, Some(rule)) => format!("allowed by {rule}"),
            (_, Some(rule)) => format!("denied: no rule lets {subject} {right} this; {rule}"),
            (_, None) => format!("denied: no rule lets {subject} do anything here"),
        })?;
    }
    Ok(match allowed {
        true => Exit::Success,
        false => Exit::Denied,
    })
}

async fn add(args: AddUser) -> Result<Exit, Failure> {
    let mut signals = Signals::install()?;
    let password = match io::stdin().is_terminal() {
        true => {
            let silence = Silence::begin()?;
            let first = ask(&mut signals, &format!("Password for {}: ", args.name)).await?;
            let second = match first {
                Ok(_) => ask(&mut signals, "The same again: ").await?,
                Err(exit) => Err(exit),
            };
            drop(silence);
            match (first, second) {
                (Ok(first), Ok(second)) if first.expose() == second.expose() => first,
                (Ok(_), Ok(_)) => {
                    let message = "the two passwords differ, and nothing was changed";
                    return Err(Failure::new(Exit::Usage, message));
                }
                (Err(exit), _) | (_, Err(exit)) => return Ok(exit),
            }
        }
        false => match run_interruptibly(&mut signals, read_line).await? {
            Ok(password) => password?,
            Err(exit) => return Ok(exit),
        },
    };
    let (file, name) = (args.file.clone(), args.name.clone());
    let adding = run_interruptibly(&mut signals, move || add_user(&file, &name, &password));
    match adding.await? {
        Ok(added) => added.map_err(to_failure)?,
        Err(exit) => return Ok(exit),
    }
    announce(format!(
        "{} has the password in {}",
        args.name,
        args.file.display()
    ));
    Ok(Exit::Success)
}

/// Asks on the terminal. The inner error is the exit status after a signal.
async fn ask(signals: &mut Signals, question: &str) -> Result<Result<Secret, Exit>, Failure> {
    eprint!("{question}");
    let answer = run_interruptibly(signals, read_line).await?;
    // The line feed that was typed is not shown.
    eprintln!();
    answer.map_or_else(|exit| Ok(Err(exit)), |line| line.map(Ok))
}

/// Reads one line of stdin, without its line feed.
fn read_line() -> Result<Secret, Failure> {
    let unreadable = |why: &str| {
        Failure::new(
            Exit::File,
            format!("cannot read the password from stdin: {why}"),
        )
    };
    // With room for all of it: a text that grows leaves copies in memory.
    let mut line = String::with_capacity(MAX_INPUT_BYTES as usize);
    let mut input = io::stdin().lock().take(MAX_INPUT_BYTES);
    let read = input.read_line(&mut line);
    let line = Secret::new(line);
    read.map_err(|error| unreadable(&error.to_string()))?;
    let text = line.expose();
    let text = text.strip_suffix('\n').unwrap_or(text);
    match text.strip_suffix('\r').unwrap_or(text) {
        "" => Err(unreadable("there is none; write it there, as one line")),
        text => Ok(Secret::new(text.to_owned())),
    }
}

/// Keeps what is typed from being shown, until it is dropped.
struct Silence(Termios);

impl Silence {
    fn begin() -> Result<Self, Failure> {
        let failure = |error: rustix::io::Errno| {
            Failure::from_system("cannot hide what is typed", &error.into())
        };
        let before = tcgetattr(io::stdin()).map_err(failure)?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Flush, &silent).map_err(failure)?;
        Ok(Silence(before))
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        if let Err(error) = tcsetattr(io::stdin(), OptionalActions::Flush, &self.0) {
            say(format!(
                "the terminal does not show what is typed ({error}): run `stty echo`"
            ));
        }
    }
}

/// Makes the failure of a file that says who may do what.
pub fn to_failure(error: AccessError) -> Failure {
    let exit = match &error {
        AccessError::Refused { .. } => Exit::Usage,
        _ => Exit::Configuration,
    };
    Failure::new(exit, error.to_string())
}
