//! Entries: a contender's place in a lock's queue, and what it says about itself.

use std::fmt;
use std::sync::{Arc, LazyLock};

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind};
use crate::incarnation::Incarnation;
use crate::name::LockName;
use crate::nesting::{self, Nesting};
use crate::observe::TraceContext;
use crate::observe::trace_context;
use crate::token::Token;

/// The longest note, owner, host or command, in bytes.
pub const MAX_NOTE_BYTES: usize = 1024;

/// How a contender wants to hold the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// One holder alone, as of a mutex or as a writer.
    Exclusive,
    /// Together with other shared holders, as readers.
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

/// Identifies a session: by the lease id on etcd and on the embedded coordinator, by the session id
/// on ZooKeeper.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionId(pub i64);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

/// One request for a lock. By its ticket, an `enqueue` that is tried again finds its own entry
/// instead of making a second one.
#[derive(Debug, Clone)]
pub struct Ticket {
    /// The lock.
    pub name: LockName,
    /// How to hold it.
    pub mode: Mode,
    /// A number that is unique within the session and never used again. Together with the session's
    /// identity it is unique for ever.
    pub serial: u64,
    /// Stored with the entry, for people to read.
    pub metadata: Arc<Metadata>,
}

/// Describes a contender in a queue for people. Nothing is decided by it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[non_exhaustive]
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
    /// When the contender queued: milliseconds since the Unix epoch on its own wall clock.
    #[serde(default)]
    pub since_unix_ms: u64,
    /// What the lock is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// The program that does the work. Earlier versions of Turnlock ignore this field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// When the contender got the lock: milliseconds since the Unix epoch on its own wall clock. 0
    /// if it has not announced that, since it still waits or hardly had to wait. `None` for a
    /// contender that never announces its holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_unix_ms: Option<u64>,
    /// The trace that the contender works for, as far as the contender is to be believed. Earlier
    /// versions of Turnlock ignore this field. A value that is not a `traceparent` is ignored.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "trace_context::deserialize_or_none"
    )]
    pub traceparent: Option<TraceContext>,
    /// How the contender is tied to the hold around its process, as far as the contender is to be
    /// believed. Earlier versions of Turnlock ignore this field.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "nesting::deserialize_or_none"
    )]
    pub nesting: Option<Box<Nesting>>,
}

impl Metadata {
    /// Sets the user or service.
    #[must_use]
    pub fn with_owner(mut self, owner: impl Into<String>) -> Self {
        self.owner = owner.into();
        self
    }

    /// Sets the process and the machine that it runs on.
    #[must_use]
    pub fn with_process(mut self, host: impl Into<String>, pid: u32) -> Self {
        self.host = host.into();
        self.pid = pid;
        self
    }

    /// Sets what the lock is for.
    #[must_use]
    pub fn with_note(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }

    /// Sets the program that does the work.
    #[must_use]
    pub fn with_command(mut self, command: impl Into<String>) -> Self {
        self.command = Some(command.into());
        self
    }

    /// Sets the trace that the contender works for.
    #[must_use]
    pub fn with_traceparent(mut self, traceparent: TraceContext) -> Self {
        self.traceparent = Some(traceparent);
        self
    }

    /// Sets how the contender is tied to the hold around its process.
    #[must_use]
    pub fn with_nesting(mut self, nesting: Nesting) -> Self {
        self.nesting = Some(Box::new(nesting));
        self
    }

    /// Checks the lengths of the fields.
    ///
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

    /// Returns empty metadata; all callers share one value.
    pub(crate) fn none() -> Arc<Self> {
        static NONE: LazyLock<Arc<Metadata>> = LazyLock::new(Arc::default);
        NONE.clone()
    }

    /// Returns the bytes that are stored with an entry: JSON.
    ///
    /// # Examples
    /// ```
    /// use lock_core::Metadata;
    ///
    /// let metadata = Metadata::default();
    /// assert_eq!(Metadata::from_bytes(&metadata.to_bytes()), Some(metadata));
    /// ```
    pub fn to_bytes(&self) -> Vec<u8> {
        // Strings and numbers always serialise.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Parses what a contender stored with its entry. Returns `None` for an entry of another
    /// client, which may store anything there.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}

/// Identifies an entry by its key and its incarnation. An entry that was removed and made anew
/// under the same key is another one.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct EntryId {
    /// The key or path in the store, which the core does not interpret.
    pub key: Arc<[u8]>,
    /// The store's number for this life of the entry. `None` if it is not known: a listing on
    /// ZooKeeper does not include it. Such an id is good for waiting until the entry is gone and for
    /// reading its metadata, and for nothing else. Our own entries always have one. A store that
    /// leaves it out of a view never uses a key twice.
    pub incarnation: Option<Incarnation>,
}

impl EntryId {
    /// Returns whether both are the same life of an entry, as far as both ids say: the same key,
    /// and not two different incarnations.
    pub(crate) fn is_same_as_far_as_known(&self, other: &EntryId) -> bool {
        let same_life = match (self.incarnation, other.incarnation) {
            (Some(own), Some(other)) => own == other,
            _ => true,
        };
        same_life && self.key == other.key
    }
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
#[non_exhaustive]
pub struct Entry {
    /// Identifies the entry.
    pub id: EntryId,
    /// The entry's fencing token.
    pub token: Token,
    /// How its contender holds the lock, or wants to hold it.
    pub mode: Mode,
    /// The session that keeps the entry alive, if the store reports it.
    pub session: Option<SessionId>,
    /// Describes the contender; `None` for an entry of another client.
    pub metadata: Option<Metadata>,
}

impl Entry {
    /// Returns an entry of an unknown session that does not describe its contender.
    #[must_use]
    pub fn new(id: EntryId, token: Token, mode: Mode) -> Self {
        Entry {
            id,
            token,
            mode,
            session: None,
            metadata: None,
        }
    }

    /// Sets the session that keeps the entry alive, if the store reports it.
    #[must_use]
    pub fn with_session(mut self, session: Option<SessionId>) -> Self {
        self.session = session;
        self
    }

    /// Sets the description of the contender, if the entry has one.
    #[must_use]
    pub fn with_metadata(mut self, metadata: Option<Metadata>) -> Self {
        self.metadata = metadata;
        self
    }
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
            traceparent: TraceContext::new(1, 2, true),
            nesting: Some(Box::new(Nesting::default().with_key([7; 32]))),
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
