//! The file of users, with what their passwords are checked against.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::num::NonZeroU32;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::Path;

use aws_lc_rs::pbkdf2::{self, PBKDF2_HMAC_SHA256};
use aws_lc_rs::rand;
use backend_kit::secret::Secret;
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use super::AccessError;
use super::file::{self, Readers, Version};

/// The shortest password, in characters.
pub const MIN_PASSWORD_CHARS: usize = 12;

/// The longest password, in bytes.
pub(super) const MAX_PASSWORD_BYTES: usize = 1024;

/// The longest name of a user, in bytes.
const MAX_USER_BYTES: usize = 255;

/// The most users of a file.
const MAX_USERS: usize = 10_000;

/// The rounds of a new record. It makes a guess cost some tenths of a second.
const ROUNDS: u32 = 600_000;

/// The fewest and the most rounds of a record that is read: fewer are no protection, and more would
/// keep the server busy for seconds.
const ROUNDS_READ: std::ops::RangeInclusive<u32> = 100_000..=10_000_000;

const SALT_BYTES: usize = 16;
const HASH_BYTES: usize = 32;
const SCHEME: &str = "pbkdf2-sha256";

/// What a password is checked against.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Record {
    rounds: NonZeroU32,
    salt: Vec<u8>,
    hash: [u8; HASH_BYTES],
}

// A record is no password, but it lets others try them out.
impl std::fmt::Debug for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Record(..)")
    }
}

impl Record {
    /// Returns the record of a password. Returns `None` if the system gives no random bytes. Blocks for
    /// some tenths of a second.
    pub(super) fn new(password: &Secret) -> Option<Record> {
        let mut salt = vec![0; SALT_BYTES];
        rand::fill(&mut salt).ok()?;
        let rounds = NonZeroU32::new(ROUNDS)?;
        let mut hash = [0; HASH_BYTES];
        let secret = password.expose().as_bytes();
        pbkdf2::derive(PBKDF2_HMAC_SHA256, rounds, &salt, secret, &mut hash);
        Some(Record { rounds, salt, hash })
    }

    /// Returns a record that no password matches, which takes as long to check as any other.
    pub(super) fn unmatched() -> Record {
        Record {
            rounds: const { NonZeroU32::new(ROUNDS).unwrap() },
            salt: vec![0; SALT_BYTES],
            hash: [0; HASH_BYTES],
        }
    }

    /// Returns whether this is the password. Blocks for some tenths of a second.
    pub(super) fn matches(&self, password: &Secret) -> bool {
        let secret = password.expose().as_bytes();
        pbkdf2::verify(
            PBKDF2_HMAC_SHA256,
            self.rounds,
            &self.salt,
            secret,
            &self.hash,
        )
        .is_ok()
    }

    /// Parses `$pbkdf2-sha256$i=ROUNDS$SALT$HASH`.
    fn parse(text: &str) -> Option<Record> {
        let mut parts = text.strip_prefix('$')?.split('$');
        let (scheme, rounds) = (parts.next()?, parts.next()?);
        let (salt, hash) = (parts.next()?, parts.next()?);
        if scheme != SCHEME || parts.next().is_some() {
            return None;
        }
        let rounds: u32 = rounds.strip_prefix("i=")?.parse().ok()?;
        let salt = STANDARD_NO_PAD.decode(salt).ok()?;
        if !ROUNDS_READ.contains(&rounds) || salt.len() < SALT_BYTES {
            return None;
        }
        Some(Record {
            rounds: NonZeroU32::new(rounds)?,
            salt,
            hash: STANDARD_NO_PAD.decode(hash).ok()?.try_into().ok()?,
        })
    }

    pub(super) fn to_text(&self) -> String {
        let Record { rounds, salt, hash } = self;
        let (salt, hash) = (STANDARD_NO_PAD.encode(salt), STANDARD_NO_PAD.encode(hash));
        format!("${SCHEME}$i={rounds}${salt}${hash}")
    }
}

