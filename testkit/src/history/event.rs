//! The records that the parties of a run write.

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

use lock_core::clock::BootInstant;
use lock_core::{Mode, SessionId, Token};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{DataRequest, Role, Target};

/// One acquire of one process: `CONTENDER.LIFE.NUMBER`. A contender that was killed and started
/// again lives its next life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId {
    /// The contender.
    pub contender: u32,
    /// The process of the contender.
    pub life: u32,
    /// The acquire of that process.
    pub number: u32,
}

impl fmt::Display for OpId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.contender, self.life, self.number)
    }
}

impl FromStr for OpId {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.splitn(3, '.');
        let mut part = || parts.next().unwrap_or_default().parse();
        Ok(OpId {
            contender: part()?,
            life: part()?,
            number: part()?,
        })
    }
}

impl Serialize for OpId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for OpId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// An event and its instant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The nanoseconds of the boot clock.
    pub at: u64,
    /// The event.
    #[serde(flatten)]
    pub event: Event,
}

impl Record {
    /// Returns the instant.
    pub fn at(&self) -> BootInstant {
        BootInstant::from_nanos(self.at)
    }
}

/// The kinds of events.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// An acquire is called.
    Acquire {
        /// The id of the acquire.
        op: OpId,
        /// The lock.
        lock: String,
        /// The mode of the hold.
        mode: Mode,
        /// What the acquire is in the queue of the lock.
        #[serde(default)]
        role: Role,
    },
    /// A place in the queue is asked for.
    Ask {
        /// The acquire for which it is asked.
        op: OpId,
        /// The session in which it is asked.
        session: i64,
    },
    /// A place was given.
    Placed {
        /// The acquire that got it.
        op: OpId,
        /// The token of the entry.
        token: Token,
    },
    /// The lock was granted.
    Granted {
        /// The acquire that got it.
        op: OpId,
        /// The token of the grant.
        token: Token,
    },
    /// The acquire ended without the lock.
    Refused {
        /// The acquire.
        op: OpId,
        /// The reason.
        why: String,
    },
    /// The acquire was dropped.
    Cancelled {
        /// The acquire.
        op: OpId,
    },
    /// The hold was checked for validity.
    Shown {
        /// The hold.
        op: OpId,
        /// The nanoseconds of the boot clock before the check.
        asked: u64,
        /// Whether the hold was valid.
        valid: bool,
        /// The deadline shown, in nanoseconds of the boot clock.
        until: Option<u64>,
    },
    /// The hold signalled its loss.
    Lost {
        /// The hold.
        op: OpId,
        /// The reason.
        why: String,
    },
    /// A release is called.
    Release {
        /// The hold.
        op: OpId,
    },
    /// The removal of an entry is asked for.
    Remove {
        /// The acquire that made the entry.
        op: OpId,
    },
    /// The removal of an entry succeeded, or found it gone.
    Removed {
        /// The acquire that made the entry.
        op: OpId,
        /// Whether it succeeded.
        did: bool,
    },
    /// A session is to be closed by its own process.
    Close {
        /// The session.
        session: i64,
    },
    /// The resource received a request.
    Access {
        /// The hold under which it was sent.
        op: OpId,
        /// The lock.
        lock: String,
        /// The token shown.
        token: Token,
        /// Whether the fence accepted it.
        admitted: bool,
    },
    /// A value is asked for, or to be changed, under a hold.
    Data {
        /// The hold.
        op: OpId,
        /// The key of the value.
        key: String,
        /// What is asked for.
        request: DataRequest,
    },
    /// The last request for a value was carried out.
    DataDone {
        /// The hold.
        op: OpId,
        /// The value that was read, if there was one.
        value: Option<String>,
    },
    /// The last request for a value failed.
    DataFailed {
        /// The hold.
        op: OpId,
        /// The reason.
        why: String,
        /// Whether it may have been carried out all the same.
        in_doubt: bool,
    },
    /// The token offset is to be raised.
    Raise {
        /// The id of the request, which is that of no acquire.
        op: OpId,
        /// The offset asked for.
        offset: u64,
    },
    /// The token offset is at least as high as was asked for.
    Raised {
        /// The id of the request.
        op: OpId,
        /// The offset from then on.
        offset: u64,
    },
    /// A process of a contender has died.
    Died {
        /// The number of the contender.
        contender: u32,
        /// The number of its process.
        life: u32,
    },
    /// A fault begins.
    Fault {
        /// The length of the fault in nanoseconds.
        lasted: u64,
        /// The target of the fault.
        target: Target,
        /// The name of the fault.
        what: String,
    },
}

impl Event {
    pub(crate) fn ask(op: OpId, session: SessionId) -> Self {
        Event::Ask {
            op,
            session: session.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_one_line_and_come_back() {
        let op: OpId = "3.1.47".parse().expect("an id");
        let record = Record {
            at: u64::MAX,
            event: Event::Shown {
                op,
                asked: 7,
                valid: true,
                until: None,
            },
        };
        let line = serde_json::to_string(&record).expect("it serialises");
        assert!(
            line.contains("\"3.1.47\"") && !line.contains('\n'),
            "{line}"
        );
        let back: Record = serde_json::from_str(&line).expect("it parses");
        assert_eq!(back, record);
        for wrong in ["", "3", "3.1", "3.1.x", "3.1.1.1"] {
            assert!(wrong.parse::<OpId>().is_err(), "{wrong}");
        }
    }
}
