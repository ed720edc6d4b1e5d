//! The arguments of the commands that save a coordinator and bring it back.

use std::path::PathBuf;

use clap::Args;

use super::help::{RESTORE_HELP, SNAPSHOT_HELP};

#[derive(Debug, Args)]
#[command(after_help = SNAPSHOT_HELP)]
pub struct Snapshot {
    /// The file to write; one that exists is replaced when the snapshot is complete
    pub file: PathBuf,
}

#[derive(Debug, Args)]
#[command(after_help = RESTORE_HELP)]
pub struct Restore {
    /// The snapshot; - is stdin
    pub file: PathBuf,
    /// The folder for the data, as `turnlock serve --data` gets it; there must be no store in it
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
}
