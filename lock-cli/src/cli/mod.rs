//! The command line: one definition gives the parser, the help, the completions and the manual
//! pages.

mod acquire;
#[cfg(feature = "embedded")]
mod backup;
#[cfg(feature = "bench")]
mod bench;
mod help;
#[cfg(feature = "embedded")]
pub mod limits;
mod operate;
pub mod packaging;
#[cfg(feature = "embedded")]
mod rules;
#[cfg(feature = "embedded")]
mod serve;
mod time;
#[cfg(feature = "conformance")]
mod trial;

use clap::{Args, Parser, Subcommand};

pub use self::acquire::{
    Acquire, Append, Change, Check, Edit, Fence, FlockFlags, Hold, OnLost, OnceOptions, Run, Write,
};
#[cfg(feature = "embedded")]
pub use self::backup::{Restore, Snapshot};
#[cfg(feature = "bench")]
pub use self::bench::Bench;
#[cfg(feature = "top")]
pub use self::operate::Top;
pub use self::operate::{Evict, Ls, Queue, TokenOffset, Watch, Why};
#[cfg(feature = "embedded")]
pub use self::rules::{AddUser, Rules, RulesCheck};
#[cfg(feature = "embedded")]
pub use self::serve::{Enable, Serve, System};
#[cfg(feature = "conformance")]
pub use self::trial::Conformance;

use crate::log;

use self::help::{ABOUT, EVICT_HELP, HOLD_HELP, TOKEN_OFFSET_HELP, after_help, after_long_help};

#[derive(Debug, Parser)]
#[command(
    name = "turnlock",
    version,
    about = ABOUT,
    after_help = after_help(),
    after_long_help = after_long_help(),
    max_term_width = 100
)]
#[command(args_override_self = true, propagate_version = true)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Args)]
pub struct Global {
    /// The coordinator: etcd://HOST[:PORT][,...] or zk://HOST[:PORT][,...][/CHROOT], the same with
    /// etcds:// or zks:// for TLS, or etcd+unix:///SOCKET [default: the machine's, if it has one,
    /// or else your own, which is started when it is needed]
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "TURNLOCK_BACKEND",
        hide_env_values = true
    )]
    pub backend: Option<String>,
    /// Print JSON, one object per line; tokens are strings
    #[arg(long, global = true)]
    pub json: bool,
    /// Say on stderr who is waited for, how long it took, and when the lock is released
    #[arg(short = 'v', long, global = true, overrides_with = "quiet")]
    pub verbose: bool,
    /// Say only errors on stderr; only the exit status says that somebody else has the lock
    #[arg(short = 'q', long, global = true, overrides_with = "verbose")]
    pub quiet: bool,
    /// Write stderr as text for people, or as JSON, one object per line
    #[arg(
        long,
        global = true,
        value_name = "FORMAT",
        env = "TURNLOCK_LOG_FORMAT",
        hide_env_values = true
    )]
    pub log_format: Option<log::Format>,
    /// Also say on stderr what happens to locks and sessions, from this level on [default: off, or
    /// info with --log-format json]
    #[arg(
        long,
        global = true,
        value_name = "LEVEL",
        env = "TURNLOCK_LOG",
        hide_env_values = true
    )]
    pub log_level: Option<log::Level>,
    /// An id that all JSON lines on stderr have, to join them with those of others [default: the
    /// id of the trace, or a random one]
    #[arg(
        long,
        global = true,
        value_name = "ID",
        env = "TURNLOCK_CORRELATION_ID",
        hide_env_values = true,
        value_parser = parse_id
    )]
    pub correlation_id: Option<String>,
    /// The tenant that all JSON lines on stderr name
    #[arg(
        long,
        global = true,
        value_name = "ID",
        env = "TURNLOCK_TENANT",
        hide_env_values = true,
        value_parser = parse_id
    )]
    pub tenant: Option<String>,
}

/// The longest id that lines of the log are given, in bytes.
const MAX_ID_BYTES: usize = 128;

fn parse_id(text: &str) -> Result<String, String> {
    match text.len() {
        ..=MAX_ID_BYTES => Ok(text.to_owned()),
        len => Err(format!("{len} bytes; at most {MAX_ID_BYTES} are allowed")),
    }
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a command under a lock
    Run(Run),
    /// Hold a lock until a signal comes, or until stdin ends
    #[command(after_help = HOLD_HELP)]
    Hold(Hold),
    /// Replace a file with the content of stdin, under a lock
    Write(Write),
    /// Append the content of stdin to a file, all of it or nothing, under a lock
    Append(Append),
    /// Pass a file through a command, under a lock
    Edit(Edit),
    /// Check a token at the resource that it protects
    #[command(subcommand)]
    Fence(Fence),
    /// List the locks that somebody holds or waits for
    Ls(Ls),
    /// Show who holds a lock and who waits for it, in order
    Queue(Queue),
    /// Say why a lock is not free: its holder, whom each waiter waits for, and any deadlock
    Why(Why),
    /// Print what happens to locks, as it happens
    Watch(Watch),
    /// Show the locks in use in a live view
    #[cfg(feature = "top")]
    Top(Top),
    /// Take a lock away from its holder, or remove a waiter from the queue
    #[command(after_help = EVICT_HELP)]
    Evict(Evict),
    /// Print a number that no token exceeds so far, or make all later tokens exceed a number
    #[command(after_help = TOKEN_OFFSET_HELP)]
    TokenOffset(TokenOffset),
    /// Measure what locks cost on a coordinator
    #[cfg(feature = "bench")]
    Bench(Bench),
    /// Check that a coordinator keeps the promises of locks, without harm to its users
    #[cfg(feature = "conformance")]
    Conformance(Conformance),
    /// Run a coordinator in the foreground, behind the etcd v3 API
    ///
    /// Every user who can reach its socket or port can take and break all locks, unless --rules says
    /// who may do what. On a TCP port, that is every user of this machine.
    #[cfg(feature = "embedded")]
    Serve(Box<Serve>),
    /// Say who may do what on a coordinator that has rules
    #[cfg(feature = "embedded")]
    #[command(subcommand)]
    Rules(Rules),
    /// Save everything that a coordinator has stored to a file
    #[cfg(feature = "embedded")]
    Snapshot(Snapshot),
    /// Make a folder for `turnlock serve` from a snapshot, with higher tokens than ever given
    #[cfg(feature = "embedded")]
    Restore(Restore),
    /// Stop your own coordinator on this machine
    #[cfg(feature = "embedded")]
    Stop,
    /// Show which coordinator is used, what decided that, whether it replies, and how it does
    Status,
    /// Print the metrics of a coordinator on this machine, in the text format of Prometheus
    #[cfg(feature = "embedded")]
    Metrics,
    /// Choose one coordinator for all users of this machine
    #[cfg(feature = "embedded")]
    #[command(subcommand)]
    System(System),
    /// Print the completion script for bash, zsh or fish
    Completions(packaging::Completions),
    /// Print the manual page of a command, or write all of them
    Man(packaging::Man),
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_command_may_have_options_of_its_own() {
        for line in [
            &["turnlock", "run", "-n", "a", "--", "ls", "-n", "--wait"][..],
            &["turnlock", "run", "-n", "a", "ls", "-n", "--wait"],
        ] {
            let Command::Run(run) = Cli::parse_from(line).command else {
                panic!("not run")
            };
            assert!(run.acquire.nonblock);
            assert_eq!(run.command, ["ls", "-n", "--wait"]);
        }
    }
}
