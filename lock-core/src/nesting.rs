//! What an entry says of the hold around its process: a program under one lock that asks for
//! another one is a new process with a new session, which nothing else ties to the first.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize};

use crate::entry::SessionId;
use crate::name::LockName;
use crate::token::Token;

/// Ties an entry to the hold around its process, for people who look for the end of a chain of
/// waits. Nothing is decided by it.
///
/// Anybody can write any claim into a queue. So the hold has a key pair: its entry shows the public
/// key, and its program is given the private one, with which the entries made under the hold sign
/// their sessions. The core stores both and checks neither.
///
/// # Examples
/// ```
/// use lock_core::nesting::{Nesting, OuterHold};
/// use lock_core::{LockName, SessionId, Token};
///
/// let outer = OuterHold::new(LockName::new("ledger")?, Token(7), SessionId(3));
/// let nesting = Nesting::default().with_key([1; 32]).with_outer(outer.with_proof([2; 64]));
/// assert_eq!(nesting.outer.map(|outer| outer.token), Some(Token(7)));
/// # Ok::<(), lock_core::NameError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[non_exhaustive]
pub struct Nesting {
    /// The public key (Ed25519) of this entry's hold, if it gives its program the private one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Bytes<32>>,
    /// The hold that the contender claims to work under.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outer: Option<OuterHold>,
}

impl Nesting {
    /// Sets the public key of the hold.
    #[must_use]
    pub fn with_key(mut self, key: [u8; 32]) -> Self {
        self.key = Some(Bytes(key));
        self
    }

    /// Sets the hold that the contender works under.
    #[must_use]
    pub fn with_outer(mut self, outer: OuterHold) -> Self {
        self.outer = Some(outer);
        self
    }
}

/// A hold that a contender claims to work under.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "StoredHold", into = "StoredHold")]
#[non_exhaustive]
pub struct OuterHold {
    /// The lock that is held.
    pub lock: LockName,
    /// The token of the hold.
    pub token: Token,
    /// The session of the hold.
    pub session: SessionId,
    /// The signature of the claim, by the private key of the hold.
    pub proof: Option<Bytes<64>>,
}

impl OuterHold {
    /// Returns a claim without a proof.
    #[must_use]
    pub fn new(lock: LockName, token: Token, session: SessionId) -> Self {
        OuterHold {
            lock,
            token,
            session,
            proof: None,
        }
    }

    /// Sets the signature.
    #[must_use]
    pub fn with_proof(mut self, proof: [u8; 64]) -> Self {
        self.proof = Some(Bytes(proof));
        self
    }

    /// Returns the bytes to sign: they name the session that makes the claim, so that nobody else
    /// can use a copy of the proof.
    ///
    /// # Examples
    /// ```
    /// use lock_core::SessionId;
    /// use lock_core::nesting::OuterHold;
    ///
    /// assert_ne!(OuterHold::to_sign(SessionId(1)), OuterHold::to_sign(SessionId(2)));
    /// ```
    pub fn to_sign(claimant: SessionId) -> Vec<u8> {
        [&b"turnlock outer hold 1:"[..], &claimant.0.to_be_bytes()].concat()
    }
}

/// A key or a signature. In JSON it is hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Bytes<const N: usize>(pub [u8; N]);

impl<const N: usize> fmt::Display for Bytes<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl<const N: usize> fmt::Debug for Bytes<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<const N: usize> From<Bytes<N>> for String {
    fn from(bytes: Bytes<N>) -> Self {
        bytes.to_string()
    }
}

impl<const N: usize> TryFrom<String> for Bytes<N> {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        const WRONG: &str = "not the right number of hexadecimal digits";
        let digits = text.as_bytes();
        if digits.len() != 2 * N {
            return Err(WRONG);
        }
        let mut bytes = [0; N];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |digit: u8| char::from(digit).to_digit(16);
            let (high, low) = (digit(pair[0]).ok_or(WRONG)?, digit(pair[1]).ok_or(WRONG)?);
            *byte = u8::try_from(high * 16 + low).map_err(|_| WRONG)?;
        }
        Ok(Bytes(bytes))
    }
}

