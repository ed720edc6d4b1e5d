//! The acquires that are under way.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use lock_core::clock::BootInstant;

/// When each acquire that is under way began, ascending.
///
/// Acquires begin at the end, and end at the start if they waited in the queue, or at the end if
/// they did not. So both are cheap, however many there are.
#[derive(Debug, Default)]
pub(crate) struct Waits(Mutex<VecDeque<BootInstant>>);

impl Waits {
    pub(crate) fn begin(&self, begun: BootInstant) {
        let mut begins = self.lock();
        let at = match begins.back() {
            Some(last) if *last > begun => begins.partition_point(|other| *other <= begun),
            _ => begins.len(),
        };
        begins.insert(at, begun);
    }

    pub(crate) fn end(&self, begun: BootInstant) {
        let mut begins = self.lock();
        let at = match begins.back() {
            Some(last) if *last == begun => Ok(begins.len() - 1),
            _ => begins.binary_search(&begun),
        };
        if let Ok(at) = at {
            begins.remove(at);
        }
    }

    /// Returns how many acquires are under way, and when the oldest of them began.
    pub(crate) fn look(&self) -> (usize, Option<BootInstant>) {
        let begins = self.lock();
        (begins.len(), begins.front().copied())
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<BootInstant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_known_in_whatever_order_they_begin_and_end() {
        let at = BootInstant::from_nanos;
        let waits = Waits::default();
        assert_eq!(waits.look(), (0, None));
        for begun in [3, 1, 2, 2] {
            waits.begin(at(begun));
        }
        assert_eq!(waits.look(), (4, Some(at(1))));
        waits.end(at(1));
        waits.end(at(2));
        assert_eq!(waits.look(), (2, Some(at(2))));
        waits.end(at(9)); // never begun
        waits.end(at(2));
        waits.end(at(3));
        assert_eq!(waits.look(), (0, None));
    }
}
