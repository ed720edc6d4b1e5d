//! The tokens of users who have shown their passwords.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand;
use lock_core::clock::Stopwatch;

use super::subject::Subject;
use super::users::{Record, Users};

/// How long a token is good for after its last use (as in etcd).
pub(super) const TOKEN_TTL: Duration = Duration::from_secs(300);

/// The most tokens of one user. A further one ends that which was not used for longest.
const MAX_TOKENS_PER_USER: usize = 1024;

/// The random bytes of a token.
const TOKEN_BYTES: usize = 32;

/// A token is known by this hash alone, so that neither a search's time nor the memory shows it.
type TokenHash = [u8; 32];

fn hash(token: &str) -> TokenHash {
    let mut hash = TokenHash::default();
    hash.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    hash
}

/// What a token stands for.
#[derive(Debug)]
pub(super) struct Session {
    user: Arc<str>,
    subject: Subject,
    /// What the password was checked against. The session ends when the user has gone, or has
    /// another password.
    record: Record,
    /// When it was last used, in milliseconds.
    used: AtomicU64,
}

impl Session {
    pub(super) fn subject(&self) -> &Subject {
        &self.subject
    }

    /// Returns whether the user still exists with the password that was shown. A stream goes on with
    /// the session of its beginning, whether the token has expired by then or not.
    pub(super) fn is_valid(&self, users: &Users) -> bool {
        users.find(&self.user) == Some(&self.record)
    }
}

/// All tokens.
#[derive(Debug)]
pub(super) struct Tokens {
    clock: Stopwatch,
    sessions: Mutex<BTreeMap<TokenHash, Arc<Session>>>,
}

impl Tokens {
    pub(super) fn new() -> Self {
        Tokens {
            clock: Stopwatch::start(),
            sessions: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<TokenHash, Arc<Session>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.clock.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Makes a token for a user. Returns `None` if the system gives no random bytes.
    pub(super) fn issue(&self, user: &str, record: &Record) -> Option<String> {
        self.issue_at(user, record, self.now())
    }

    fn issue_at(&self, user: &str, record: &Record, now: u64) -> Option<String> {
        let mut random = [0; TOKEN_BYTES];
        rand::fill(&mut random).ok()?;
        let mut token = String::with_capacity(2 * TOKEN_BYTES);
        for byte in random {
            let _ = write!(token, "{byte:02x}");
        }
        let session = Session {
            user: user.into(),
            subject: Subject::user(user),
            record: record.clone(),
            used: AtomicU64::new(now),
        };
        let mut sessions = self.lock();
        sessions.retain(|_, session| !is_expired(session, now));
        let own = sessions
            .iter()
            .filter(|(_, session)| *session.user == *user);
        if own.clone().count() >= MAX_TOKENS_PER_USER {
            let used = |session: &Session| session.used.load(Ordering::Relaxed);
            let oldest = own.min_by_key(|(_, session)| used(session));
            if let Some(oldest) = oldest.map(|(hash, _)| *hash) {
                sessions.remove(&oldest);
            }
        }
        sessions.insert(hash(&token), Arc::new(session));
        Some(token)
    }

    /// Returns what a token stands for, and prolongs its life.
    pub(super) fn find(&self, token: &str) -> Option<Arc<Session>> {
        self.find_at(token, self.now())
    }

    fn find_at(&self, token: &str, now: u64) -> Option<Arc<Session>> {
        let hash = hash(token);
        let mut sessions = self.lock();
        let session = sessions.get(&hash)?;
        if is_expired(session, now) {
            sessions.remove(&hash);
            return None;
        }
        session.used.fetch_max(now, Ordering::Relaxed);
        Some(Arc::clone(session))
    }

    /// Prolongs the life of the token of a session, which was just used on a stream.
    pub(super) fn prolong(&self, session: &Session) {
        session.used.fetch_max(self.now(), Ordering::Relaxed);
    }

    /// Ends the tokens of all users for whom `is_changed` holds.
    pub(super) fn revoke(&self, is_changed: impl Fn(&str) -> bool) {
        self.lock().retain(|_, session| !is_changed(&session.user));
    }
}

fn is_expired(session: &Session, now: u64) -> bool {
    let unused = now.saturating_sub(session.used.load(Ordering::Relaxed));
    u128::from(unused) >= TOKEN_TTL.as_millis()
}

#[cfg(test)]
mod tests {
    use backend_kit::secret::Secret;

    use super::*;

    fn record() -> Record {
        Record::unmatched()
    }

    const TTL: u64 = 300_000;

    #[test]
    fn a_token_lives_as_long_as_it_is_used() {
        let tokens = Tokens::new();
        let token = tokens.issue_at("alice", &record(), 0).expect("a token");
        for now in [TTL - 1, 2 * TTL - 2] {
            let session = tokens.find_at(&token, now).expect("it is used");
            assert_eq!(session.subject().to_string(), "user:alice");
        }
        assert!(
            tokens.find_at(&token, 3 * TTL - 2).is_none(),
            "it is unused"
        );
        assert!(tokens.lock().is_empty(), "it is forgotten");
        assert!(tokens.find_at("unknown", 0).is_none());
    }

    #[test]
    fn no_user_takes_the_tokens_of_another() {
        let tokens = Tokens::new();
        let bobs = tokens.issue_at("bob", &record(), 0).expect("a token");
        let first = tokens.issue_at("alice", &record(), 0).expect("a token");
        for _ in 0..MAX_TOKENS_PER_USER {
            tokens.issue_at("alice", &record(), 1).expect("a token");
        }
        assert!(tokens.find_at(&first, 2).is_none(), "the oldest has ended");
        assert!(tokens.find_at(&bobs, 2).is_some());
        assert_eq!(tokens.lock().len(), MAX_TOKENS_PER_USER + 1);
    }

    #[test]
    fn the_tokens_of_a_changed_user_end_at_once() {
        let tokens = Tokens::new();
        let issue = |user| tokens.issue(user, &record()).expect("a token");
        let [alices, bobs] = ["alice", "bob"].map(issue);
        tokens.revoke(|user| user == "alice");
        assert!(tokens.find(&alices).is_none());
        assert!(tokens.find(&bobs).is_some());
    }

    /// Its token may have made room for another one long before.
    #[test]
    fn a_stream_ends_with_the_password_that_was_shown_for_it() {
        let tokens = Tokens::new();
        let password = Secret::new("the right one".to_owned());
        let record = Record::new(&password).expect("random bytes");
        let users = |text: String| Users::parse(&text).expect("users");
        let present = users(format!("alice:{}\n", record.to_text()));
        let session = {
            let token = tokens.issue("alice", &record).expect("a token");
            tokens.find(&token).expect("it is valid")
        };
        for _ in 0..=MAX_TOKENS_PER_USER {
            tokens.issue("alice", &record).expect("a token");
        }
        assert!(session.is_valid(&present));
        let other = Record::new(&password).expect("random bytes");
        let changed = users(format!("alice:{}\n", other.to_text()));
        assert!(!session.is_valid(&changed));
        assert!(!session.is_valid(&Users::default()));
    }

    #[test]
    fn a_token_cannot_be_read_from_what_is_kept_of_it() {
        let tokens = Tokens::new();
        let token = tokens.issue("alice", &record()).expect("a token");
        assert!(!format!("{tokens:?}").contains(&token));
    }
}
