//! The keys of locks in a store of flat, ordered byte keys. The etcd backend and the embedded
//! coordinator share this layout, so that all of their users stand in one queue.
//!
//! A lock is the prefix `<namespace>/<encoded name>/`, or a raw name verbatim and a slash. An entry
//! is `<prefix>write/<session>-<number>` or `<prefix>read/...`, on the session's lease, with
//! [`Metadata`] as its value. Its place in the queue is its create revision. Users of etcd's plain
//! mutex (Go's `concurrency.Mutex`, `etcdctl lock`, jetcd, the v3 Lock service) count every key
//! under the prefix as a contender and never parse its suffix. Go's read/write lock uses the same
//! two directories. So all of them exclude each other correctly: every entry outside of `read/` is
//! exclusive.

use lock_core::SessionId;
use lock_core::data::DataKey;
use lock_core::entry::{Entry, EntryId, Metadata, Mode, Ticket};
use lock_core::name::{self, LockName};
use lock_core::rule::Ask;
use lock_core::token_offset::TokenOffset;
use lock_core::{Error, ErrorKind, Incarnation};

/// The namespace of native locks if none is configured.
pub const DEFAULT_NAMESPACE: &str = "turnlock";

/// The most hexadecimal digits of a number of 64 bits.
const MAX_HEX_DIGITS: usize = 16;

const READ: &str = "read/";
const WRITE: &str = "write/";

/// A half-open range of keys: from `start` up to, not including, `end`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// The first key of the range.
    pub start: Vec<u8>,
    /// The first key after the range.
    pub end: Vec<u8>,
}

impl Span {
    /// Returns the range of all keys that begin with `prefix`, which must not end in 0xff (text
    /// never does).
    fn with_prefix(prefix: &str) -> Span {
        let start = prefix.as_bytes().to_vec();
        let mut end = start.clone();
        if let Some(last) = end.last_mut() {
            *last += 1;
        }
        Span { start, end }
    }
}

/// The keys of one namespace.
///
/// # Examples
/// ```
/// use backend_kit::keyspace::Keyspace;
/// use lock_core::{LockName, SessionId};
///
/// let keys = Keyspace::new("prod")?;
/// assert_eq!(keys.session_key(SessionId(0xabc)), "prod/@session/abc");
/// let span = keys.lock(&LockName::new("jobs/nightly")?);
/// assert_eq!(span.start, b"prod/jobs%2Fnightly/");
/// # Ok::<(), lock_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Keyspace {
    namespace: String,
}

impl Default for Keyspace {
    fn default() -> Self {
        Keyspace {
            namespace: DEFAULT_NAMESPACE.to_owned(),
        }
    }
}

impl Keyspace {
    /// Returns the keys of a namespace: those of native locks begin with it and a slash. Slashes at
    /// its end are dropped.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] if it is empty, too long or has control characters.
    pub fn new(namespace: &str) -> Result<Self, Error> {
        let trimmed = namespace.trim_end_matches('/');
        LockName::raw(trimmed).map_err(|error| {
            Error::new(
                ErrorKind::Configuration,
                format!("the namespace {namespace:?} is not valid: {}", error.rule()),
            )
        })?;
        Ok(Keyspace {
            namespace: trimmed.to_owned(),
        })
    }

    /// Returns the prefix that all keys of the namespace share, those beside its locks too.
    pub fn prefix_of_all(&self) -> String {
        format!("{}/", self.namespace)
    }

    /// Returns the prefix that all keys of a lock share.
    fn prefix(&self, name: &LockName) -> String {
        if name.is_raw() {
            [name.as_str(), "/"].concat()
        } else {
            [&self.namespace, "/", &name::encode(name.as_str()), "/"].concat()
        }
    }

