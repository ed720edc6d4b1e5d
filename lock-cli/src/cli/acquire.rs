//! The arguments of the commands that take a lock, or work under one.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum, ValueHint};
use turnlock::Token;

use super::help::{
    APPEND_HELP, CHECK_HELP, EDIT_HELP, EDIT_USAGE, RUN_HELP, RUN_USAGE, WRITE_HELP,
};
use super::time::parse_seconds;
use crate::exit;

/// How to queue for a lock.
#[derive(Debug, Args)]
pub struct Acquire {
    /// Fail at once if the lock is not free
    #[arg(short = 'n', long, visible_alias = "nb", conflicts_with = "wait")]
    pub nonblock: bool,
    /// Fail if the lock is not acquired within this time: seconds such as 0.5, or 500ms, 5s, 2m, 1h
    #[arg(
        short = 'w',
        long = "wait",
        visible_alias = "timeout",
        value_name = "SECS",
        value_parser = parse_seconds
    )]
    pub wait: Option<Duration>,
    /// The exit status if the lock is not acquired
    #[arg(
        short = 'E',
        long = "conflict-exit-code",
        value_name = "CODE",
        default_value_t = exit::Exit::NotAcquired.code()
    )]
    pub conflict_exit_code: u8,
    /// How long the lock outlives this process if it dies, and how long this process can be cut off
    /// from the coordinator before it loses the lock
    #[arg(long, value_name = "SECS", value_parser = parse_seconds, default_value = "10")]
    pub ttl: Duration,
    /// A text that others in the queue see
    #[arg(long, value_name = "TEXT")]
    pub note: Option<OsString>,
    /// Use NAME verbatim as the etcd prefix or ZooKeeper path, to join a queue of other clients
    #[arg(long)]
    pub raw: bool,
}

/// Whether a command is wanted once.
#[derive(Debug, Args)]
pub struct OnceOptions {
    /// Do not run COMMAND if it has ended with status 0 under this KEY and this lock before; 80 if
    /// nobody knows how it has ended
    #[arg(long, value_name = "KEY")]
    pub once: Option<String>,
    /// Run COMMAND also if nobody knows how it has ended under the KEY before
    #[arg(long, requires = "once")]
    pub once_rerun_unknown: bool,
    /// How long the coordinator remembers a KEY after its command has ended
    #[arg(
        long,
        value_name = "SECS",
        value_parser = parse_seconds,
        default_value = "168h",
        requires = "once"
    )]
    pub once_for: Duration,
}

/// The rest of flock's flags. A flag that has no meaning here is refused with the reason, and not
/// mistaken for something else.
#[derive(Debug, Args)]
pub struct FlockFlags {
    /// Share the lock with other shared holders, as a reader does
    #[arg(short = 's', long, overrides_with = "exclusive")]
    pub shared: bool,
    /// Hold the lock alone, which is the default
    #[arg(short = 'x', short_alias = 'e', long, overrides_with = "shared")]
    pub exclusive: bool,
    /// Has no effect: a command never inherits what holds the lock
    #[arg(short = 'o', long)]
    pub close: bool,
    #[arg(short = 'u', long, hide = true)]
    pub unlock: bool,
    #[arg(short = 'F', long, hide = true)]
    pub no_fork: bool,
}

#[derive(Debug, Args)]
#[command(override_usage = RUN_USAGE, after_help = RUN_HELP)]
pub struct Run {
    #[command(flatten)]
    pub acquire: Acquire,
    #[command(flatten)]
    pub flags: FlockFlags,
    /// What to do when the lock is lost, or when it cannot be renewed and its deadline is near
    #[arg(long, value_enum, default_value_t = OnLost::Term)]
    pub on_lost: OnLost,
    /// The time between TERM and KILL, at most half of the --ttl [default: a fifth of the ttl that
    /// the coordinator grants]
    #[arg(long, value_name = "SECS", value_parser = parse_seconds)]
    pub grace: Option<Duration>,
    /// Keep the lock until everything that COMMAND started has ended, even in the background
    #[arg(long)]
    pub wait_all: bool,
    #[command(flatten)]
    pub once: OnceOptions,
    /// Run this text with $SHELL, or with /bin/sh if it is not set
    #[arg(
        short = 'c',
        long = "command",
        value_name = "TEXT",
        conflicts_with = "command"
    )]
    pub shell: Option<OsString>,
    /// The lock, or the path of a file
    pub name: OsString,
    /// The command and its arguments
    #[arg(
        trailing_var_arg = true,
        value_name = "COMMAND",
        value_hint = ValueHint::CommandWithArguments
    )]
    pub command: Vec<OsString>,
}

/// The arguments that `write`, `append` and `edit` have in common.
#[derive(Debug, Args)]
pub struct Change {
    #[command(flatten)]
    pub acquire: Acquire,
    /// Use this token for the change, and take no lock
    #[arg(long, value_name = "N")]
    pub token: Option<Token>,
    /// The lock, or the path of a file
    pub name: OsString,
    /// The file to change
    pub file: PathBuf,
}

#[derive(Debug, Args)]
#[command(after_help = WRITE_HELP)]
pub struct Write {
    #[command(flatten)]
    pub change: Change,
}

#[derive(Debug, Args)]
#[command(after_help = APPEND_HELP)]
pub struct Append {
    #[command(flatten)]
    pub change: Change,
}

#[derive(Debug, Args)]
#[command(override_usage = EDIT_USAGE, after_help = EDIT_HELP)]
pub struct Edit {
    #[command(flatten)]
    pub change: Change,
    /// The command, which reads the old content on stdin and prints the new one, and its arguments
    #[arg(
        trailing_var_arg = true,
        value_name = "COMMAND",
        value_hint = ValueHint::CommandWithArguments,
        required = true
    )]
    pub command: Vec<OsString>,
}

#[derive(Debug, Subcommand)]
pub enum Fence {
    /// Admit a token at the fence of FILE, and no lower one from then on; 79 if it is stale
    #[command(after_help = CHECK_HELP)]
    Check(Check),
}

#[derive(Debug, Args)]
pub struct Check {
    /// The token [default: that of the surrounding `turnlock run`]
    #[arg(long, value_name = "N")]
    pub token: Option<Token>,
    /// The file, or a path that stands for the resource; its mark lies beside it, as .FILE.fence
    pub file: PathBuf,
}

/// What to do with the command when its lock is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OnLost {
    /// Send TERM to everything that it started, then KILL before the deadline
    Term,
    /// Send KILL at once
    Kill,
    /// Only warn; the exit status is 76 all the same
    Ignore,
}

#[derive(Debug, Args)]
pub struct Hold {
    #[command(flatten)]
    pub acquire: Acquire,
    #[command(flatten)]
    pub flags: FlockFlags,
    /// Release the lock as soon as stdin ends, which it does when the script that feeds it is
    /// killed
    #[arg(long)]
    pub while_open: bool,
    /// The lock, or the path of a file
    pub name: OsString,
}
