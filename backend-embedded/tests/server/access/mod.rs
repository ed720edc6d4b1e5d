//! Who may do what: every method of the protos, a case for each way in which others have let the
//! wrong ones in, and the clients that show passwords.

mod advisories;
mod clients;
mod methods;
mod reload;
mod wire;

use std::fs;
use std::path::{Path, PathBuf};

use backend_embedded::server::access::{Access, add_user};
use backend_kit::secret::Secret;
use tempfile::TempDir;

use crate::support::Served;

const PASSWORD: &str = "the password of all";

const RULES: &str = r#"
[[rule]]
subject = "user:alice"
namespace = "a"
right = "lock"

[[rule]]
subject = "user:bob"
namespace = "b"
right = "lock"

[[rule]]
subject = "user:root"
prefix = ""
right = "admin"
"#;

/// The files of rules and users, for as many servers as a test needs.
struct Files {
    folder: TempDir,
    access: Access,
}

impl Files {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let [rules, users] = ["rules.toml", "users"].map(|name| folder.path().join(name));
        fs::write(&rules, RULES).expect("written");
        for user in ["alice", "bob", "root"] {
            add_user(&users, user, &Secret::new(PASSWORD.to_owned())).expect("added");
        }
        let access = Access::open(rules, Some(users)).expect("they are good");
        Files { folder, access }
    }

    fn path(&self, name: &str) -> PathBuf {
        Path::join(self.folder.path(), name)
    }

    fn serve(&self) -> Served {
        Served::with_access(self.access.clone())
    }
}