    /// Returns the key of a ticket's entry. No other ticket in use by the session may have the same
    /// number.
    pub fn entry_key(&self, session: SessionId, ticket: &Ticket, number: u64) -> String {
        let directory = match ticket.mode {
            Mode::Exclusive => WRITE,
            Mode::Shared => READ,
        };
        let mut key = self.prefix(&ticket.name);
        key.reserve(directory.len() + 2 * MAX_HEX_DIGITS + 1);
        key.push_str(directory);
        push_hex(&mut key, session.0.cast_unsigned());
        key.push('-');
        push_hex(&mut key, number);
        key
    }

    /// Returns a key for a backend's bookkeeping of one session. It cannot be the key of a lock,
    /// since `@` is always escaped in an encoded name.
    pub fn session_key(&self, session: SessionId) -> String {
        const DIRECTORY: &str = "/@session/";
        let length = self.namespace.len() + DIRECTORY.len() + MAX_HEX_DIGITS;
        let mut key = String::with_capacity(length);
        key.push_str(&self.namespace);
        key.push_str(DIRECTORY);
        push_hex(&mut key, session.0.cast_unsigned());
        key
    }

    /// Returns the key of a value of holders, which cannot be the key of a lock either.
    pub fn data_key(&self, key: &DataKey) -> String {
        format!("{}/@data/{}", self.namespace, key.encoded())
    }

    /// Returns the key of the token offset.
    pub fn token_offset_key(&self) -> String {
        format!("{}/@floor", self.namespace)
    }

    /// Returns the range of all keys of a lock.
    pub fn lock(&self, name: &LockName) -> Span {
        Span::with_prefix(&self.prefix(name))
    }

    /// Checks that an entry stands in the queue of this lock.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] if its key belongs to another lock, or to none.
    pub fn check_entry(&self, name: &LockName, entry: &EntryId) -> Result<(), Error> {
        if entry.key.starts_with(self.prefix(name).as_bytes()) {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::InvalidArgument,
            format!("{entry:?} is no entry of the lock {name}"),
        ))
    }

    /// Returns the ranges of keys among which a contender finds the entries that it asks for.
    pub fn ahead(&self, name: &LockName, ask: Ask) -> Vec<Span> {
        let prefix = self.prefix(name);
        let whole = Span::with_prefix(&prefix);
        if !ask.exclusive_only {
            return vec![whole];
        }
        let shared = Span::with_prefix(&[&prefix, READ].concat());
        vec![
            Span {
                start: whole.start,
                end: shared.start,
            },
            Span {
                start: shared.end,
                end: whole.end,
            },
        ]
    }

    /// Returns the ranges, in order, of all keys of native locks whose names begin with `prefix`
    /// and that come after the lock `after` in the store's order. The other keys of the namespace
    /// are left out, since there may be many.
    pub fn locks(&self, prefix: &str, after: Option<&LockName>) -> Vec<Span> {
        let mut span = Span::with_prefix(&format!("{}/{}", self.namespace, name::encode(prefix)));
        if let Some(after) = after {
            span.start = span.start.max(self.lock(after).end);
        }
        let beside = Span::with_prefix(&format!("{}/@", self.namespace));
        let before = Span {
            start: span.start.clone(),
            end: span.end.clone().min(beside.start),
        };
        let behind = Span {
            start: span.start.max(beside.end),
            end: span.end,
        };
        let spans = [before, behind].into_iter();
        spans.filter(|span| span.start < span.end).collect()
    }

    /// Returns the lock that a key in the ranges of [`locks`](Keyspace::locks) belongs to; `None`
    /// if it is not the key of a lock.
    pub fn name_of(&self, key: &[u8]) -> Option<LockName> {
        let rest = std::str::from_utf8(key)
            .ok()?
            .strip_prefix(&self.namespace)?
            .strip_prefix('/')?;
        let (encoded, _) = rest.split_once('/')?;
        name::decode(encoded)
    }

    /// Returns how the entry with this key holds the lock, or wants to hold it.
    pub fn mode_of(&self, name: &LockName, key: &[u8]) -> Mode {
        let prefix = self.prefix(name);
        match key.strip_prefix(prefix.as_bytes()) {
            Some(rest) if rest.starts_with(READ.as_bytes()) => Mode::Shared,
            _ => Mode::Exclusive,
        }
    }

    /// Returns the entry of a key of a lock, by its create revision, lease and value.
    ///
    /// # Errors
    /// Those of [`TokenOffset::token`]; [`ErrorKind::Internal`] if the create revision is zero.
    pub fn entry(
        &self,
        name: &LockName,
        key: &[u8],
        create_revision: u64,
        lease: i64,
        value: &[u8],
        offset: TokenOffset,
    ) -> Result<Entry, Error> {
        let incarnation = Incarnation::new(create_revision).ok_or_else(|| {
            let text = "the coordinator listed a key without a create revision";
            Error::new(ErrorKind::Internal, text)
        })?;
        let id = EntryId {
            key: key.into(),
            incarnation: Some(incarnation),
        };
        let token = offset.token(name, incarnation)?;
        Ok(Entry::new(id, token, self.mode_of(name, key))
            .with_session((lease != 0).then_some(SessionId(lease)))
            .with_metadata(Metadata::from_bytes(value)))
    }
}

