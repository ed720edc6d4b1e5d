//! The commands of those who look after coordinators.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, Subcommand};

use super::help::{SERVE_HELP, SYSTEM_HELP};
use super::time::seconds;
use crate::coordinator::machine;

#[derive(Debug, Args)]
#[command(after_help = SERVE_HELP)]
pub struct Serve {
    /// The folder to keep the data in [default: $TURNLOCK_HOME, or turnlock in the XDG state
    /// folder, or in the one of the home that the database of users has, where HOME is another user's]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Where to listen: HOST:PORT on loopback, or unix:PATH [default: unix:DIR/turnlock.sock]
    #[arg(long, value_name = "ADDR", action = ArgAction::Append)]
    pub listen: Vec<String>,
    /// Let the users of this group use the sockets; their folders must be ours, and the group's to enter
    #[arg(long, value_name = "NAME", requires = "listen")]
    pub group: Option<String>,
    /// Serve all users of this machine: short for --data /var/lib/turnlock
    /// --listen unix:/run/turnlock/turnlock.sock --group turnlock
    #[arg(long, conflicts_with_all = ["data", "listen", "group"])]
    pub system: bool,
    /// End after this many seconds without a session
    #[arg(long, value_name = "SECS", value_parser = seconds)]
    pub idle: Option<Duration>,
    /// Leave the caller's terminal
    #[arg(long, hide = true)]
    pub background: bool,
    /// The folder is used by those who name it alone
    #[arg(long, hide = true)]
    pub chosen_folder: bool,
}

#[derive(Debug, Subcommand)]
pub enum System {
    /// Have all users of this machine use one coordinator (as root)
    #[command(after_help = SYSTEM_HELP)]
    Enable(Enable),
    /// Have every user of this machine use a coordinator of his own again (as root)
    Disable,
    /// Print the URL of the coordinator of this machine, if there is one
    Show,
}

#[derive(Debug, Args)]
pub struct Enable {
    /// The coordinator
    #[arg(default_value = machine::DEFAULT_URL)]
    pub url: String,
}
