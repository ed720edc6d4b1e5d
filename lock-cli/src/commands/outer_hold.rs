//! Reads the hold of the `turnlock run` under which this process runs, if there is one.

use turnlock::fence::FencingToken;
use turnlock::nesting::{Bytes, OuterHold};
use turnlock::{LockName, Locks, Mode, SessionId};

use crate::commands::HoldKey;
use crate::exit::{Exit, Failure};

/// The variable in which `turnlock run` passes its command the portable form of its token.
pub const VARIABLE: &str = "TURNLOCK_FENCING_TOKEN";

/// The variable in which `turnlock run` passes its command what ties the entries of that command to
/// its hold: the version of the form, the session, the private key of the hold, and the hold.
pub const KEY_VARIABLE: &str = "TURNLOCK_OUTER_HOLD";

/// The hold around this process, which its entries name.
pub struct Outer {
    hold: FencingToken,
    session: SessionId,
    key: HoldKey,
}

impl Outer {
    /// Returns the hold that the environment names. `None` if there is none, or an odd text: others
    /// then see a wait without the hold around it.
    pub fn from_environment() -> Option<Self> {
        Self::parse(&std::env::var(KEY_VARIABLE).ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(4, ':');
        if parts.next() != Some("v1") {
            return None;
        }
        let session = u64::from_str_radix(parts.next()?, 16).ok()?;
        let seed = Bytes::try_from(parts.next()?.to_owned()).ok()?;
        Some(Outer {
            session: SessionId(session.cast_signed()),
            key: HoldKey::from_seed(seed)?,
            hold: parts.next()?.parse().ok()?,
        })
    }

    /// Returns the claim of a session to work under this hold.
    pub fn claim(&self, claimant: SessionId) -> OuterHold {
        let outer = OuterHold::new(self.hold.lock.clone(), self.hold.token, self.session);
        outer.with_proof(self.key.sign(claimant))
    }
}

/// Returns the value of [`KEY_VARIABLE`] for a program under this hold.
pub fn key_variable(session: SessionId, key: &HoldKey, hold: &FencingToken) -> String {
    format!("v1:{session}:{}:{hold}", key.seed())
}

/// Reads the token of the innermost hold around this process, if there is one.
///
/// # Errors
/// With the status of a wrong configuration if the variable has no token.
pub fn read_token() -> Result<Option<FencingToken>, Failure> {
    let Some(text) = std::env::var_os(VARIABLE).filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let parsed = text.to_string_lossy().parse();
    parsed.map(Some).map_err(|error: turnlock::fence::Error| {
        Failure::new(Exit::Configuration, format!("{VARIABLE}: {error}"))
            .hint("`turnlock run` sets it; leave it as it is, or unset it")
    })
}

/// Returns whether a hold of this lock would have to wait for the hold around this process. The
/// environment alone does not show that, because a daemon keeps its variables for long. If it names
/// the same lock, the coordinator's queue decides.
pub async fn blocks(locks: &Locks, name: &LockName, mode: Mode) -> bool {
    // A malformed variable is reported by the commands that need it.
    let Ok(Some(outer)) = read_token() else {
        return false;
    };
    if outer.lock != *name {
        return false;
    }
    let Ok(queue) = locks.queue(name).await else {
        return false;
    };
    let host = rustix::system::uname();
    let host = host.nodename().to_string_lossy();
    let mut holders = queue.entries.iter().take(queue.holders());
    holders.any(|entry| {
        // The tokens of two coordinators may be the same.
        let is_here = entry.metadata.as_ref().is_some_and(|m| m.host == host);
        let excludes = entry.mode == Mode::Exclusive || mode == Mode::Exclusive;
        entry.token == outer.token && is_here && excludes
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use turnlock::Token;

    #[test]
    fn a_claim_is_proven_for_the_session_that_makes_it_and_by_the_key_of_the_hold() {
        let key = HoldKey::generate().expect("random bytes");
        let lock = LockName::new("a:b/c").expect("valid");
        let hold = FencingToken::new(lock.clone(), Token(7));
        let text = key_variable(SessionId(-5), &key, &hold);
        let outer = Outer::parse(&text).expect("its own form");
        let claim = outer.claim(SessionId(9));
        assert_eq!((&claim.lock, claim.token), (&lock, Token(7)));
        assert_eq!(claim.session, SessionId(-5));
        assert!(HoldKey::has_signed(&key.public(), SessionId(9), &claim));
        assert!(!HoldKey::has_signed(&key.public(), SessionId(8), &claim));
        let other = HoldKey::generate().expect("random bytes");
        assert!(!HoldKey::has_signed(&other.public(), SessionId(9), &claim));
        for odd in ["", "v1", "v2:1:00:v1:exclusive:1::a", "v1:x:y:z"] {
            assert!(Outer::parse(odd).is_none(), "{odd}");
        }
    }
}
