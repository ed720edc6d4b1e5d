//! What the coordinator remembers of the keys of a lock: which commands have started, and which have
//! ended well.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The most keys that one lock remembers. The whole record is written for each command.
pub const MAX_KEYS: usize = 1_000;

/// The longest key, in bytes.
pub const MAX_KEY_BYTES: usize = 200;

/// The version of the record's form. A later one is refused.
const VERSION: u32 = 1;

/// The keys of one lock.
#[derive(Debug, Serialize, Deserialize)]
pub struct Record {
    version: u32,
    keys: BTreeMap<String, Mark>,
}

/// What is known of the command under a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Mark {
    /// When the command started, in milliseconds of Unix time.
    pub started_at: u64,
    /// The token of its hold.
    pub token: u64,
    /// When the key may be forgotten. There is none until the command has ended well: a command whose
    /// end is not known is never forgotten.
    pub forget_at: Option<u64>,
}

/// Why a record cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// It is not one of ours.
    #[error("it is not a record of `turnlock run --once`: {0}")]
    Foreign(#[from] serde_json::Error),
    /// A later version wrote it.
    #[error("it has version {0}, and this program knows only version {VERSION}")]
    Version(u32),
    /// There is no room for another key.
    #[error("the lock remembers {MAX_KEYS} keys already, which is the most")]
    Full,
}

impl Default for Record {
    fn default() -> Self {
        Record {
            version: VERSION,
            keys: BTreeMap::new(),
        }
    }
}

impl Record {
    /// Reads a record. There is none before the first command.
    ///
    /// # Errors
    /// [`RecordError::Foreign`] and [`RecordError::Version`].
    pub fn parse(bytes: Option<&[u8]>) -> Result<Self, RecordError> {
        #[derive(Deserialize)]
        struct Head {
            version: u32,
        }
        let Some(bytes) = bytes else {
            return Ok(Record::default());
        };
        // A later version may have other fields, so its number is read first.
        match serde_json::from_slice::<Head>(bytes)?.version {
            VERSION => Ok(serde_json::from_slice(bytes)?),
            other => Err(RecordError::Version(other)),
        }
    }

    /// Returns the record as it is stored.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Forgets the keys whose time has come.
    pub fn forget(&mut self, now: u64) {
        self.keys
            .retain(|_, mark| mark.forget_at.is_none_or(|at| now < at));
    }

    pub fn find(&self, key: &str) -> Option<Mark> {
        self.keys.get(key).copied()
    }

    /// Notes that the command under a key starts.
    ///
    /// # Errors
    /// [`RecordError::Full`].
    pub fn start(&mut self, key: &str, now: u64, token: u64) -> Result<(), RecordError> {
        if self.keys.len() >= MAX_KEYS && !self.keys.contains_key(key) {
            return Err(RecordError::Full);
        }
        let mark = Mark {
            started_at: now,
            token,
            forget_at: None,
        };
        self.keys.insert(key.to_owned(), mark);
        Ok(())
    }

    /// Notes that the command under a key has ended well.
    pub fn finish(&mut self, key: &str, now: u64, keep: Duration) {
        if let Some(mark) = self.keys.get_mut(key) {
            let keep = u64::try_from(keep.as_millis()).unwrap_or(u64::MAX);
            mark.forget_at = Some(now.saturating_add(keep));
        }
    }

    /// Notes that the command under a key did not run, or has failed.
    pub fn clear(&mut self, key: &str) {
        self.keys.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_forgotten_when_its_time_has_come_unless_its_end_is_not_known() {
        let mut record = Record::default();
        record.start("a", 10, 1).expect("room");
        record.start("b", 10, 1).expect("room");
        record.finish("a", 20, Duration::from_millis(5));
        record.forget(24);
        assert_eq!(record.find("a").and_then(|mark| mark.forget_at), Some(25));
        record.forget(25);
        assert_eq!(record.find("a"), None);
        record.forget(u64::MAX);
        assert_eq!(record.find("b").expect("kept").forget_at, None);
        record.clear("b");
        assert_eq!(record.find("b"), None);
    }

    #[test]
    fn a_full_record_takes_no_new_key_and_fits_into_a_value() {
        let mut record = Record::default();
        let key = |number: usize| format!("{number:0>MAX_KEY_BYTES$}");
        for number in 0..MAX_KEYS {
            record
                .start(&key(number), u64::MAX, u64::MAX)
                .expect("room");
        }
        assert!(matches!(
            record.start("one more", 1, 1),
            Err(RecordError::Full)
        ));
        record.start(&key(0), 1, 1).expect("no new key");
        for number in 0..MAX_KEYS {
            record.finish(&key(number), u64::MAX, Duration::MAX);
        }
        let size = record.to_bytes().len();
        assert!(size < turnlock::data::MAX_VALUE_BYTES, "{size}");
    }

    #[test]
    fn a_record_is_read_back_and_no_other_value_is_taken_for_one() {
        let mut record = Record::default();
        record.start("job \"7\"\u{e9}", 10, 3).expect("room");
        let bytes = record.to_bytes();
        assert_eq!(
            String::from_utf8_lossy(&bytes),
            "{\"version\":1,\"keys\":{\"job \\\"7\\\"\u{e9}\":\
             {\"startedAt\":10,\"token\":3,\"forgetAt\":null}}}"
        );
        let read = Record::parse(Some(&bytes)).expect("a record");
        assert_eq!(read.find("job \"7\"\u{e9}"), record.find("job \"7\"\u{e9}"));
        assert!(Record::parse(None).expect("none yet").keys.is_empty());
        for foreign in [
            "",
            "7",
            "{}",
            "{\"version\":1}",
            "{\"version\":1,\"keys\":[]}",
        ] {
            let read = Record::parse(Some(foreign.as_bytes()));
            assert!(matches!(read, Err(RecordError::Foreign(_))), "{foreign}");
        }
        let later = Record::parse(Some(b"{\"version\":2,\"rows\":[]}"));
        assert!(matches!(later, Err(RecordError::Version(2))));
    }
}
