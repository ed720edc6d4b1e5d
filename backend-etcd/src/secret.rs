//! Passwords and keys: read from where they are kept, shown nowhere.

use std::fmt;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use lock_core::{Error, ErrorKind};
use zeroize::Zeroizing;

/// Largest file that is read: a system's bundle of CAs has a quarter of it.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// What must not be shown. Its memory is wiped when it is dropped.
#[derive(Clone)]
pub(crate) struct Secret(Zeroizing<String>);

impl Secret {
    pub(crate) fn new(text: String) -> Self {
        Secret(Zeroizing::new(text))
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Who may read a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Privacy {
    Public,
    /// Not everybody on this machine.
    Private,
}

/// The text of the file that a parameter of the URL names; not empty.
pub(crate) fn read(parameter: &str, path: &str, privacy: Privacy) -> Result<Secret, Error> {
    let unusable = |why: String| {
        Error::new(
            ErrorKind::Configuration,
            format!("the file {path:?} of the parameter {parameter:?} {why}"),
        )
    };
    let unreadable = |error: std::io::Error| {
        unusable(format!(
            "cannot be read ({error}): check the path, and that this user may read it"
        ))
        .with_source(error)
    };
    let path = Path::new(path);
    if !path.is_absolute() {
        return Err(unusable("is not an absolute path: write all of it".into()));
    }
    // To open anything else could wait for ever.
    if !fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(unusable("is not a plain file: name one".into()));
    }
    let file = File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if privacy == Privacy::Private && metadata.permissions().mode() & 0o007 != 0 {
        return Err(unusable(format!(
            "is open to every user of this machine: run `chmod o= {}`",
            path.display()
        )));
    }
    if metadata.len() > MAX_FILE_BYTES {
        return Err(unusable(format!(
            "has more than {MAX_FILE_BYTES} bytes: name the right one"
        )));
    }
    // With room for all of it: a text that grows leaves copies behind.
    let room = usize::try_from(metadata.len()).unwrap_or_default() + 1;
    let mut text = Zeroizing::new(String::with_capacity(room));
    file.take(MAX_FILE_BYTES)
        .read_to_string(&mut text)
        .map_err(unreadable)?;
    if text.trim().is_empty() {
        return Err(unusable(
            "is empty: write what is to be read into it".into(),
        ));
    }
    Ok(Secret(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(path: &Path, privacy: Privacy) -> String {
        let path = path.to_str().expect("UTF-8");
        let error = read("password_file", path, privacy).expect_err("must be refused");
        assert_eq!(error.kind(), ErrorKind::Configuration);
        let text = error.to_string();
        assert!(
            text.contains(path) && text.contains("password_file"),
            "{text}"
        );
        text
    }

    #[test]
    fn only_files_that_are_kept_well_are_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("secret");
        assert!(refused(&path, Privacy::Private).contains("check the path"));
        assert!(refused(folder.path(), Privacy::Private).contains("plain file"));
        assert!(refused(Path::new("secret"), Privacy::Private).contains("absolute"));

        fs::write(&path, "hunter2\n").expect("written");
        let mode = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode));
        mode(0o604).expect("allowed");
        let text = refused(&path, Privacy::Private);
        assert!(
            text.contains("chmod o=") && !text.contains("hunter2"),
            "{text}"
        );
        let name = path.to_str().expect("UTF-8");
        assert!(read("ca", name, Privacy::Public).is_ok());
        mode(0o640).expect("allowed");
        let secret = read("key", name, Privacy::Private).expect("kept well");
        assert_eq!(secret.expose(), "hunter2\n");
        assert_eq!(format!("{secret:?}"), "Secret(..)");

        fs::write(&path, " \n").expect("written");
        assert!(refused(&path, Privacy::Private).contains("empty"));
        fs::write(&path, [0xff]).expect("written");
        assert!(refused(&path, Privacy::Private).contains("UTF-8"));
    }
}
