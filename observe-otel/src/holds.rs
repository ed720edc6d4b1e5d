//! The holds whose acquires are in a sampled trace.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use lock_core::{LockName, Token};
use opentelemetry::trace::SpanContext;

/// How many holds are noted at a time. A hold that begins while there are so many gets no span. A
/// note has a few hundred bytes.
pub const MAX_HOLDS: usize = 4096;

/// The acquires of the holds, by lock and token.
#[derive(Debug, Default)]
pub(crate) struct Holds(Mutex<HashMap<(LockName, Token), SpanContext>>);

impl Holds {
    /// Notes the acquire of a hold, unless there are too many.
    pub(crate) fn begin(&self, lock: &LockName, token: Token, acquire: SpanContext) {
        let mut holds = self.lock();
        if holds.len() < MAX_HOLDS {
            holds.insert((lock.clone(), token), acquire);
        }
    }

    /// Returns the acquire of a hold and forgets it, if it was noted.
    pub(crate) fn end(&self, lock: &LockName, token: Token) -> Option<SpanContext> {
        let mut holds = self.lock();
        // Mostly: where no trace is sampled, a hold costs no copy of its name.
        if holds.is_empty() {
            return None;
        }
        holds.remove(&(lock.clone(), token))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(LockName, Token), SpanContext>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_the_limit_are_noted() {
        let holds = Holds::default();
        let lock = LockName::new("a").unwrap();
        for token in 0..=MAX_HOLDS as u64 {
            holds.begin(&lock, Token(token), SpanContext::empty_context());
        }
        assert!(holds.end(&lock, Token(MAX_HOLDS as u64)).is_none());
        assert!(holds.end(&lock, Token(0)).is_some());
        assert!(holds.end(&lock, Token(0)).is_none(), "it has ended");
        holds.begin(&lock, Token(1 << 20), SpanContext::empty_context());
        assert!(holds.end(&lock, Token(1 << 20)).is_some());
    }
}
