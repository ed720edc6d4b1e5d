//! Who may do what: rules for the subjects of client certificates and for users with passwords.
//!
//! Without rules, everybody who can open a connection may do everything. With rules, a request needs
//! credentials: a token, which a user gets for its password, or else the connection's client
//! certificate. The layer around all services finds out who asks; whatever touches the store is then
//! decided on where it is applied. What no rule allows is denied.

mod caller;
mod decide;
mod file;
mod layer;
mod login;
mod methods;
mod rules;
mod subject;
mod tokens;
mod users;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lock_core::background;

use self::file::Version;
use self::login::Login;
use self::tokens::Tokens;
use self::users::Users;

pub(super) use self::caller::{Caller, Nobody};
pub(super) use self::layer::Authenticated;
pub(super) use self::login::LoginError;
pub use self::rules::{Right, Rule, Rules, RulesError, keys_of_lock, keys_of_one};
pub use self::subject::{Subject, SubjectName, SubjectNameError};
pub use self::users::{MIN_PASSWORD_CHARS, add_user};

/// The time between two checks whether the files have changed.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// Why a file of rules or of users is not used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AccessError {
    /// The system refuses to read or to write it.
    #[error("cannot use {}: {source}; check the path, and that this user may read it", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// Others could have written it, or can read what is to be private.
    #[error("refusing {}: it {reason}; {remedy}", path.display())]
    Unsafe {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
        /// How to fix it.
        remedy: String,
    },
    /// A line of it breaks a rule.
    #[error("{}, line {line}: {fault}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it, and the remedy.
        fault: String,
    },
    /// A new user or password breaks a rule.
    #[error("{reason}")]
    Refused {
        /// The rule.
        reason: String,
    },
}

/// The rules and the users of a server. Clones share them.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// use backend_embedded::server::access::Access;
/// use backend_embedded::server::{Security, Server};
/// use backend_embedded::{Coordinator, Limits};
///
/// # let folder = tempfile::tempdir()?;
/// let file = folder.path().join("rules.toml");
/// let rule = "[[rule]]\nsubject = \"user:alice\"\nnamespace = \"team-a\"\nright = \"lock\"\n";
/// std::fs::write(&file, rule)?;
/// let access = Access::open(&file, None)?;
/// let coordinator = Coordinator::in_memory(Limits::default())?;
/// let security = Security::default().with_access(access);
/// let server = Server::bind_with(coordinator, vec!["127.0.0.1:0".parse()?], security)?;
/// # drop(server);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Access(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    rules_path: PathBuf,
    users_path: Option<PathBuf>,
    loaded: Mutex<Loaded>,
    /// Held while the files are read, so that what was read first does not replace what was read later.
    reloading: Mutex<()>,
    /// Rises with each change of the files.
    revision: AtomicU64,
    tokens: Tokens,
    login: Login,
}

/// What was read last, and which versions of the files that was. A file that cannot be used has its
/// version noted too, so that it is complained about once.
#[derive(Debug)]
struct Loaded {
    rules: Arc<Rules>,
    users: Arc<Users>,
    versions: [Option<Version>; 2],
}

impl Access {
    /// Reads a file of rules and, if there are users with passwords, a file of users. Blocks while it
    /// reads.
    ///
    /// # Errors
    /// [`AccessError`] names the file, the line and the remedy.
    pub fn open(rules: impl Into<PathBuf>, users: Option<PathBuf>) -> Result<Access, AccessError> {
        let rules_path = rules.into();
        let loaded = read_files(&rules_path, users.as_deref())?;
        Ok(Access(Arc::new(Inner {
            rules_path,
            users_path: users,
            loaded: Mutex::new(loaded),
            reloading: Mutex::new(()),
            revision: AtomicU64::new(1),
            tokens: Tokens::new(),
            login: Login::new(),
        })))
    }

    /// Reads both files again. Requests that come after it, and those that come on open streams, are
    /// decided by the new rules; a user who is gone, or has another password, has to show it again.
    /// Blocks while it reads.
    ///
    /// # Errors
    /// [`AccessError`]; then the former rules and users stay.
    pub fn reload(&self) -> Result<(), AccessError> {
        let inner = &*self.0;
        let _reloading = (inner.reloading.lock()).unwrap_or_else(PoisonError::into_inner);
        // Noted before they are read: a change in between is seen at the next check.
        let versions = self.versions();
        inner.loaded().versions = versions;
        let read = read_files(&inner.rules_path, inner.users_path.as_deref());
        let read = read.inspect_err(|error| {
            // The fault may pass without a change of the files. They are read again at the next
            // check.
            if matches!(error, AccessError::Unreadable { .. }) {
                inner.loaded().versions = [None, None];
            }
        })?;
        let users = Arc::clone(&read.users);
        let former = std::mem::replace(&mut *inner.loaded(), read).users;
        inner
            .tokens
            .revoke(|user| former.find(user) != users.find(user));
        inner.revision.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Reads the files again whenever one of them has changed.
    pub(super) async fn follow_files(&self) {
        loop {
            tokio::time::sleep(CHECK_INTERVAL).await;
            let access = self.clone();
            // Without a thread for it, it is tried again after the next pause.
            let _ = background::block(move || access.reload_if_changed()).await;
        }
    }

    fn reload_if_changed(&self) {
        if self.versions() == self.0.loaded().versions {
            return;
        }
        match self.reload() {
            Ok(()) => tracing::info!("the rules of access were read again"),
            Err(error) => tracing::error!(%error, "the former rules of access stay"),
        }
    }

    fn versions(&self) -> [Option<Version>; 2] {
        let users = self.0.users_path.as_deref();
        [Version::at(&self.0.rules_path), users.and_then(Version::at)]
    }

    /// Returns a number that rises with each change of the files.
    pub(super) fn revision(&self) -> u64 {
        self.0.revision.load(Ordering::Relaxed)
    }

    fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.0.loaded().rules)
    }

    fn users(&self) -> Arc<Users> {
        Arc::clone(&self.0.loaded().users)
    }
}

/// Reads the rules, and the users if there is a file of them. Notes the version of each file that it
/// has read.
fn read_files(rules: &Path, users: Option<&Path>) -> Result<Loaded, AccessError> {
    let (rules, rules_version) = Rules::read_version(rules)?;
    let (users, users_version) = match users {
        Some(path) => Users::read(path).map(|(users, version)| (users, Some(version)))?,
        None => (Users::default(), None),
    };
    Ok(Loaded {
        rules: Arc::new(rules),
        users: Arc::new(users),
        versions: [Some(rules_version), users_version],
    })
}

impl Inner {
    fn loaded(&self) -> MutexGuard<'_, Loaded> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
