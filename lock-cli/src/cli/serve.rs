//! The arguments of the commands that run and choose coordinators.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, Subcommand};

use super::help::{SERVE_HELP, SYSTEM_HELP};
use super::limits::{Limit, parse_limit};
use super::time::parse_seconds;
use crate::coordinator::machine;
use crate::service_manager::Inherited;

#[derive(Debug, Args)]
#[command(after_help = SERVE_HELP)]
pub struct Serve {
    /// The folder for the data [default: $TURNLOCK_HOME, or turnlock in the XDG state folder; if
    /// HOME is another user's, the home in the user database counts]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Where to listen: HOST:PORT, or unix:PATH [default: unix:DIR/turnlock.sock]. All users of this
    /// machine can use a HOST:PORT on loopback. One that other machines reach needs --tls-cert and
    /// --tls-key, and --client-ca or --rules
    #[arg(long, value_name = "ADDR", action = ArgAction::Append)]
    pub listen: Vec<String>,
    /// Let the users of this group use the sockets; the folders of the sockets must belong to this
    /// user, and the group must be able to enter them
    #[arg(long, value_name = "NAME", requires = "listen")]
    pub group: Option<String>,
    /// Serve all users of this machine. This is short for --data /var/lib/turnlock
    /// --listen unix:/run/turnlock/turnlock.sock --group turnlock
    #[arg(long, conflicts_with_all = ["data", "listen", "group"])]
    pub system: bool,
    /// Let clients do what the rules in this file allow, and nothing else. It is read again on SIGHUP,
    /// and when it changes; with a mistake in it, the former rules stay
    #[arg(long, value_name = "FILE")]
    pub rules: Option<PathBuf>,
    /// The users with passwords, as `turnlock rules add-user` writes them. It is read again like the
    /// rules
    #[arg(long, value_name = "FILE", requires = "rules")]
    pub users: Option<PathBuf>,
    /// Speak TLS on every HOST:PORT, with this certificate and those of its intermediate authorities,
    /// as PEM. This file and the next ones are read again on SIGHUP, and when they change
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// The private key of the certificate, as PEM; other users must not be able to read it
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Demand a certificate of every client, from one of the authorities in this file
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub client_ca: Option<PathBuf>,
    /// A list of revoked certificates of clients. With one, each authority of clients needs one
    #[arg(long, value_name = "FILE", requires = "client_ca", action = ArgAction::Append)]
    pub client_crl: Vec<PathBuf>,
    /// Take a HOST:PORT that other machines reach without protection: everybody who reaches it can take
    /// and break any lock, or with --rules read passwords. The log and `turnlock status` say so
    #[arg(long)]
    pub insecure: bool,
    /// Where to answer requests for metrics and probes over HTTP: /metrics, /livez, /readyz and
    /// /healthz. HOST:PORT or unix:PATH, best on loopback, such as 127.0.0.1:9464
    #[arg(long, value_name = "ADDR", action = ArgAction::Append)]
    pub metrics_listen: Vec<String>,
    /// Also give the metrics that the alerts and dashboards of etcd look for, under their names
    #[arg(long)]
    pub metrics_etcd_names: bool,
    /// How long answers under way may take after SIGTERM or SIGINT. Nobody waits for the holders of
    /// locks: they keep them over a restart
    #[arg(long, value_name = "SECS", value_parser = parse_seconds, default_value = "5")]
    pub drain: Duration,
    /// Set a limit of what clients can take; give it once for each. docs/limits.md has the names and
    /// what they bound. A number of bytes may have KiB, MiB or GiB behind it
    #[arg(long, value_name = "NAME=N", value_parser = parse_limit, action = ArgAction::Append)]
    pub limit: Vec<Limit>,
    /// Refuse a contender when this many are in the queue of its lock behind the first one
    #[arg(long, value_name = "N")]
    pub max_waiters: Option<usize>,
    /// End after this time without a session
    #[arg(long, value_name = "SECS", value_parser = parse_seconds)]
    pub idle: Option<Duration>,
    /// Leave the terminal of the caller
    #[arg(long, hide = true)]
    pub background: bool,
    /// The folder is used only by commands that name it
    #[arg(long, hide = true)]
    pub chosen_folder: bool,
    /// What a service manager has opened.
    #[arg(skip)]
    pub inherited: Inherited,
}

#[derive(Debug, Subcommand)]
pub enum System {
    /// Make all users of this machine use one coordinator (as root)
    #[command(after_help = SYSTEM_HELP)]
    Enable(Enable),
    /// Make every user of this machine use a coordinator of their own again (as root)
    Disable,
    /// Print the URL of the machine's coordinator, if there is one
    Show,
}

#[derive(Debug, Args)]
pub struct Enable {
    /// The URL of the coordinator
    #[arg(default_value = machine::DEFAULT_URL)]
    pub url: String,
}