/// Appends a number in lower-case hexadecimal digits, without leading zeros. Each acquire makes two
/// keys of numbers: `write!` costs several times as much.
fn push_hex(key: &mut String, number: u64) {
    let digits = (u64::BITS - number.leading_zeros()).div_ceil(4).max(1);
    let digit = |at: u32| char::from_digit((number >> (4 * at)) as u32 & 0xf, 16);
    key.extend((0..digits).rev().filter_map(digit));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn numbers_in_keys_are_written_as_everywhere() {
        for number in [0, 1, 0xf, 0x10, 0xabc, u64::from(u32::MAX), u64::MAX] {
            let mut key = String::new();
            push_hex(&mut key, number);
            assert_eq!(key, format!("{number:x}"));
            let session = SessionId(number.cast_signed());
            let session_key = Keyspace::default().session_key(session);
            assert_eq!(session_key, format!("turnlock/@session/{session}"));
        }
    }

    fn contains(span: &Span, key: &str) -> bool {
        span.start.as_slice() <= key.as_bytes() && key.as_bytes() < span.end.as_slice()
    }

    fn ticket(name: &LockName, mode: Mode) -> Ticket {
        Ticket {
            name: name.clone(),
            mode,
            serial: 0x1f,
            metadata: Arc::default(),
        }
    }

    #[test]
    fn an_entry_is_one_of_its_own_lock_only() {
        let keys = Keyspace::default();
        let [lock, other] = ["a", "a/b"].map(|name| LockName::new(name).expect("valid"));
        let key = keys.entry_key(SessionId(1), &ticket(&lock, Mode::Shared), 0);
        let entry = EntryId {
            key: key.as_bytes().into(),
            incarnation: Incarnation::new(1),
        };
        keys.check_entry(&lock, &entry).expect("its own");
        let refusal = keys
            .check_entry(&other, &entry)
            .expect_err("another lock's");
        assert_eq!(refusal.kind(), ErrorKind::InvalidArgument);
    }

    #[test]
    fn no_locks_keys_lie_under_anothers() {
        let keys = Keyspace::default();
        let names: Vec<LockName> = ["a", "a/b", "a/b/c", "ab", "a%2Fb", "a/read", "a/write/x"]
            .iter()
            .map(|n| LockName::new(n).expect("valid"))
            .collect();
        for name in &names {
            let key = keys.entry_key(SessionId(0xabc), &ticket(name, Mode::Shared), 7);
            let owners: Vec<&LockName> = names
                .iter()
                .filter(|n| contains(&keys.lock(n), &key))
                .collect();
            assert_eq!(owners, [name]);
            assert_eq!(keys.name_of(key.as_bytes()).as_ref(), Some(name));
        }
    }

    #[test]
    fn a_sessions_own_key_is_no_locks_key() {
        let keys = Keyspace::default();
        let key = keys.session_key(SessionId(0xabc));
        assert_eq!(key, "turnlock/@session/abc");
        assert_eq!(keys.name_of(key.as_bytes()), None);
        let like = LockName::new("@session").expect("valid");
        assert!(!contains(&keys.lock(&like), &key));
    }

    #[test]
    fn entries_lie_in_the_directories_of_etcds_own_recipes() {
        let keys = Keyspace::default();
        let native = LockName::new("a/b").expect("valid");
        let raw = LockName::raw("jobs/nightly").expect("valid");
        let key = |name, mode| keys.entry_key(SessionId(0xabc), &ticket(name, mode), 0x1f);
        assert_eq!(key(&native, Mode::Exclusive), "turnlock/a%2Fb/write/abc-1f");
        assert_eq!(key(&raw, Mode::Shared), "jobs/nightly/read/abc-1f");
        assert_eq!(keys.mode_of(&raw, b"jobs/nightly/read/9"), Mode::Shared);
        assert_eq!(keys.mode_of(&raw, b"jobs/nightly/write/9"), Mode::Exclusive);
        assert_eq!(
            keys.mode_of(&raw, b"jobs/nightly/694d7f"),
            Mode::Exclusive,
            "a plain mutex of another client"
        );
    }

    #[test]
    fn a_reader_asks_for_everything_but_readers() {
        let keys = Keyspace::default();
        let name = LockName::raw("x").expect("valid");
        let all = keys.ahead(
            &name,
            Ask {
                exclusive_only: false,
                limit: 1,
            },
        );
        let exclusive = keys.ahead(
            &name,
            Ask {
                exclusive_only: true,
                limit: 1,
            },
        );
        let within = |spans: &[Span], key| spans.iter().filter(|s| contains(s, key)).count();
        for key in ["x/694d7f", "x/write/1", "x/zebra", "x/read"] {
            assert_eq!(within(&exclusive, key), 1, "{key}");
        }
        assert_eq!(within(&exclusive, "x/read/1"), 0);
        assert_eq!(within(&all, "x/read/1"), 1);
        assert_eq!(within(&all, "y/write/1"), 0);
    }

    #[test]
    fn listing_goes_on_after_a_name() {
        let keys = Keyspace::new("prod/").expect("valid");
        let after = LockName::new("a/b").expect("valid");
        let listed = |spans: &[Span], key| spans.iter().any(|span| contains(span, key));
        let spans = keys.locks("", Some(&after));
        assert!(!listed(&spans, "prod/a%2Fb/write/1"));
        assert!(listed(&spans, "prod/a/write/1"), "`%` comes before `/`");
        assert!(listed(&spans, "prod/b/read/1"));
        assert!(!listed(&keys.locks("a/", None), "prod/ab/write/1"));
        assert!(Keyspace::new("/").is_err());
    }

    #[test]
    fn keys_beside_the_locks_are_not_listed() {
        let keys = Keyspace::default();
        let data = keys.data_key(&DataKey::new("@data/a").expect("valid"));
        assert_eq!(data, "turnlock/@data/%40data%2Fa");
        let all = keys.locks("", None);
        assert_eq!(keys.name_of(data.as_bytes()), None);
        for (key, listed) in [
            (data.as_str(), false),
            ("turnlock/@session/1", false),
            ("turnlock/9/write/1", true),
            ("turnlock/%40data/write/1", true),
            ("turnlock/A/write/1", true),
            ("turnlock/~/write/1", true),
        ] {
            assert_eq!(all.iter().any(|span| contains(span, key)), listed, "{key}");
        }
        for name in ["@data", "A", "~", "0"] {
            let name = LockName::new(name).expect("valid");
            let key = keys.entry_key(SessionId(1), &ticket(&name, Mode::Shared), 1);
            let after = keys.locks("", Some(&name));
            assert!(all.iter().any(|span| contains(span, &key)), "{key}");
            assert!(!after.iter().any(|span| contains(span, &key)), "{key}");
        }
    }
}
