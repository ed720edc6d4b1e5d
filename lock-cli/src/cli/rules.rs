//! The arguments of the commands on the files that say who may do what.

use std::ffi::OsString;
use std::path::PathBuf;

use backend_embedded::server::access::{Right, SubjectName};
use clap::{Args, Subcommand};

use super::help::{ADD_USER_HELP, RULES_CHECK_HELP};

#[derive(Debug, Subcommand)]
pub enum Rules {
    /// Say whether a file of rules lets somebody do something, and which rule decides
    #[command(after_help = RULES_CHECK_HELP)]
    Check(RulesCheck),
    /// Add a user to a file of users, or give a user another password
    #[command(after_help = ADD_USER_HELP)]
    AddUser(AddUser),
}

#[derive(Debug, Args)]
pub struct RulesCheck {
    /// The file, as `turnlock serve --rules` gets it
    pub file: PathBuf,
    /// Who: user:NAME, or cn:NAME, dns:NAME or uri:URI of a certificate. Several are the names of one
    /// certificate
    #[arg(long = "as", value_name = "SUBJECT", required = true)]
    pub subjects: Vec<SubjectName>,
    /// What: read, lock or admin
    #[arg(long = "do", value_name = "RIGHT", value_parser = parse_right)]
    pub right: Right,
    /// The namespace of the lock
    #[arg(long, value_name = "NAME", default_value = "turnlock", conflicts_with_all = ["raw", "key"])]
    pub namespace: String,
    /// Use NAME verbatim as the etcd prefix
    #[arg(long, conflicts_with = "key")]
    pub raw: bool,
    /// NAME is one key of the store
    #[arg(long)]
    pub key: bool,
    /// The lock, or the path of a file
    pub name: OsString,
}

#[derive(Debug, Args)]
pub struct AddUser {
    /// The file, as `turnlock serve --users` gets it
    pub file: PathBuf,
    /// The name of the user
    pub name: String,
}

fn parse_right(text: &str) -> Result<Right, String> {
    match text {
        "read" => Ok(Right::Read),
        "lock" => Ok(Right::Lock),
        "admin" => Ok(Right::Admin),
        _ => Err("it is read, lock or admin".to_owned()),
    }
}
