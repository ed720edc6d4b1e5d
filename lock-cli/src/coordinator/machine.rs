//! Reads and writes the choice of the machine's coordinator: one for all its users, if root
//! configures it in a file.
//!
//! Only the file decides, and not whether a socket replies. A command that used its user's own
//! coordinator while the machine's is down would let two holders run at once.

use std::fs::{self, File};
#[cfg(feature = "embedded")]
use std::io::Write;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use turnlock::registry::{SCHEMES, Scheme};

use crate::exit::{Exit, Failure};

/// The URL of the coordinator that `turnlock serve --system` runs.
#[cfg(feature = "embedded")]
pub const DEFAULT_URL: &str = "etcd+unix:///run/turnlock/turnlock.sock";
/// The file with the URL of the coordinator that all users of the machine use, in one line.
pub const FILE: &str = "/etc/turnlock/backend";
/// The longest file that is accepted.
const MAX_BYTES: u64 = 4096;

/// Returns the URL in the file, if there is one, as a client needs it.
///
/// # Errors
/// A file that cannot be read, is malformed, or could be written by others than root: to go on
/// without it could split every lock of the machine in two.
pub fn url() -> Result<Option<String>, Failure> {
    Ok(read_url()?.map(|line| with_server(&line)))
}

/// Returns the URL in the file, as it is written there.
///
/// # Errors
/// As [`url`].
pub fn read_url() -> Result<Option<String>, Failure> {
    let text = match read(Path::new(FILE)) {
        Ok(Some(text)) => text,
        Ok(None) => return Ok(None),
        Err(why) => return Err(to_failure(&why)),
    };
    let line = parse_url(&text).map_err(|why| to_failure(&why))?;
    Ok(Some(line.to_owned()))
}

/// Parses the text of the file.
///
/// # Errors
/// A description of the mistake in the text.
pub fn parse_url(text: &str) -> Result<&str, String> {
    let line = text.trim();
    if line.is_empty() || line.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err("it is not one line with one URL".to_owned());
    }
    // A coordinator inside one process is no coordinator of the machine.
    let shared = || SCHEMES.iter().filter(|scheme| !scheme.in_process);
    let begins = |scheme: &Scheme| line.starts_with(&format!("{}://", scheme.name));
    if !shared().any(begins) {
        let names: Vec<_> = shared()
            .map(|scheme| format!("{}://", scheme.name))
            .collect();
        return Err(format!(
            "it does not begin with one of {}",
            names.join(", ")
        ));
    }
    Ok(line)
}

fn read(path: &Path) -> Result<Option<String>, String> {
    let failed = |error: io::Error| error.to_string();
    // On some systems a setting is a link to where it is made. The owner of its target counts.
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(failed)?,
    };
    let root = fs::metadata("/").map_err(failed)?.uid();
    let folder = path.parent().unwrap_or(Path::new("/"));
    for (what, metadata) in [
        ("it", file.metadata()),
        ("its folder", fs::metadata(folder)),
    ] {
        let metadata = metadata.map_err(failed)?;
        if ![0, root].contains(&metadata.uid()) || metadata.permissions().mode() & 0o022 != 0 {
            return Err(format!("others than root can write {what}"));
        }
    }
    let mut text = String::new();
    let read = file.take(MAX_BYTES + 1).read_to_string(&mut text);
    match read.map_err(failed)? as u64 > MAX_BYTES {
        true => Err(format!("it has more than {MAX_BYTES} bytes")),
        false => Ok(Some(text)),
    }
}

/// Returns the path of the socket that a URL names, if it names one.
pub fn socket_path(url: &str) -> Option<&Path> {
    let place = url.strip_prefix("etcd+unix://")?;
    let place = place.split_once('?').map_or(place, |(place, _)| place);
    // A path with escapes is left to the parser of URLs.
    (!place.contains('%')).then(|| Path::new(place))
}

/// Writes the URL into the file atomically and durably.
#[cfg(feature = "embedded")]
pub fn write(url: &str) -> io::Result<()> {
    let folder = folder();
    if !folder.exists() {
        fs::create_dir(folder)?;
        fs::set_permissions(folder, PermissionsExt::from_mode(0o755))?;
    }
    let draft = folder.join(format!(".backend.{}", std::process::id()));
    let written = File::create(&draft).and_then(|mut file| {
        file.write_all(format!("{url}\n").as_bytes())?;
        file.set_permissions(PermissionsExt::from_mode(0o644))?;
        file.sync_all()?;
        fs::rename(&draft, FILE)
    });
    if written.is_err() {
        let _ = fs::remove_file(&draft);
    }
    written.and_then(|()| File::open(folder)?.sync_all())
}

/// Removes the file durably.
#[cfg(feature = "embedded")]
pub fn remove() -> io::Result<()> {
    fs::remove_file(FILE)?;
    File::open(folder())?.sync_all()
}

#[cfg(feature = "embedded")]
fn folder() -> &'static Path {
    Path::new(FILE).parent().unwrap_or(Path::new("/"))
}

/// Adds the user who may serve the socket to its URL: the owner of its folder. Root chose that
/// folder.
pub fn with_server(url: &str) -> String {
    let folder = socket_path(url).and_then(Path::parent);
    let owner = folder.and_then(|folder| fs::metadata(folder).ok());
    match owner {
        Some(owner) if !url.contains("server_uid=") => {
            let mark = if url.contains('?') { '&' } else { '?' };
            format!("{url}{mark}server_uid={}", owner.uid())
        }
        _ => url.to_owned(),
    }
}

fn to_failure(why: &str) -> Failure {
    let message = format!("{FILE}, which says which coordinator this machine uses: {why}");
    Failure::new(Exit::Configuration, message)
        .hint("have root mend it: `turnlock system enable` writes it anew")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_one_url() {
        assert_eq!(parse_url("etcd+unix:///run/s\n"), Ok("etcd+unix:///run/s"));
        for wrong in [
            "",
            "\n",
            "etcd://a\netcd://b",
            "etcd://a b",
            "embedded:memory",
            "/run/s",
        ] {
            assert!(parse_url(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn the_owner_of_the_sockets_folder_may_serve_the_socket() {
        for (url, expected) in [
            ("etcd+unix:///s", "etcd+unix:///s?server_uid=0"),
            (
                "etcd+unix:///s?namespace=a",
                "etcd+unix:///s?namespace=a&server_uid=0",
            ),
            ("etcd+unix:///s?server_uid=7", "etcd+unix:///s?server_uid=7"),
            ("etcd+unix:///no/such/s", "etcd+unix:///no/such/s"),
            ("etcd://h", "etcd://h"),
        ] {
            // The root folder is root's.
            assert_eq!(with_server(url), expected);
        }
    }
}
