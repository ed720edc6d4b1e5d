//! Values in the coordinator itself that only the holder of a lock can change.

use std::fmt;
use std::sync::Arc;

use crate::error::{Error, ErrorKind};
use crate::name::{self, LockName};
use crate::operation::Operation;

/// The longest value, in bytes. ZooKeeper accepts requests of up to 1,048,575 bytes, paths
/// included.
pub const MAX_VALUE_BYTES: usize = 1_000_000;

/// The key of a value. It obeys the rules of a native lock's name: UTF-8 in segments split by `/`,
/// 1 to 255 bytes a segment, 1,024 in all; no empty, `.` or `..` segment; no control characters.
///
/// A key belongs to its namespace and not to a lock. No key of a value is the key of a lock's
/// entry.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct DataKey(LockName);

impl DataKey {
    /// Checks a text against the rules of keys.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] names the rule broken, and where.
    pub fn new(text: impl AsRef<str>) -> Result<Self, Error> {
        let text = text.as_ref();
        LockName::new(text).map(DataKey).map_err(|error| {
            Error::new(
                ErrorKind::InvalidArgument,
                format!(
                    "the key {:?} is not valid: {} (at byte {})",
                    name::shorten(text),
                    error.rule(),
                    error.offset()
                ),
            )
        })
    }

    /// Returns the key as it was given.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Returns the key as one flat segment of a store's key: without `/`.
    pub fn encoded(&self) -> String {
        name::encode(self.as_str())
    }
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

/// An operation of a holder on the value at a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// Reads the value.
    Get,
    /// Sets this value.
    Put(Arc<[u8]>),
    /// Removes the value, if there is one.
    Delete,
}

impl Access {
    /// Returns the operation that sets this value.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] if the value is longer than [`MAX_VALUE_BYTES`].
    pub fn put(key: &DataKey, value: &[u8]) -> Result<Self, Error> {
        let len = value.len();
        if len > MAX_VALUE_BYTES {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!(
                    "the value for {key:?} has {len} bytes; the coordinator keeps at most \
                     {MAX_VALUE_BYTES}: keep it in a file or a database, and only its address here"
                ),
            ));
        }
        Ok(Access::Put(value.into()))
    }

    /// Returns the operation that makes this access.
    pub(crate) fn operation(&self) -> Operation {
        match self {
            Access::Get => Operation::Get,
            Access::Put(_) => Operation::Put,
            Access::Delete => Operation::Delete,
        }
    }
}

/// The result of an [`Access`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Accessed {
    /// Our entry was there, and the operation was done in the same step. Holds the value if the
    /// operation was a [`Get`](Access::Get) and there is one.
    Done(Option<Vec<u8>>),
    /// Our entry was not there, so nothing was done.
    NotOurs,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_name_the_input_and_the_remedy() {
        let key = DataKey::new("jobs/last").expect("valid");
        assert_eq!(key.encoded(), "jobs%2Flast");
        let error = DataKey::new("a//b").expect_err("an empty segment");
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert_eq!(
            error.to_string(),
            "the key \"a//b\" is not valid: a segment is empty (at byte 2)"
        );
        assert!(Access::put(&key, &vec![0; MAX_VALUE_BYTES]).is_ok());
        let error = Access::put(&key, &vec![0; MAX_VALUE_BYTES + 1]).expect_err("too long");
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        let text = error.to_string();
        assert!(
            text.contains("\"jobs/last\"") && text.contains("1000001 bytes"),
            "{text}"
        );
    }
}
