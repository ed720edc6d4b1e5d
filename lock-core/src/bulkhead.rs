//! Bounds the acquires that a process has under way at once.

use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::error::{Error, ErrorKind};

/// When a refused caller should try again. When another acquire ends is not known.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The places for acquires that are under way.
#[derive(Debug)]
pub(crate) struct Bulkhead {
    limit: usize,
    places: Semaphore,
}

impl Bulkhead {
    /// Returns a bulkhead with this many places.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] if there would be none, or more than can be counted.
    pub(crate) fn new(limit: usize) -> Result<Self, Error> {
        let most = Semaphore::MAX_PERMITS;
        if !(1..=most).contains(&limit) {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!("a limit of {limit} pending acquires is out of bounds: give 1 to {most}"),
            ));
        }
        Ok(Bulkhead {
            limit,
            places: Semaphore::new(limit),
        })
    }

    /// Takes a place for an acquire until the result is dropped.
    ///
    /// # Errors
    /// [`ErrorKind::Exhausted`] if all are taken.
    pub(crate) fn enter(&self) -> Result<SemaphorePermit<'_>, Error> {
        self.places.try_acquire().map_err(|_| {
            let text = format!(
                "this process has {} acquires under way, which is its own limit \
                 (max_pending_acquires): try again later, or raise the limit",
                self.limit
            );
            Error::new(ErrorKind::Exhausted, text).with_retry_after(RETRY_AFTER)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_when_its_acquire_has_ended() {
        let bulkhead = Bulkhead::new(2).expect("in bounds");
        let first = bulkhead.enter().expect("a place");
        let _second = bulkhead.enter().expect("a place");
        let refused = bulkhead.enter().expect_err("both are taken");
        assert_eq!(refused.kind(), ErrorKind::Exhausted);
        assert_eq!(refused.retry_after(), Some(RETRY_AFTER));
        assert!(refused.to_string().contains("2 acquires"), "{refused}");
        drop(first);
        assert!(bulkhead.enter().is_ok(), "a place again");
    }

    #[test]
    fn a_bulkhead_without_places_is_refused() {
        for limit in [0, usize::MAX] {
            let error = Bulkhead::new(limit).expect_err("out of bounds");
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        }
    }
}