/// The users of a file: a line each, with the name, a colon, and a record of the password.
#[derive(Debug, Default)]
pub(super) struct Users(BTreeMap<String, Record>);

impl Users {
    /// Reads a file. Blocks while it reads.
    pub(super) fn read(path: &Path) -> Result<(Users, Version), AccessError> {
        let (text, version) = file::read(path, Readers::OwnerAndGroup)?;
        let users =
            Users::parse(text.expose()).map_err(|(line, fault)| AccessError::Malformed {
                path: path.to_owned(),
                line,
                fault,
            })?;
        Ok((users, version))
    }

    pub(super) fn parse(text: &str) -> Result<Users, (usize, String)> {
        let mut users = Users::default();
        for (index, line) in text.lines().enumerate() {
            let fault = |fault: String| (index + 1, fault);
            let line = line.trim_end();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (name, record) = line.split_once(':').unwrap_or((line, ""));
            check_user(name).map_err(fault)?;
            let record = Record::parse(record).ok_or_else(|| {
                fault(format!(
                    "the user {name:?} has no password that can be checked; remove the line, and \
                     run `turnlock rules add-user`"
                ))
            })?;
            if users.0.insert(name.to_owned(), record).is_some() {
                return Err(fault(format!(
                    "the user {name:?} is there twice; remove a line"
                )));
            }
            if users.0.len() > MAX_USERS {
                return Err(fault(format!("there are more than {MAX_USERS} users")));
            }
        }
        Ok(users)
    }

    pub(super) fn find(&self, name: &str) -> Option<&Record> {
        self.0.get(name)
    }
}

fn check_user(name: &str) -> Result<(), String> {
    let is_valid = !name.is_empty()
        && name.len() <= MAX_USER_BYTES
        && !name.starts_with('#')
        && !name.contains(|c: char| c.is_control() || c.is_whitespace() || c == ':');
    match is_valid {
        true => Ok(()),
        false => Err(format!(
            "{:?} is no name of a user; use 1 to {MAX_USER_BYTES} bytes without spaces, colons and \
             control characters, and no # at the start",
            name.chars().take(80).collect::<String>()
        )),
    }
}

/// Adds a user to a file of users, which is made if there is none, or gives a user another password.
/// The file is replaced in one step. Blocks for some tenths of a second.
///
/// # Errors
/// [`AccessError::Refused`] if the name breaks a rule, or if the password is shorter than
/// [`MIN_PASSWORD_CHARS`]; [`AccessError::Unsafe`] and [`AccessError::Malformed`] if the present
/// file cannot be trusted; [`AccessError::Unreadable`] if the system refuses to read or write it.
///
/// # Examples
/// ```
/// use backend_embedded::server::access::add_user;
/// use backend_kit::secret::Secret;
///
/// # let folder = tempfile::tempdir()?;
/// let file = folder.path().join("users");
/// let password = Secret::new("correct horse battery".to_owned());
/// add_user(&file, "alice", &password)?;
/// assert!(std::fs::read_to_string(&file)?.starts_with("alice:$pbkdf2-sha256$"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn add_user(path: &Path, name: &str, password: &Secret) -> Result<(), AccessError> {
    check_user(name).map_err(|reason| AccessError::Refused { reason })?;
    let chars = password.expose().chars().count();
    if chars < MIN_PASSWORD_CHARS || password.expose().len() > MAX_PASSWORD_BYTES {
        let reason = format!(
            "the password has {chars} characters; take at least {MIN_PASSWORD_CHARS}, and at most \
             {MAX_PASSWORD_BYTES} bytes"
        );
        return Err(AccessError::Refused { reason });
    }
    let system = |source: io::Error| AccessError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let present = match fs::metadata(path) {
        Ok(_) => {
            // What is wrong with it is said before it is replaced.
            Users::read(path)?;
            file::read(path, Readers::OwnerAndGroup)?.0
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Secret::new(String::new()),
        Err(error) => return Err(system(error)),
    };
    let record = Record::new(password)
        .ok_or_else(|| system(io::Error::other("the system gives no random bytes")))?;
    let line = format!("{name}:{}", record.to_text());
    let is_own = |line: &str| line.split_once(':').is_some_and(|(user, _)| user == name);
    let mut lines: Vec<&str> = present.expose().lines().collect();
    match lines.iter_mut().find(|present| is_own(present)) {
        Some(own) => *own = &line,
        None => lines.push(&line),
    }
    let text = lines.join("\n") + "\n";
    replace(path, &text).map_err(system)
}

