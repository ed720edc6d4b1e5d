//! `turnlock snapshot`: save everything that a coordinator has stored.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use serde_json::json;
use turnlock::etcd::{Config, EtcdBackend, Keyspace};
use turnlock::registry::Scheme;

use crate::cli::{Global, Snapshot};
use crate::coordinator::local::Home;
use crate::coordinator::{Choice, choose, refuse_in_process};
use crate::exit::{Exit, Failure, with_causes};
use crate::output::{print, print_json};

/// The longest time in which nothing comes of a snapshot.
const PIECE_TIMEOUT: Duration = Duration::from_secs(60);

/// A snapshot is a multiple of this long, in bytes, and ends with a sum.
const BLOCK: u64 = 512;
const SUM: usize = 32;

pub async fn snapshot(global: Global, args: Snapshot) -> Result<Exit, Failure> {
    let backend = open(global.backend.as_deref())?;
    let part = part_beside(&args.file);
    // The file is made anew, so it belongs to this user, and nobody else can read it.
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&part)
        .map_err(|error| to_file_failure(&part, &error))?;
    let saved = save(&backend, &part, file).await;
    let saved = saved.and_then(|saved| {
        std::fs::rename(&part, &args.file)
            .and_then(|()| sync_folder(&args.file))
            .map_err(|error| to_file_failure(&args.file, &error))?;
        Ok(saved)
    });
    let saved = saved.inspect_err(|_| {
        let _ = std::fs::remove_file(&part);
    })?;
    let file = args.file.display();
    match global.json {
        true => print_json(&json!({
            "file": file.to_string(),
            "bytes": saved.bytes,
            "revision": saved.revision,
        })),
        false => print(match saved.revision {
            Some(revision) => format!("{file}: {} bytes, revision {revision}", saved.bytes),
            None => format!("{file}: {} bytes", saved.bytes),
        }),
    }?;
    Ok(Exit::Success)
}

/// Opens a client of the chosen coordinator, which has to speak the API of etcd.
fn open(url: Option<&str>) -> Result<Arc<EtcdBackend>, Failure> {
    let url = match choose(url)? {
        Choice::Own => return Home::of_user()?.open(Keyspace::default()),
        Choice::Named(url, _) => url,
    };
    refuse_in_process(&url)?;
    if Scheme::of(&url).is_some_and(|scheme| scheme.feature == "zk") {
        let message = "ZooKeeper gives no snapshots to its clients";
        return Err(Failure::new(Exit::Configuration, message)
            .hint("copy the folders dataDir and dataLogDir of its servers"));
    }
    Ok(EtcdBackend::new(Config::from_url(&url)?)?)
}

/// A snapshot that was saved.
struct Saved {
    bytes: u64,
    /// The revision of the store, if the server tells it.
    revision: Option<i64>,
}

/// Saves a snapshot under this name.
async fn save(backend: &EtcdBackend, part: &Path, mut file: File) -> Result<Saved, Failure> {
    let failed = |error: &io::Error| to_file_failure(part, error);
    let mut client = backend.client().await?.maintenance_client();
    let pieces = client.snapshot().await;
    let mut pieces = pieces.map_err(|error| to_failure(&error))?;
    let mut saved = Saved {
        bytes: 0,
        revision: None,
    };
    loop {
        let piece = tokio::time::timeout(PIECE_TIMEOUT, pieces.message()).await;
        let piece = piece.map_err(|_| {
            let message = format!("nothing came for {} s", PIECE_TIMEOUT.as_secs());
            Failure::new(Exit::Unavailable, message)
        })?;
        let Some(piece) = piece.map_err(|error| to_failure(&error))? else {
            break;
        };
        file.write_all(piece.blob())
            .map_err(|error| failed(&error))?;
        saved.bytes += piece.blob().len() as u64;
        saved.revision = piece.header().map(|header| header.revision());
    }
    file.sync_all().map_err(|error| failed(&error))?;
    match is_whole(part, saved.bytes).map_err(|error| failed(&error))? {
        true => Ok(saved),
        false => {
            let message = "the coordinator sent a snapshot whose checksum is wrong";
            Err(Failure::new(Exit::Unavailable, message).hint("try again"))
        }
    }
}

/// Returns whether a snapshot ends with the sum of what is before.
fn is_whole(path: &Path, bytes: u64) -> io::Result<bool> {
    let Some(content) = bytes.checked_sub(SUM as u64) else {
        return Ok(false);
    };
    let mut file = File::open(path)?;
    let mut sum = Context::new(&SHA256);
    let mut buffer = vec![0; 256 * 1024];
    let mut left = content;
    while left > 0 {
        let wanted = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
        file.read_exact(&mut buffer[..wanted])?;
        sum.update(&buffer[..wanted]);
        left -= wanted as u64;
    }
    let mut found = [0; SUM];
    file.read_exact(&mut found)?;
    Ok(content.is_multiple_of(BLOCK) && found == sum.finish().as_ref())
}

/// Returns the name of a file while it is not complete: another one for each process, so that those
/// that save at the same time leave each other's alone.
fn part_beside(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    name.into()
}

fn sync_folder(file: &Path) -> io::Result<()> {
    let folder = file.parent().filter(|folder| *folder != Path::new(""));
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

fn to_file_failure(path: &Path, error: &io::Error) -> Failure {
    Failure::new(Exit::File, format!("{}: {error}", path.display()))
}

fn to_failure(error: &etcd_client::Error) -> Failure {
    const PERMISSION_DENIED: i32 = 7;
    const UNIMPLEMENTED: i32 = 12;
    const UNAUTHENTICATED: i32 = 16;
    let code = match error {
        etcd_client::Error::GRpcStatus(status) => i32::from(status.code()),
        _ => 0,
    };
    let exit = match code {
        PERMISSION_DENIED | UNAUTHENTICATED => Exit::Refused,
        UNIMPLEMENTED => Exit::Configuration,
        _ => Exit::Unavailable,
    };
    Failure::new(exit, format!("no snapshot: {}", with_causes(error)))
}
