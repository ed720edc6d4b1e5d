//! The portable form of a fencing token, which travels with a write to the resource.

use std::fmt;
use std::str::FromStr;

use lock_core::name::{self, LockName};
use lock_core::token_offset::MAX_TOKEN_OFFSET;
use lock_core::{Guard, Mode, Token};

use crate::error::{Error, ErrorKind};

/// Longest name of a coordinator, in bytes.
pub const MAX_COORDINATOR_BYTES: usize = 128;

/// The highest token that a coordinator gives: 2^63 - 1. Revisions of etcd and transaction ids of
/// ZooKeeper are signed numbers of 64 bits, and an offset does not lead beyond them either. Every
/// fence refuses a higher one, which can only be a mistake and would keep all holders out for ever.
pub const MAX_TOKEN: Token = Token(i64::MAX.unsigned_abs());

/// The proof of a hold that a resource can check: the lock, the mode, and the number of the grant.
///
/// Its text is one line of printable ASCII without spaces, fit for a header, an environment
/// variable or a column:
///
/// ```
/// use lock_fence::FencingToken;
///
/// let token: FencingToken = "v1:exclusive:42:etcd-prod:accounts%2Fledger".parse()?;
/// assert_eq!(token.lock.as_str(), "accounts/ledger");
/// assert_eq!(token.token.0, 42);
/// assert_eq!(token.to_string(), "v1:exclusive:42:etcd-prod:accounts%2Fledger");
/// # Ok::<(), lock_fence::Error>(())
/// ```
///
/// The parts are the version of the form, the mode, the number, the coordinator's name (empty if
/// it has none) and the lock's name, percent-encoded; a raw name has an `@` before it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct FencingToken {
    /// The lock. Numbers of different locks must not be compared.
    pub lock: LockName,
    /// The mode of the hold. A shared holder does not write.
    pub mode: Mode,
    /// The number that rises with every grant of the lock.
    pub token: Token,
    /// The coordinator's name, for people to read. At most [`MAX_COORDINATOR_BYTES`].
    pub coordinator: Option<String>,
}

impl FencingToken {
    /// Returns the token of an exclusive holder, without a coordinator's name.
    ///
    /// ```
    /// use lock_core::{LockName, Mode, Token};
    /// use lock_fence::FencingToken;
    ///
    /// let token = FencingToken::new(LockName::new("accounts")?, Token(42))
    ///     .with_mode(Mode::Shared)
    ///     .with_coordinator("etcd-prod");
    /// assert_eq!(token.to_string(), "v1:shared:42:etcd-prod:accounts");
    /// # Ok::<(), lock_core::Error>(())
    /// ```
    pub fn new(lock: LockName, token: Token) -> Self {
        FencingToken {
            lock,
            mode: Mode::Exclusive,
            token,
            coordinator: None,
        }
    }

    /// Returns this token with another mode.
    #[must_use]
    pub fn with_mode(self, mode: Mode) -> Self {
        FencingToken { mode, ..self }
    }

    /// Returns this token with another number.
    #[must_use]
    pub fn with_token(self, token: Token) -> Self {
        FencingToken { token, ..self }
    }

    /// Returns this token with a coordinator's name. An empty name is none.
    #[must_use]
    pub fn with_coordinator(self, coordinator: impl Into<String>) -> Self {
        FencingToken {
            coordinator: Some(coordinator.into()).filter(|name| !name.is_empty()),
            ..self
        }
    }

    /// Returns the token of a lock that is held exclusively. Readers have no order, so their guard
    /// does not compile here:
    ///
    /// ```compile_fail,E0308
    /// # fn write(guard: &lock_core::ReadGuard) -> lock_fence::FencingToken {
    /// lock_fence::FencingToken::of(guard)
    /// # }
    /// ```
    pub fn of(guard: &Guard) -> Self {
        FencingToken::new(guard.name().clone(), guard.token())
    }

    /// Checks that a holder who may write can have this token.
    ///
    /// # Errors
    /// [`ErrorKind::Shared`] for a reader's token: several hold the lock at once, so their writes
    /// have no order. [`ErrorKind::Malformed`] for a token above [`MAX_TOKEN`].
    pub(crate) fn check_writes(&self) -> Result<(), Error> {
        if self.mode == Mode::Shared {
            return Err(Error::new(
                ErrorKind::Shared,
                format!(
                    "the lock {:?} is held in shared mode, which does not allow writes: hold it \
                     exclusively",
                    self.lock.as_str()
                ),
            ));
        }
        if self.token > MAX_TOKEN {
            return Err(Error::new(
                ErrorKind::Malformed,
                format!(
                    "the token {} is higher than any that a coordinator gives ({MAX_TOKEN} at \
                     most), and would keep every holder out from then on: give the token of a hold \
                     of the lock {:?}",
                    self.token,
                    self.lock.as_str()
                ),
            ));
        }
        Ok(())
    }

    /// Returns the error of a resource that refuses this token because it has seen a higher one.
    pub(crate) fn stale(&self, resource: &str, highest: Token) -> Error {
        let offered = self.token;
        let kind = ErrorKind::Stale { offered, highest };
        // No offset raises the tokens of later holders above it.
        let way_out = match highest.0 > MAX_TOKEN_OFFSET {
            true => format!(
                ". A token as high as {highest} is usually a mistake: if no earlier holder can \
                 still write, remove the mark, which is the file .NAME.fence beside NAME; the next \
                 write creates it again"
            ),
            false => String::new(),
        };
        Error::new(
            kind,
            format!(
                "stale token: {resource} has seen token {highest} of the lock {:?}, and {offered} \
                 is lower: another contender has held the lock since, and nothing was \
                 changed{way_out}",
                self.lock.as_str()
            ),
        )
    }
}

