//! Passwords and keys of the backends: read from files and the environment, and never shown.

use std::env;
use std::fmt;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use zeroize::Zeroizing;

use lock_core::{Error, ErrorKind};

/// The largest file that is read. A system's bundle of CAs has about a quarter of it.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// A text that must not be shown. Its memory is wiped when it is dropped.
///
/// # Examples
/// ```
/// use backend_kit::secret::Secret;
///
/// let password = Secret::new("hunter2".to_owned());
/// assert_eq!(format!("{password:?}"), "Secret(..)");
/// assert_eq!(password.expose(), "hunter2");
/// ```
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Wraps a text. Its memory is wiped, so no other copy may exist.
    pub fn new(text: String) -> Self {
        Secret(Zeroizing::new(text))
    }

    /// Returns the text. Do not keep or show it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Who may be able to read a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Privacy {
    /// Every user of this machine.
    Public,
    /// Its owner and its group only.
    Private,
}

/// Reads the file that a parameter of the URL names. It must not be empty, and have at most 1 MiB.
/// Blocks while it reads.
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
    // Opening anything else, such as a pipe, could block for ever.
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
    // With room for all of it: a text that grows leaves copies in memory.
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

/// Reads a PEM file like [`read`]. It must contain this label.
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
        return Err(config_error(format!(
            "the file {path:?} of the parameter {parameter:?} has no \"{label}\" in it: give a \
             PEM file"
        )));
    }
    Ok(text)
}

/// A user and the password that proves it to a coordinator.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// The name of the user.
    pub user: String,
    /// The password of the user.
    pub password: Secret,
}

/// Where the parameters of a URL say that the credentials are.
#[derive(Debug, Default)]
pub struct CredentialsSource {
    user: Option<String>,
    password_file: Option<String>,
    password_env: Option<String>,
}

impl CredentialsSource {
    /// The names of the parameters, for messages.
    pub const NAMES: &str = "user, password_file, password_env";

    /// Stores a parameter of the URL. Returns `None` if it is not one of these.
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

    /// Reads the password: from the file, or else from the environment variable that a parameter
    /// names, or else from `default_env`. Returns `None` if there is no user.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] names the parameter, file or variable that is wrong and the
    /// remedy.
    pub fn read(&self, default_env: &str) -> Result<Option<Credentials>, Error> {
        let Some(user) = self.user.clone() else {
            return match (&self.password_file, &self.password_env) {
                (None, None) => Ok(None),
                _ => Err(config_error(
                    "a password is given, but no user: give user=NAME too",
                )),
            };
        };
        if user.is_empty() {
            return Err(config_error("the parameter \"user\" is empty: give a name"));
        }
        let password = match (&self.password_file, &self.password_env) {
            (Some(_), Some(_)) => {
                return Err(config_error(
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
                // `env::var` panics on any other name.
                let valid = !variable.is_empty() && !variable.contains(['=', '\0']);
                let value = valid.then(|| env::var(variable).ok()).flatten();
                match value.filter(|value| !value.is_empty()) {
                    Some(value) => Secret::new(value),
                    None => {
                        return Err(config_error(format!(
                            "there is no password for the user {user:?} in the environment \
                             variable {variable:?}: set it, or give password_file=FILE"
                        )));
                    }
                }
            }
        };
        Ok(Some(Credentials { user, password }))
    }
}

fn config_error(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Configuration, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(path: &Path, privacy: Privacy) -> String {
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
    fn only_private_files_are_read_as_secrets() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("secret");
        assert!(refusal(&path, Privacy::Private).contains("check the path"));
        assert!(refusal(folder.path(), Privacy::Private).contains("plain file"));
        assert!(refusal(Path::new("secret"), Privacy::Private).contains("absolute"));

        fs::write(&path, "hunter2\n").expect("written");
        let mode = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode));
        mode(0o604).expect("allowed");
        let text = refusal(&path, Privacy::Private);
        assert!(
            text.contains("chmod o=") && !text.contains("hunter2"),
            "{text}"
        );
        let name = path.to_str().expect("UTF-8");
        assert!(read("ca", name, Privacy::Public).is_ok());
        mode(0o640).expect("allowed");
        let secret = read("key", name, Privacy::Private).expect("private");
        assert_eq!(secret.expose(), "hunter2\n");
        assert_eq!(format!("{secret:?}"), "Secret(..)");

        fs::write(&path, " \n").expect("written");
        assert!(refusal(&path, Privacy::Private).contains("empty"));
        fs::write(&path, [0xff]).expect("written");
        assert!(refusal(&path, Privacy::Private).contains("UTF-8"));
    }
}