/// Replaces a file in one step, with one that only this user can read, or with the owner,
/// the group and the mode of the present one.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&new)?;
    let written = file
        .write_all(text.as_bytes())
        .and_then(|()| match fs::metadata(path) {
            Ok(present) => fchown(&file, Some(present.uid()), Some(present.gid()))
                .and_then(|()| file.set_permissions(present.permissions())),
            Err(_) => Ok(()),
        })
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&new, path))
        .and_then(|()| match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
            _ => File::open(".")?.sync_all(),
        });
    written.inspect_err(|_| {
        let _ = fs::remove_file(&new);
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::new(text.to_owned())
    }

    #[test]
    fn only_the_password_matches_its_record() {
        let record = Record::new(&secret("correct horse")).expect("random bytes");
        let text = record.to_text();
        let again = Record::parse(&text).expect("what was written");
        assert_eq!(again, record);
        assert!(again.matches(&secret("correct horse")));
        assert!(!again.matches(&secret("correct horsf")));
        assert!(!Record::unmatched().matches(&secret("correct horse")));
        assert!(!text.contains("horse") && !format!("{record:?}").contains("horse"));
    }

    #[test]
    fn a_record_that_protects_nothing_is_refused() {
        let hash = STANDARD_NO_PAD.encode([7; 32]);
        let salt = STANDARD_NO_PAD.encode([7; 16]);
        let good = format!("$pbkdf2-sha256$i=100000${salt}${hash}");
        assert!(Record::parse(&good).is_some());
        for bad in [
            "",
            "secret",
            &good.replace("100000", "1000"),
            &good.replace("100000", "4000000000"),
            &good.replace("sha256", "md5"),
            &good.replace(&salt, "AAAA"),
            &format!("{good}$"),
        ] {
            assert!(Record::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_fault_of_the_file_is_named_with_its_line_and_without_its_content() {
        let record = Record::unmatched().to_text();
        for (text, line) in [
            ("# none\nalice:hunter2-hunter2\n".to_owned(), 2),
            (format!("alice:{record}\nalice:{record}\n"), 2),
            (format!(":{record}\n"), 1),
            (format!("a b:{record}\n"), 1),
        ] {
            let (found, fault) = Users::parse(&text).expect_err(&text);
            assert_eq!(found, line, "{fault}");
            assert!(
                !fault.contains("hunter2") && !fault.contains(&record),
                "{fault}"
            );
        }
        let users = Users::parse(&format!("# one\n\nalice:{record}\n")).expect("a user");
        assert!(users.find("alice").is_some() && users.find("bob").is_none());
    }

    #[test]
    fn a_user_is_added_or_changed_in_place() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("users");
        let add = |name: &str, password: &str| add_user(&path, name, &secret(password));
        add("alice", "first password").expect("made");
        add("bob", "another password").expect("added");
        add("alice", "second password").expect("changed");
        let (users, _) = Users::read(&path).expect("safe");
        let alice = users.find("alice").expect("she is there");
        assert!(alice.matches(&secret("second password")));
        assert!(users.find("bob").is_some());
        let text = fs::read_to_string(&path).expect("readable");
        assert!(!text.contains("password"), "{text}");
        for (name, password) in [("carol", "too short"), ("a:b", "long enough pw")] {
            let err = add(name, password).expect_err("refused");
            assert!(matches!(err, AccessError::Refused { .. }), "{err}");
            assert!(!err.to_string().contains(password), "{err}");
        }
        assert_eq!(fs::read_to_string(&path).expect("readable"), text);
    }
}
