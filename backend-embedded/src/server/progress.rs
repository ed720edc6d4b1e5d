//! Progress requests: how far a watch stream is, answered only after every watch of the stream has
//! been asked.

use std::collections::BTreeSet;

use crate::machine::op::Revision;

/// A progress request that is being passed around the watches of a stream.
#[derive(Debug)]
pub(super) struct ProgressRequest {
    waiting: BTreeSet<i64>,
    /// The lowest revision that any watch asked so far has reached.
    reached: Option<Revision>,
    /// The store's revision when the request began, which is the result for a stream without
    /// watches.
    began: Revision,
}

impl ProgressRequest {
    /// Starts a request for the watches `ids`.
    pub(super) fn new(ids: impl Iterator<Item = i64>, began: Revision) -> Self {
        Self {
            waiting: ids.collect(),
            reached: None,
            began,
        }
    }

    /// Adds a new watch `id` to the request: its events may be older than the result.
    pub(super) fn add_watch(&mut self, id: i64) {
        self.waiting.insert(id);
    }

    /// Records that watch `id` has delivered everything up to `revision`.
    pub(super) fn record_progress(&mut self, id: i64, revision: Revision) {
        if self.waiting.remove(&id) {
            self.reached = Some(self.reached.map_or(revision, |least| least.min(revision)));
        }
    }

    /// Removes the watch `id`, which has ended.
    pub(super) fn remove_watch(&mut self, id: i64) {
        self.waiting.remove(&id);
    }

    /// Returns the result, once all watches have been asked.
    pub(super) fn revision(&self) -> Option<Revision> {
        self.waiting
            .is_empty()
            .then(|| self.reached.unwrap_or(self.began))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_the_least_that_all_have_reached() {
        let mut request = ProgressRequest::new([1, 2].into_iter(), 5);
        request.record_progress(1, 9);
        assert_eq!(request.revision(), None);
        request.add_watch(3);
        request.record_progress(2, 7);
        assert_eq!(request.revision(), None, "the newcomer is asked too");
        request.record_progress(3, 8);
        assert_eq!(request.revision(), Some(7));
    }

    #[test]
    fn without_watches_the_answer_is_the_revision_it_began_at() {
        assert_eq!(ProgressRequest::new([].into_iter(), 5).revision(), Some(5));
        let mut request = ProgressRequest::new([1].into_iter(), 5);
        request.remove_watch(1);
        assert_eq!(request.revision(), Some(5));
    }
}
