//! The fencing token.

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A fencing token: a number that rises with every grant of a lock, whatever crashed in between.
///
/// A holder sends its token with every write to the guarded resource. The resource refuses a token
/// that is lower than the highest it has seen. So it is safe from a holder that was paused and does
/// not know yet that it lost the lock. Tokens of different locks cannot be compared and may be
/// equal.
///
/// The token is the entry's create revision on etcd and on the embedded coordinator, and its czxid
/// on ZooKeeper: 64 bits that outlive the lock's directory. When locks move from one coordinator to
/// another, an [offset](crate::token_offset) is added. In JSON a token is a string, because many
/// readers of JSON lose digits above 2^53.
///
/// # Examples
/// ```
/// use lock_core::Token;
///
/// let token: Token = "1007".parse()?;
/// assert!(token > Token(7));
/// assert_eq!(token.to_string(), "1007");
/// # Ok::<(), std::num::ParseIntError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Token {
    type Err = ParseIntError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        s.parse().map(Token)
    }
}

impl Serialize for Token {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Token {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'_, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_keeps_every_digit() {
        let token = Token(u64::MAX);
        let json = serde_json::to_string(&token).expect("serialises");
        assert_eq!(json, "\"18446744073709551615\"");
        assert_eq!(serde_json::from_str::<Token>(&json).expect("parses"), token);
        assert!(serde_json::from_str::<Token>("\"-1\"").is_err());
    }
}
