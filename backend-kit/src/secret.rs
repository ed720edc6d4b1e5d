//! Passwords and keys, for the backends: read from where they are kept, shown nowhere.

use std::env;
use std::fmt;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use zeroize::Zeroizing;

use lock_core::{Error, ErrorKind};

/// Largest file that is read: a system's bundle of CAs has a quarter of it.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// What must not be shown. Its memory is wiped when it is dropped.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// From a text whose memory is ours to wipe.
    pub fn new(text: String) -> Self {
        Secret(Zeroizing::new(text))
    }

    /// What it is. Do not keep or show it.
    pub fn expose(&self) -> &str {
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
pub enum Privacy {
    /// Whoever likes.
    Public,
    /// Not everybody on this machine.
    Private,
}

/// The text of the file that a parameter of the URL names; not empty, and at most 1 MiB. Blocks
/// while it reads.
///
/// # Errors
/// [`ErrorKind::Configuration`] names the parameter, the file and the remedy: the path is not
/// absolute, it is no plain file, too large, empty, not UTF-8, or open to everybody although it is
/// to be private.
pub fn read(parameter: &str, path: &str, privacy: Privacy) -> Result<Secret, Error> {
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

/// As [`read`], of a PEM file that must have this label in it.
///
/// # Errors
/// As [`read`].
pub fn read_pem(
    parameter: &str,
    path: &str,
    label: &str,
    privacy: Privacy,
) -> Result<Secret, Error> {
    let text = read(parameter, path, privacy)?;
    if !text.expose().contains(label) {
        return Err(wrong(format!(
            "the file {path:?} of the parameter {parameter:?} has no \"{label}\" in it: give a PEM file"
        )));
    }
    Ok(text)
}

/// Who we are to a coordinator.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// The name.
    pub user: String,
    /// What proves it.
    pub password: Secret,
}

/// Where a URL says that credentials are.
#[derive(Debug, Default)]
pub struct CredentialsSource {
    user: Option<String>,
    password_file: Option<String>,
    password_env: Option<String>,
}

impl CredentialsSource {
    /// The names of the parameters, for messages.
    pub const NAMES: &str = "user, password_file, password_env";

    /// Takes a parameter of the URL, if it is one of these.
    pub fn take(&mut self, name: &str, value: &str) -> Option<()> {
        let slot = match name {
            "user" => &mut self.user,
            "password_file" => &mut self.password_file,
            "password_env" => &mut self.password_env,
            _ => return None,
        };
        *slot = Some(value.to_owned());
        Some(())
    }

    /// Reads the password: from the file, or else from the environment variable named, or else
    /// from `default_env`. `None` if there is no user.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] names the parameter, file or variable that is wrong and the
    /// remedy.
    pub fn read(&self, default_env: &str) -> Result<Option<Credentials>, Error> {
        let Some(user) = self.user.clone() else {
            return match (&self.password_file, &self.password_env) {
                (None, None) => Ok(None),
                _ => Err(wrong(
                    "a password is given, but no user: give user=NAME too",
                )),
            };
        };
        if user.is_empty() {
            return Err(wrong("the parameter \"user\" is empty: give a name"));
        }
        let password = match (&self.password_file, &self.password_env) {
            (Some(_), Some(_)) => {
                return Err(wrong(
                    "both password_file and password_env are given: give one of them",
                ));
            }
            (Some(path), None) => {
                let text = read("password_file", path, Privacy::Private)?;
                // Editors end files with a line feed.
                let line = text.expose();
                let line = line.strip_suffix('\n').unwrap_or(line);
                Secret::new(line.strip_suffix('\r').unwrap_or(line).to_owned())
            }
            (None, variable) => {
                let variable = variable.as_deref().unwrap_or(default_env);
                // Others would panic.
                let valid = !variable.is_empty() && !variable.contains(['=', '\0']);
                let value = valid.then(|| env::var(variable).ok()).flatten();
                match value.filter(|value| !value.is_empty()) {
                    Some(value) => Secret::new(value),
                    None => {
                        return Err(wrong(format!(
                            "there is no password for the user {user:?} in the environment variable {variable:?}: set it, or give password_file=FILE"
                        )));
                    }
                }
            }
        };
        Ok(Some(Credentials { user, password }))
    }
}

fn wrong(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Configuration, message)
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
