//! Entries: one contender's place in a lock's queue, and what it says about itself.

use std::fmt;
use std::sync::{Arc, LazyLock};

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind};
use crate::incarnation::Incarnation;
use crate::name::LockName;
use crate::token::Token;

/// Longest note, owner, host or command, in bytes.
pub const MAX_NOTE_BYTES: usize = 1024;

/// How a contender wants to hold the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Alone.
    Exclusive,
    /// Together with other shared holders.
    Shared,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mode::Exclusive => "exclusive",
            Mode::Shared => "shared",
        })
    }
}

/// A session's identity: the lease id on etcd and on the embedded coordinator, the session id on
/// ZooKeeper.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionId(pub i64);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

/// One wish to hold a lock: what makes a retried `enqueue` find its own entry instead of making a
/// second one.
#[derive(Debug, Clone)]
pub struct Ticket {
    /// The lock.
    pub name: LockName,
    /// How to hold it.
    pub mode: Mode,
    /// Unique within the session, never used again. Together with the session's identity it is
    /// unique for ever.
    pub serial: u64,
    /// Kept with the entry, for people.
    pub metadata: Arc<Metadata>,
}

/// Who stands in a queue, for people to read. Nothing is decided by it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Metadata {
    /// The user or service.
    #[serde(default)]
    pub owner: String,
    /// The machine.
    #[serde(default)]
    pub host: String,
    /// The process on that machine.
    #[serde(default)]
    pub pid: u32,
    /// When it queued: milliseconds since the Unix epoch on its own wall clock.
    #[serde(default)]
    pub since_unix_ms: u64,
    /// What for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// The program that does the work. Versions that know nothing of it ignore it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// When it came to hold the lock, on its own wall clock; 0 if it has not said so, because it
    /// waits or had hardly to wait. `None` for those who never say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_unix_ms: Option<u64>,
}

impl Metadata {
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] if a field is longer than [`MAX_NOTE_BYTES`].
    pub fn check(&self) -> Result<(), Error> {
        let fields = [
            ("owner", Some(&self.owner)),
            ("host", Some(&self.host)),
            ("note", self.note.as_ref()),
            ("command", self.command.as_ref()),
        ];
        for (field, text) in fields {
            let len = text.map_or(0, String::len);
            if len > MAX_NOTE_BYTES {
                return Err(Error::new(
                    ErrorKind::InvalidArgument,
                    format!(
                        "the {field} has {len} bytes; at most {MAX_NOTE_BYTES} are kept: shorten it"
                    ),
                ));
            }
        }
        Ok(())
    }

    /// That says nothing: one for all.
    pub(crate) fn none() -> Arc<Self> {
        static NONE: LazyLock<Arc<Metadata>> = LazyLock::new(Arc::default);
        NONE.clone()
    }

    /// As it is stored with an entry.
    pub fn to_bytes(&self) -> Vec<u8> {
        // Strings and numbers always serialise.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// What another contender stored, if it is ours to read: other clients keep what they like
    /// there.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}

/// Identifies an entry by its key and its incarnation. An entry that was removed and made anew under
/// the same key is another one.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct EntryId {
    /// The backend's key or path. Opaque to the core.
    pub key: Arc<[u8]>,
    /// The store's number for this life of the entry. `None` if it is not known: a listing on
    /// ZooKeeper does not include it. Such an id is good for waiting until the entry is gone, and
    /// for nothing else. Our own entries always have one.
    pub incarnation: Option<Incarnation>,
}

impl fmt::Debug for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = String::from_utf8_lossy(&self.key);
        match self.incarnation {
            Some(incarnation) => write!(f, "{key}@{incarnation}"),
            None => write!(f, "{key}@?"),
        }
    }
}

/// An entry as it stands in a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Which.
    pub id: EntryId,
    /// Its token.
    pub token: Token,
    /// How it wants to hold, or holds.
    pub mode: Mode,
    /// The session that keeps it alive, where the store tells.
    pub session: Option<SessionId>,
    /// Who; `None` for an entry of another client.
    pub metadata: Option<Metadata>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_survives_the_store_and_tolerates_strangers() {
        let metadata = Metadata {
            owner: "ci".into(),
            host: "h1".into(),
            pid: 7,
            since_unix_ms: 12,
            note: Some("nightly \u{1b}[31m".into()),
            command: Some("rsync".into()),
            held_unix_ms: Some(13),
        };
        assert_eq!(Metadata::from_bytes(&metadata.to_bytes()), Some(metadata));
        assert_eq!(Metadata::from_bytes(b"127.0.0.1"), None);
        assert_eq!(Metadata::from_bytes(b""), None);
        assert_eq!(
            Metadata::from_bytes(b"{\"later\":1}"),
            Some(Metadata::default())
        );
    }

    #[test]
    fn long_notes_are_refused_by_name() {
        let metadata = Metadata {
            note: Some("x".repeat(1025)),
            ..Metadata::default()
        };
        let error = metadata.check().expect_err("too long");
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.to_string().contains("note has 1025 bytes"), "{error}");
    }
}
