//! `turnlock restore`: make the data of a coordinator from a snapshot.

use std::fs::File;
use std::io;
use std::path::Path;

use backend_embedded::snapshot::{RestoreError, Restored, restore as restore_into};
use rustix::fs::Mode;
use serde_json::json;

use crate::child::Signals;
use crate::cli::{Global, Restore};
use crate::commands::blocking::run_interruptibly;
use crate::coordinator::folder;
use crate::coordinator::local::Home;
use crate::exit::{Exit, Failure};
use crate::log::format_utc;
use crate::output::{format_duration, print, print_json};

pub async fn restore(global: Global, args: Restore) -> Result<Exit, Failure> {
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
    let home = Home::at(&args.data)?;
    folder::require_safe(home.dir())?;
    let dir = home.dir().to_owned();
    let mut signals = Signals::install()?;
    let file = args.file.clone();
    let restoring = run_interruptibly(&mut signals, move || read_and_restore(&file, &dir));
    let restored = match restoring.await? {
        Ok(restored) => restored?,
        Err(exit) => return Ok(exit),
    };
    match global.json {
        true => print_json(&to_json(&restored)),
        false => print(to_text(&restored, home.dir())),
    }?;
    Ok(Exit::Success)
}

fn read_and_restore(file: &Path, dir: &Path) -> Result<Restored, Failure> {
    let restored = match file == Path::new("-") {
        true => restore_into(io::stdin().lock(), dir),
        false => match File::open(file) {
            Ok(snapshot) => restore_into(snapshot, dir),
            Err(error) => Err(RestoreError::Read(error)),
        },
    };
    restored.map_err(|error| to_failure(file, &error))
}

fn to_failure(file: &Path, error: &RestoreError) -> Failure {
    match error {
        RestoreError::StoreExists { .. }
        | RestoreError::ClockBehind { .. }
        | RestoreError::Folder(_) => Failure::new(Exit::Configuration, error.to_string()),
        _ => Failure::new(Exit::File, format!("{}: {error}", file.display())),
    }
}

fn to_text(restored: &Restored, dir: &Path) -> String {
    let mut text = format!(
        "restored {} keys as of {} into {}\nlater tokens are above {}, apart from the offset of \
         their namespace",
        restored.keys,
        format_utc(restored.taken_at),
        dir.display(),
        restored.revision
    );
    if restored.leases > 0 {
        text.push_str(&format!(
            "\n{} sessions of then cannot be continued: their locks are free {} after the start at \
             the latest",
            restored.leases,
            format_duration(restored.longest_ttl)
        ));
    }
    text.push_str(
        "\nlocks that were taken after the snapshot are not in it: start the server when the longest \
         time to live in use has passed since the former one ended",
    );
    text
}

fn to_json(restored: &Restored) -> serde_json::Value {
    json!({
        "taken_at": format_utc(restored.taken_at),
        "snapshot_revision": restored.snapshot_revision,
        "revision": restored.revision,
        "keys": restored.keys,
        "sessions": restored.leases,
        "longest_ttl_ms": u64::try_from(restored.longest_ttl.as_millis()).unwrap_or(u64::MAX),
    })
}
