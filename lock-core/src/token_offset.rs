//! The token offset, which keeps tokens from falling when a fleet moves from one coordinator to
//! another.
//!
//! A store numbers entries by its own counter, and the counter of another store may be lower. So a
//! token is the store's number of the entry plus the offset that is set when the entry is made. An
//! entry is made only in one step with a check of the offset, and the offset is raised only while
//! there is no entry. So an entry's token never changes, and each token is higher than those
//! before.

use crate::error::{Error, ErrorKind};
use crate::incarnation::Incarnation;
use crate::name::LockName;
use crate::token::Token;

/// The highest offset: 2^62. It leaves as much room for the store's own numbers below 2^63, where
/// the integers of most databases end.
pub const MAX_TOKEN_OFFSET: u64 = 1 << 62;

/// A number that is added to the store's numbers of entries; zero if none was set.
///
/// # Examples
/// ```
/// use lock_core::{Incarnation, LockName, Token, TokenOffset};
///
/// let offset = TokenOffset::new(1_000)?;
/// let incarnation = Incarnation::new(7).expect("not zero");
/// assert_eq!(offset.token(&LockName::new("a")?, incarnation)?, Token(1_007));
/// assert_eq!(offset.token(&LockName::raw("a")?, incarnation)?, Token(7));
/// # Ok::<(), lock_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct TokenOffset(u64);

impl TokenOffset {
    /// Checks the number against [`MAX_TOKEN_OFFSET`].
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] if it is above [`MAX_TOKEN_OFFSET`].
    pub fn new(offset: u64) -> Result<Self, Error> {
        if offset > MAX_TOKEN_OFFSET {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!("an offset of {offset} is too high: the highest is {MAX_TOKEN_OFFSET}"),
            ));
        }
        Ok(TokenOffset(offset))
    }

    /// Returns the number.
    pub fn get(self) -> u64 {
        self.0
    }

    /// Returns the token of an entry of this lock in this incarnation. Raw locks have no offset:
    /// other clients in their queues know nothing of it.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] if the token would not fit into the 63 bits of a database's
    /// integers.
    pub fn token(self, name: &LockName, incarnation: Incarnation) -> Result<Token, Error> {
        let number = incarnation.get();
        if name.is_raw() {
            return Ok(Token(number));
        }
        let token = self.0.checked_add(number);
        let fits = token.filter(|token| i64::try_from(*token).is_ok());
        fits.map(Token).ok_or_else(|| {
            Error::new(
                ErrorKind::Configuration,
                format!(
                    "the offset of this namespace's tokens, {}, and the coordinator's own number, \
                     {number}, add up to more than 2^63: use a coordinator with lower numbers, or \
                     another namespace and new files for its fences",
                    self.0
                ),
            )
        })
    }

    /// Returns the bytes that are stored: the number in decimal.
    pub fn to_bytes(self) -> Vec<u8> {
        self.0.to_string().into_bytes()
    }

    /// Parses what is stored at this key.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] if it is not an offset: then no token can be trusted.
    pub fn from_bytes(bytes: &[u8], key: &str) -> Result<Self, Error> {
        let number = std::str::from_utf8(bytes).ok();
        let offset = number.and_then(|number| TokenOffset::new(number.parse().ok()?).ok());
        offset.ok_or_else(|| {
            Error::new(
                ErrorKind::Configuration,
                format!(
                    "the value of {key:?} in the coordinator is not a token offset: put back the \
                     number that was there, or one above every token ever given out"
                ),
            )
        })
    }
}

/// The offset as a session last read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KnownTokenOffset {
    /// The offset.
    pub offset: TokenOffset,
    /// The revision of the store at which the offset was set; zero if it never was.
    pub revision: u64,
}

/// The result of raising the offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Raised {
    /// The offset from now on: the one asked for, or the one that was set before if that is higher.
    To(TokenOffset),
    /// The namespace is in use, so nothing was changed.
    InUse,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn incarnation(number: u64) -> Incarnation {
        Incarnation::new(number).expect("not zero")
    }

    #[test]
    fn tokens_include_the_offset_unless_they_are_raw() {
        let (native, raw) = (LockName::new("a"), LockName::raw("a"));
        let (native, raw) = (native.expect("valid"), raw.expect("valid"));
        let offset = TokenOffset::new(1000).expect("valid");
        assert_eq!(
            offset.token(&native, incarnation(7)).ok(),
            Some(Token(1007))
        );
        assert_eq!(offset.token(&raw, incarnation(7)).ok(), Some(Token(7)));
        assert_eq!(
            TokenOffset::default().token(&native, incarnation(7)).ok(),
            Some(Token(7))
        );
    }

    #[test]
    fn nothing_overflows() {
        let name = LockName::new("a").expect("valid");
        let error = TokenOffset::new(MAX_TOKEN_OFFSET + 1).expect_err("too high");
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.to_string().contains("4611686018427387905"), "{error}");
        let highest = TokenOffset::new(MAX_TOKEN_OFFSET).expect("valid");
        let last = incarnation(MAX_TOKEN_OFFSET - 1);
        assert_eq!(
            highest.token(&name, last).ok(),
            Some(Token(i64::MAX.unsigned_abs()))
        );
        for number in [MAX_TOKEN_OFFSET, u64::MAX] {
            let error = highest
                .token(&name, incarnation(number))
                .expect_err("too high");
            assert_eq!(error.kind(), ErrorKind::Configuration);
        }
    }

    #[test]
    fn a_stored_record_is_read_back_or_refused() {
        let offset = TokenOffset::new(MAX_TOKEN_OFFSET).expect("valid");
        assert_eq!(
            TokenOffset::from_bytes(&offset.to_bytes(), "k").ok(),
            Some(offset)
        );
        for bad in [&b""[..], b"-1", b"1 ", b"4611686018427387905", b"\xff"] {
            let error = TokenOffset::from_bytes(bad, "turnlock/@floor").expect_err("no offset");
            assert!(error.to_string().contains("turnlock/@floor"), "{error}");
        }
    }
}
