//! The arguments of the commands that inspect and repair queues.

use std::ffi::OsString;
use std::time::Duration;

use clap::Args;
use turnlock::Token;

#[cfg(feature = "top")]
use super::help::TOP_HELP;
use super::help::{LS_HELP, QUEUE_HELP, WATCH_HELP, WHY_HELP};
use super::time::parse_seconds;

#[derive(Debug, Args)]
#[command(after_help = LS_HELP)]
pub struct Ls {
    /// Only locks whose names begin with this, or locks of files in this folder
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
    /// Only the entry with this token, a holder or a waiter
    #[arg(long, value_name = "N")]
    pub token: Option<Token>,
    /// Use NAME verbatim as the etcd prefix or ZooKeeper path
    #[arg(long)]
    pub raw: bool,
    /// The lock, or the path of a file
    pub name: OsString,
}

#[derive(Debug, Args)]
pub struct TokenOffset {
    /// Make every later token exceed N, which another coordinator printed; this never lowers a
    /// token
    #[arg(long, value_name = "N")]
    pub raise_to: Option<u64>,
}

#[derive(Debug, Args)]
#[command(after_help = WHY_HELP)]
pub struct Why {
    /// The lock that is held longest while others wait for it, instead of NAME
    #[arg(long, conflicts_with_all = ["name", "raw"])]
    pub longest: bool,
    /// Use NAME verbatim as the etcd prefix or ZooKeeper path
    #[arg(long, requires = "name")]
    pub raw: bool,
    /// The lock, or the path of a file
    #[arg(required_unless_present = "longest")]
    pub name: Option<OsString>,
}

#[derive(Debug, Args)]
#[command(after_help = WATCH_HELP)]
pub struct Watch {
    /// Begin with those who hold or wait now
    #[arg(long)]
    pub initial: bool,
    /// Time between two readings of the queues, in seconds, or with a unit (ms, s, m, h)
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds, default_value = "1")]
    pub interval: Duration,
    /// Only locks whose names begin with this, or locks of files in this folder
    #[arg(default_value = "", hide_default_value = true)]
    pub prefix: OsString,
}

#[cfg(feature = "top")]
#[derive(Debug, Args)]
#[command(after_help = TOP_HELP)]
pub struct Top {
    /// Time between two readings of the queues, in seconds, or with a unit (ms, s, m, h)
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds, default_value = "1")]
    pub interval: Duration,
    /// Only locks whose names begin with this, or locks of files in this folder
    #[arg(default_value = "", hide_default_value = true)]
    pub prefix: OsString,
}
