//! The token offset: what keeps them from falling when a fleet moves from
//! one coordinator to another.
//!
//! A store numbers its entries from its own counter, and another store's may be lower. So a token is
//! the store's number of the entry plus the offset that holds when the entry is made. Entries are made
//! only together with a look at the offset, and the offset is raised only while there is none: an
//! entry's token never changes, and each is higher than those before.

use crate::error::{Error, ErrorKind};
use crate::incarnation::Incarnation;
use crate::name::LockName;
use crate::token::Token;

/// Highest offset: 2^62. It leaves the store's own numbers as much room below 2^63, which is where the
/// integers of most databases end.
pub const MAX_TOKEN_OFFSET: u64 = 1 << 62;

/// What is added to the store's numbers; zero where none was set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct TokenOffset(u64);

impl TokenOffset {
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

    /// The number.
    pub fn get(self) -> u64 {
        self.0
    }

    /// Returns the token of an entry of this lock in this incarnation. Raw locks have no offset:
    /// other clients in their queues know nothing of it.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] if it would not fit into the 63 bits that a database has.
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
                    "the offset of this namespace's tokens, {}, and the coordinator's own number, {number}, add up to more than 2^63: use a coordinator with lower numbers, or another namespace and new files for its fences",
                    self.0
                ),
            )
        })
    }

    /// As it is stored.
    pub fn to_bytes(self) -> Vec<u8> {
        self.0.to_string().into_bytes()
    }

    /// What was stored at this key.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] if it is no offset: then no token can be trusted.
    pub fn from_bytes(bytes: &[u8], key: &str) -> Result<Self, Error> {
        let number = std::str::from_utf8(bytes).ok();
        let offset = number.and_then(|number| TokenOffset::new(number.parse().ok()?).ok());
        offset.ok_or_else(|| {
            Error::new(
                ErrorKind::Configuration,
                format!(
                    "what the coordinator keeps at {key:?} is no offset for tokens: put back the number that was there, or one above every token ever given out"
                ),
            )
        })
    }
}

/// What a session knows of the offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KnownTokenOffset {
    /// The offset.
    pub offset: TokenOffset,
    /// The revision of the store at which it was set; zero if it never was.
    pub revision: u64,
}

/// What came of raising the offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Raised {
    /// This is the offset from now on: the one asked for, or the one that was there if that is
    /// higher.
    To(TokenOffset),
    /// The namespace is in use. Nothing was changed.
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
    fn what_is_stored_is_read_back_or_refused() {
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