/// A claim as it is stored.
#[derive(Serialize, Deserialize)]
struct StoredHold {
    lock: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    raw: bool,
    token: Token,
    /// The session, as it is shown: hexadecimal.
    session: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    proof: Option<Bytes<64>>,
}

impl From<OuterHold> for StoredHold {
    fn from(hold: OuterHold) -> Self {
        StoredHold {
            lock: hold.lock.as_str().to_owned(),
            raw: hold.lock.is_raw(),
            token: hold.token,
            session: hold.session.to_string(),
            proof: hold.proof,
        }
    }
}

impl TryFrom<StoredHold> for OuterHold {
    type Error = &'static str;

    fn try_from(stored: StoredHold) -> Result<Self, &'static str> {
        let name = match stored.raw {
            true => LockName::raw(&stored.lock),
            false => LockName::new(&stored.lock),
        };
        let session = u64::from_str_radix(&stored.session, 16).map_err(|_| "not a session")?;
        Ok(OuterHold {
            lock: name.map_err(|_| "not the name of a lock")?,
            token: stored.token,
            session: SessionId(session.cast_signed()),
            proof: stored.proof,
        })
    }
}

/// Reads what anybody may have written. Whatever is no such description counts as none.
pub(crate) fn deserialize_or_none<'de, D>(reader: D) -> Result<Option<Box<Nesting>>, D::Error>
where
    D: Deserializer<'de>,
{
    let value = serde_json::Value::deserialize(reader)?;
    Ok(serde_json::from_value(value).ok())
}

/// A function that makes the [`Nesting`] of the entries of a session, which is known only when it
/// has been opened. It must not block.
#[derive(Clone)]
pub struct NestingOf(Arc<Describe>);

type Describe = dyn Fn(SessionId) -> Nesting + Send + Sync;

impl NestingOf {
    /// Returns what calls this function.
    pub fn new(describe: impl Fn(SessionId) -> Nesting + Send + Sync + 'static) -> Self {
        NestingOf(Arc::new(describe))
    }

    pub(crate) fn describe(&self, session: SessionId) -> Option<Box<Nesting>> {
        Some(Box::new((self.0)(session))).filter(|nesting| **nesting != Nesting::default())
    }
}

impl fmt::Debug for NestingOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NestingOf").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Metadata;

    #[test]
    fn a_claim_survives_the_store() {
        for name in [LockName::new("a/b"), LockName::raw("/a")] {
            let outer = OuterHold::new(name.expect("valid"), Token(u64::MAX), SessionId(-2));
            let nesting = Nesting::default()
                .with_key([0xa5; 32])
                .with_outer(outer.with_proof([0x5a; 64]));
            let metadata = Metadata {
                nesting: Some(Box::new(nesting)),
                ..Metadata::default()
            };
            assert_eq!(Metadata::from_bytes(&metadata.to_bytes()), Some(metadata));
        }
    }

    #[test]
    fn what_strangers_write_there_is_ignored_and_costs_no_other_field() {
        for claim in [
            r#"7"#,
            r#"{"key":"ff"}"#,
            r#"{"key":"+f"}"#,
            r#"{"outer":{"lock":"a//b","token":"1","session":"1"}}"#,
            r#"{"outer":{"lock":"a","token":"1","session":"x"}}"#,
            r#"{"outer":{"lock":"a","token":-1,"session":"1"}}"#,
            r#"{"outer":{"lock":"a","token":"1","session":"1","proof":"é"}}"#,
        ] {
            let stored = format!(r#"{{"owner":"eve","nesting":{claim}}}"#);
            let read = Metadata::from_bytes(stored.as_bytes()).expect("the rest is fine");
            assert_eq!(
                (read.owner.as_str(), read.nesting),
                ("eve", None),
                "{claim}"
            );
        }
    }
}
