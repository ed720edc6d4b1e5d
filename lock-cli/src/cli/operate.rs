//! The commands of those who look after locks and coordinators.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args};
use turnlock::Token;

use super::help::{LS_HELP, QUEUE_HELP, SERVE_HELP};
use super::time::seconds;

#[derive(Debug, Args)]
#[command(after_help = LS_HELP)]
pub struct Ls {
    /// Only locks whose names begin with this, or of files in this folder
    #[arg(default_value = "", hide_default_value = true)]
    pub prefix: OsString,
}

#[derive(Debug, Args)]
#[command(after_help = QUEUE_HELP)]
pub struct Queue {
    /// Use NAME verbatim as the etcd prefix or ZooKeeper path
    #[arg(long)]
    pub raw: bool,
    /// The lock, or the path of a file
    pub name: OsString,
}

#[derive(Debug, Args)]
pub struct Evict {
    /// Only the entry with this token, whether it holds or waits
    #[arg(long, value_name = "N")]
    pub token: Option<Token>,
    /// Use NAME verbatim as the etcd prefix or ZooKeeper path
    #[arg(long)]
    pub raw: bool,
    /// The lock, or the path of a file
    pub name: OsString,
}

#[derive(Debug, Args)]
pub struct Floor {
    /// Have every token from now on exceed N, which another coordinator printed. Lowers nothing
    #[arg(long, value_name = "N")]
    pub raise_to: Option<u64>,
}

#[derive(Debug, Args)]
#[command(after_help = SERVE_HELP)]
pub struct Serve {
    /// The folder to keep the data in [default: $TURNLOCK_HOME, or turnlock in the XDG state
    /// folder]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Where to listen: HOST:PORT on loopback, or unix:PATH [default: unix:DIR/turnlock.sock]
    #[arg(long, value_name = "ADDR", action = ArgAction::Append)]
    pub listen: Vec<String>,
    /// End after this many seconds without a session
    #[arg(long, value_name = "SECS", value_parser = seconds)]
    pub idle: Option<Duration>,
    /// Leave the caller's terminal
    #[arg(long, hide = true)]
    pub background: bool,
}
