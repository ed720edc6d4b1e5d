//! Users show their passwords, and get tokens.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use backend_kit::secret::Secret;
use lock_core::background;
use tokio::sync::Semaphore;

use super::Access;
use super::users::{MAX_PASSWORD_BYTES, Record};

/// How many passwords are checked at a time. Each check keeps a processor busy.
const CHECKS_AT_A_TIME: usize = 2;

/// How many may be checked or wait for it. Further ones are refused.
const MAX_CHECKS: usize = 256;

/// Why a user gets no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server) enum LoginError {
    /// There is no such user, or its password is another one.
    Failed,
    /// Too many others show their passwords now, or the system is short of threads.
    Busy,
}

/// Bounds the checks of passwords.
#[derive(Debug)]
pub(super) struct Login {
    running: Arc<Semaphore>,
    admitted: Semaphore,
    matched: Matched,
}

impl Login {
    pub(super) fn new() -> Self {
        Login {
            running: Arc::new(Semaphore::new(CHECKS_AT_A_TIME)),
            admitted: Semaphore::new(MAX_CHECKS),
            matched: Matched::new(),
        }
    }

    /// Checks a password off the threads that serve.
    async fn check(
        &self,
        user: &str,
        record: &Record,
        password: Secret,
    ) -> Result<bool, LoginError> {
        if self.matched.contains(user, record, &password) {
            return Ok(true);
        }
        let _admitted = self.admitted.try_acquire().map_err(|_| LoginError::Busy)?;
        let running = Arc::clone(&self.running).acquire_owned().await;
        let running = running.map_err(|_| LoginError::Busy)?;
        // Many clients of one user come at once after a restart.
        if self.matched.contains(user, record, &password) {
            return Ok(true);
        }
        let checked = record.clone();
        // Kept by the thread: it goes on if the caller goes away.
        let check = move || {
            let _running = running;
            (checked.matches(&password), password)
        };
        let done = background::block(check).await;
        let (matches, password) = done.map_err(|_| LoginError::Busy)?;
        if matches {
            self.matched.insert(user, record, &password);
        }
        Ok(matches)
    }
}

/// The password of each user that matched last, hashed with a key of this process. Clients show theirs
/// again and again, some once a minute: only the first time costs some tenths of a second. A wrong one
/// costs it each time.
#[derive(Debug)]
struct Matched {
    /// `None` if the system gives no random bytes.
    key: Option<hmac::Key>,
    tags: Mutex<BTreeMap<String, (Record, hmac::Tag)>>,
}

impl Matched {
    fn new() -> Self {
        Matched {
            key: hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).ok(),
            tags: Mutex::default(),
        }
    }

    fn contains(&self, user: &str, record: &Record, password: &Secret) -> bool {
        let tags = self.tags.lock().unwrap_or_else(PoisonError::into_inner);
        let (Some(key), Some((matched, tag))) = (&self.key, tags.get(user)) else {
            return false;
        };
        let password = password.expose().as_bytes();
        matched == record && hmac::verify(key, password, tag.as_ref()).is_ok()
    }

    fn insert(&self, user: &str, record: &Record, password: &Secret) {
        if let Some(key) = &self.key {
            let tag = hmac::sign(key, password.expose().as_bytes());
            let mut tags = self.tags.lock().unwrap_or_else(PoisonError::into_inner);
            tags.insert(user.to_owned(), (record.clone(), tag));
        }
    }
}

impl Access {
    /// Returns a token for a user who shows its password.
    ///
    /// # Cancel safety
    /// Cancel safe; a check that has begun goes on to its end.
    pub(in crate::server) async fn log_in(
        &self,
        user: &str,
        password: Secret,
    ) -> Result<String, LoginError> {
        // No user has a longer one. The hash of a long password would take the time of all clients.
        if user.len() > MAX_PASSWORD_BYTES || password.expose().len() > MAX_PASSWORD_BYTES {
            return Err(LoginError::Failed);
        }
        let record = self.users().find(user).cloned();
        let is_known = record.is_some();
        // Checked in any case: the time that it takes must not say which users there are.
        let record = record.unwrap_or_else(Record::unmatched);
        let matches = self.0.login.check(user, &record, password).await?;
        if !matches || !is_known {
            return Err(LoginError::Failed);
        }
        let token = self.0.tokens.issue(user, &record).ok_or(LoginError::Busy)?;
        // The files may have been read again in the meantime.
        match self.users().find(user) == Some(&record) {
            true => Ok(token),
            false => {
                self.0.tokens.revoke(|other| other == user);
                Err(LoginError::Failed)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::new(text.to_owned())
    }

    #[tokio::test]
    async fn checks_beyond_the_limit_are_refused_at_once() {
        let login = Login::new();
        let record = Record::unmatched();
        let all = login.admitted.acquire_many(MAX_CHECKS as u32).await;
        let check = || login.check("alice", &record, secret("a password"));
        assert_eq!(check().await, Err(LoginError::Busy));
        drop(all);
        assert_eq!(check().await, Ok(false));
    }

    #[tokio::test]
    async fn a_password_that_has_matched_is_not_checked_at_length_again() {
        let login = Login::new();
        let record = Record::new(&secret("the right one")).expect("random bytes");
        let check = |record, password| login.check("alice", record, secret(password));
        assert_eq!(check(&record, "the wrong one").await, Ok(false));
        assert_eq!(check(&record, "the right one").await, Ok(true));
        let all = login.admitted.acquire_many(MAX_CHECKS as u32).await;
        assert_eq!(check(&record, "the right one").await, Ok(true));
        let busy = Err(LoginError::Busy);
        assert_eq!(check(&record, "the wrong one").await, busy);
        let other = Record::unmatched();
        assert_eq!(check(&other, "the right one").await, busy, "it was changed");
        let others = login.check("bob", &record, secret("the right one"));
        assert_eq!(others.await, busy, "another user's");
        drop(all);
    }
}
