//! Notices that the store behind a client's addresses was replaced, or went back to an earlier
//! state, as after the restore of a backup.
//!
//! A store numbers its writes: etcd by revisions, ZooKeeper by zxids. It orders a write behind all
//! that was answered before the write was sent. So an answer to a write is proof that the store
//! went back if its number, or the offset of tokens that it found, is lower than one that had been
//! seen before the write was sent. The id of another cluster is proof that the store is another
//! one. An answer to anything else proves nothing: answers overtake each other, and members lag
//! behind in what they read out.
//!
//! Such proof ends an *era*. The sessions of an earlier era are over: entries that were removed
//! after the backup was made are back, and may stand ahead of a holder.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use lock_core::{Error, ErrorKind, LossReason, TokenOffset};

/// What a client has seen of its store, over all of its connections and sessions.
#[derive(Debug)]
pub struct Continuity {
    /// The addresses, for messages.
    store: String,
    /// What the store calls its numbers.
    number_name: &'static str,
    /// How often the store was replaced or went back. It changes under the lock of `seen`. Checks read
    /// it without that lock.
    era: AtomicU64,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// The id of the cluster; zero if it has none.
    cluster: u64,
    /// The highest number in an answer of this era.
    number: u64,
    /// The highest offset of tokens in an answer of this era.
    offset: TokenOffset,
    /// What the end of an era demands of later tokens.
    demand: Option<Demand>,
}

#[derive(Debug, Clone, Copy)]
struct Demand {
    /// The highest number that had been seen.
    number: u64,
    /// Whether the numbers ever went back. Otherwise they went on from higher ones.
    went_back: bool,
    /// On this offset, all tokens are higher than those of before, as far as was seen.
    offset: u64,
}

/// What had been seen when a write was sent.
#[derive(Debug, Clone, Copy)]
pub struct SentWrite {
    era: u64,
    number: u64,
    offset: TokenOffset,
}

impl Continuity {
    /// Returns the record of a client that has seen nothing yet.
    pub fn new(store: impl Into<String>, number_name: &'static str) -> Self {
        Continuity {
            store: store.into(),
            number_name,
            era: AtomicU64::new(0),
            seen: Mutex::default(),
        }
    }

    /// Begins a write. To be called before it is sent.
    pub fn begin_write(&self) -> SentWrite {
        let seen = self.seen();
        SentWrite {
            era: self.era(),
            number: seen.number,
            offset: seen.offset,
        }
    }

    /// Ends a write that was answered with this number by a cluster with this id. Each is zero if
    /// the answer has none. Returns the era of the answer.
    pub fn end_write(&self, sent: SentWrite, cluster: u64, number: u64) -> u64 {
        let mut seen = self.seen();
        // Nothing tells which of the two stores has answered.
        if sent.era != self.era() {
            return sent.era;
        }
        let went_back = number != 0 && number < sent.number;
        let is_other = cluster != 0 && seen.cluster != 0 && cluster != seen.cluster;
        if went_back || is_other {
            tracing::error!(
                ?sent,
                cluster,
                number,
                "the answer to a write is not of this store"
            );
            self.end_era(&mut seen, went_back);
            seen.number = number;
        }
        seen.number = seen.number.max(number);
        if cluster != 0 {
            seen.cluster = cluster;
        }
        self.era()
    }

    /// Notes the offset of tokens that a write has found. An offset is never lowered.
    pub fn note_offset(&self, sent: SentWrite, offset: TokenOffset) {
        let mut seen = self.seen();
        if sent.era != self.era() {
            return;
        }
        if offset < sent.offset {
            tracing::error!(?sent, ?offset, "a write has found a lower offset");
            self.end_era(&mut seen, true);
        }
        seen.offset = seen.offset.max(offset);
    }

    /// Notes another proof, for a session of this era, that the store went back: what the session
    /// had removed is there again.
    pub fn note_return(&self, era: u64) {
        let mut seen = self.seen();
        if self.era() == era {
            tracing::error!("what a session had removed is there again");
            self.end_era(&mut seen, true);
        }
    }