impl fmt::Display for FencingToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let raw = if self.lock.is_raw() { "@" } else { "" };
        write!(
            f,
            "v1:{}:{}:{}:{raw}{}",
            self.mode,
            self.token,
            name::encode(self.coordinator.as_deref().unwrap_or("")),
            name::encode(self.lock.as_str())
        )
    }
}

impl FromStr for FencingToken {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let malformed = |why: &str| {
            let shown: String = text.chars().take(80).collect();
            Error::new(
                ErrorKind::Malformed,
                format!(
                    "{shown:?} is not a fencing token: {why}; give v1:MODE:TOKEN:COORDINATOR:LOCK"
                ),
            )
        };
        let parts: Vec<&str> = text.split(':').collect();
        let [version, mode, number, coordinator, lock] = parts[..] else {
            return Err(malformed("it does not have five parts"));
        };
        if version != "v1" {
            return Err(malformed("its version is not known"));
        }
        let mode = match mode {
            "exclusive" => Mode::Exclusive,
            "shared" => Mode::Shared,
            _ => return Err(malformed("its mode is neither exclusive nor shared")),
        };
        // `+7` and `007` would be second spellings of one token.
        let token = match number.parse::<Token>() {
            Ok(token) if token.to_string() == number && token <= MAX_TOKEN => token,
            _ => {
                return Err(malformed(
                    "its number is not one from 0 to 9223372036854775807",
                ));
            }
        };
        let coordinator = decode(coordinator)
            .filter(|name| name.len() <= MAX_COORDINATOR_BYTES)
            .ok_or_else(|| malformed("its coordinator is not encoded as it should be"))?;
        let name = match lock.strip_prefix('@') {
            Some(raw) => decode(raw).map(LockName::raw),
            None => decode(lock).map(LockName::new),
        };
        let lock = match name {
            Some(Ok(name)) => name,
            Some(Err(error)) => return Err(malformed("its lock has no valid name").because(error)),
            None => return Err(malformed("its lock is not encoded as it should be")),
        };
        Ok(FencingToken::new(lock, token)
            .with_mode(mode)
            .with_coordinator(coordinator))
    }
}

/// Returns the text that [`name::encode`] encodes to exactly this, so that one token has one text.
fn decode(encoded: &str) -> Option<String> {
    let text = percent_encoding::percent_decode_str(encoded)
        .decode_utf8()
        .ok()?;
    (name::encode(&text) == encoded && !text.chars().any(char::is_control))
        .then(|| text.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse_refused(text: &str) -> String {
        let error = text.parse::<FencingToken>().expect_err(text);
        assert_eq!(error.kind(), ErrorKind::Malformed);
        error.to_string()
    }

    #[test]
    fn a_raw_lock_differs_from_the_native_lock_of_its_name() {
        let raw = FencingToken::new(LockName::raw("/a//b").expect("raw"), Token(7));
        assert_eq!(raw.to_string(), "v1:exclusive:7::@%2Fa%2F%2Fb");
        assert_eq!(raw.to_string().parse::<FencingToken>().expect("valid"), raw);
    }

    #[test]
    fn a_malformed_token_is_refused_with_the_reason() {
        assert!(parse_refused("").contains("five parts"));
        assert!(parse_refused("42").contains("five parts"));
        assert!(parse_refused("v2:exclusive:1::a").contains("version"));
        assert!(parse_refused("v1:solo:1::a").contains("mode"));
        for number in ["", "-1", "+1", "01", "9223372036854775808", "1e3"] {
            assert!(parse_refused(&format!("v1:shared:{number}::a")).contains("number"));
        }
        assert!(parse_refused("v1:shared:1::a/b").contains("not encoded"));
        assert!(parse_refused("v1:shared:1::%61").contains("not encoded"));
        assert!(parse_refused("v1:shared:1::a%2F%2Fb").contains("valid name"));
        assert!(parse_refused("v1:shared:1:%0A:a").contains("coordinator"));
        assert!(parse_refused(&"x".repeat(1 << 20)).len() < 300);
    }

    proptest! {
        #[test]
        fn every_token_survives_its_text(
            lock in "\\PC{1,40}", token in 0..=MAX_TOKEN.0, shared: bool,
            coordinator in "\\PC{0,20}",
        ) {
            let Ok(lock) = LockName::new(&lock) else { return Ok(()) };
            let coordinator = Some(coordinator).filter(|name| name.len() <= MAX_COORDINATOR_BYTES);
            let token = FencingToken::new(lock, Token(token))
                .with_mode(if shared { Mode::Shared } else { Mode::Exclusive })
                .with_coordinator(coordinator.unwrap_or_default());
            let text = token.to_string();
            prop_assert!(text.bytes().all(|b| b.is_ascii_graphic()));
            prop_assert_eq!(text.parse::<FencingToken>().expect("valid"), token);
        }

        #[test]
        fn one_token_has_one_text(text in
            "v1:(exclusive|shared):[0-9]{1,3}:[a-z%2F]{0,6}:@?[a-z%2F]{1,8}") {
            if let Ok(token) = text.parse::<FencingToken>() {
                prop_assert_eq!(token.to_string(), text);
            }
        }
    }
}