    fn end_era(&self, seen: &mut Seen, went_back: bool) {
        tracing::error!(
            store = self.store,
            seen = seen.number,
            went_back,
            "the store was replaced or went back: all its sessions are over"
        );
        let offset = match went_back {
            true => seen.number.saturating_add(seen.offset.get()),
            false => seen.offset.get(),
        };
        let before = seen.demand;
        seen.demand = Some(Demand {
            number: seen.number,
            went_back: went_back || before.is_some_and(|before| before.went_back),
            offset: before.map_or(offset, |before| before.offset.max(offset)),
        });
        seen.offset = TokenOffset::default();
        self.era.fetch_add(1, Ordering::SeqCst);
    }

    /// Returns the present era.
    pub fn era(&self) -> u64 {
        self.era.load(Ordering::SeqCst)
    }

    /// Checks that a session of this era is on the present store.
    ///
    /// # Errors
    /// [`LossReason::StoreGone`] if it is not.
    pub fn check_era(&self, era: u64) -> Result<(), Error> {
        match self.era() == era {
            true => Ok(()),
            false => Err(Error::session_lost(LossReason::StoreGone)),
        }
    }

    /// Checks that tokens on this offset are higher than those of earlier eras. Raw locks have no
    /// offset.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] if they may not be.
    pub fn check_tokens(&self, offset: Option<TokenOffset>) -> Result<(), Error> {
        // The first era demands nothing.
        if self.era() == 0 {
            return Ok(());
        }
        let Some(demand) = self.seen().demand else {
            return Ok(());
        };
        let remedy = match offset {
            Some(offset) if offset.get() >= demand.offset => return Ok(()),
            Some(_) => format!(
                "stop the users of its locks, and raise the offset of each namespace: turnlock \
                 token-offset --raise-to {}",
                demand.offset
            ),
            None if !demand.went_back => return Ok(()),
            None => "raw locks have no offset, so start this program again when nobody uses a \
                     token of before"
                .to_owned(),
        };
        let what = match demand.went_back {
            true => format!(
                "went back to before {} {}, as it does when an older backup is restored",
                self.number_name, demand.number
            ),
            false => "was replaced by another one".to_owned(),
        };
        Err(Error::new(
            ErrorKind::Configuration,
            format!(
                "{} {what}, so tokens would fall (docs/runbooks/went-back.md): {remedy}",
                self.store
            ),
        ))
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLUSTER: u64 = 7;

    fn offset(offset: u64) -> Option<TokenOffset> {
        Some(TokenOffset::new(offset).expect("valid"))
    }

    /// Makes a client whose last write had this number.
    fn seen(number: u64) -> Continuity {
        let continuity = Continuity::new("h:1", "revision");
        write(&continuity, CLUSTER, number);
        continuity
    }

    fn write(continuity: &Continuity, cluster: u64, number: u64) -> u64 {
        continuity.end_write(continuity.begin_write(), cluster, number)
    }

    fn note_offset(continuity: &Continuity, number: u64) {
        let offset = offset(number).expect("some");
        continuity.note_offset(continuity.begin_write(), offset);
    }

    #[test]
    fn a_lower_number_ends_the_era_and_holds_tokens_back_until_the_offset_is_above_all_of_them() {
        let continuity = seen(100);
        note_offset(&continuity, 1000);
        assert_eq!(write(&continuity, CLUSTER, 90), 1);
        assert_eq!(
            continuity.check_era(0).expect_err("over").kind(),
            ErrorKind::SessionLost(LossReason::StoreGone)
        );
        continuity.check_era(1).expect("of the present store");
        for too_low in [None, offset(0), offset(1000), offset(1099)] {
            let error = continuity.check_tokens(too_low).expect_err("too low");
            assert_eq!(error.kind(), ErrorKind::Configuration);
            let text = error.to_string();
            assert!(
                text.starts_with("h:1 went back to before revision 100,"),
                "{text}"
            );
            assert_eq!(
                text.ends_with("--raise-to 1100"),
                too_low.is_some(),
                "{text}"
            );
        }
        continuity.check_tokens(offset(1100)).expect("above all");
        // It does not matter that the numbers have caught up meanwhile: other clients may have seen
        // higher ones.
        assert_eq!(write(&continuity, CLUSTER, 200), 1);
        continuity.check_tokens(offset(0)).expect_err("too low");
    }

    #[test]
    fn going_back_twice_forgets_nothing() {
        let continuity = seen(100);
        write(&continuity, CLUSTER, 20);
        assert_eq!(write(&continuity, CLUSTER, 10), 2);
        write(&continuity, 8, 30);
        continuity.check_tokens(offset(99)).expect_err("too low");
        continuity.check_tokens(offset(100)).expect("above all");
        continuity.check_tokens(None).expect_err("too low");
    }

    #[test]
    fn what_is_there_again_is_proof_although_the_numbers_have_caught_up() {
        let continuity = seen(100);
        continuity.note_return(0);
        continuity.note_return(0);
        assert_eq!(continuity.era(), 1);
        continuity.check_tokens(offset(99)).expect_err("too low");
        assert_eq!(write(&continuity, CLUSTER, 101), 1);
    }

    #[test]
    fn a_lower_offset_is_proof_unless_it_was_raised_meanwhile() {
        let continuity = seen(100);
        let early = continuity.begin_write();
        note_offset(&continuity, 1000);
        continuity.note_offset(early, TokenOffset::default());
        note_offset(&continuity, 1000);
        assert_eq!(continuity.era(), 0);
        for _ in 0..2 {
            note_offset(&continuity, 999);
            assert_eq!(continuity.era(), 1);
        }
        continuity.check_tokens(offset(1099)).expect_err("too low");
        continuity.check_tokens(offset(1100)).expect("above all");
    }

    #[test]
    fn another_cluster_has_to_have_the_offset_too() {
        let continuity = seen(100);
        note_offset(&continuity, 1000);
        write(&continuity, 8, 101);
        continuity.check_tokens(offset(999)).expect_err("too low");
        continuity.check_tokens(offset(1000)).expect("they rise");
        continuity.check_tokens(None).expect("they rise");
    }

    #[test]
    fn another_cluster_that_goes_on_from_higher_numbers_gives_tokens() {
        let continuity = seen(100);
        assert_eq!(write(&continuity, 8, 101), 1);
        continuity.check_era(0).expect_err("over");
        continuity.check_tokens(offset(0)).expect("they rise");
        continuity.check_tokens(None).expect("they rise");
        assert_eq!(write(&continuity, 0, 101), 1, "it has no id");
        assert_eq!(write(&continuity, 8, 0), 1, "it has no number");
        assert_eq!(write(&continuity, 8, 101), 1);
    }

    #[test]
    fn answers_that_overtake_each_other_prove_nothing() {
        let continuity = seen(100);
        let (first, second) = (continuity.begin_write(), continuity.begin_write());
        assert_eq!(continuity.end_write(second, CLUSTER, 110), 0);
        assert_eq!(continuity.end_write(first, CLUSTER, 100), 0);
        // A write that changed nothing has the number of the one before.
        assert_eq!(write(&continuity, CLUSTER, 110), 0);
        continuity.check_tokens(None).expect("nothing was proven");
    }

    #[test]
    fn an_answer_from_before_the_proof_is_of_the_former_era() {
        let continuity = seen(100);
        let late = continuity.begin_write();
        write(&continuity, CLUSTER, 90);
        assert_eq!(continuity.end_write(late, CLUSTER, 101), 0);
        assert_eq!(
            write(&continuity, CLUSTER, 91),
            1,
            "101 was not of this era"
        );
    }
}
