//! What the parties of a run write down.

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

use lock_core::clock::BootInstant;
use lock_core::{Mode, SessionId, Token};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Target;

/// One acquire of one process: `CONTENDER.LIFE.NUMBER`. A contender that was killed and started
/// again lives its next life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId {
    /// Which contender.
    pub contender: u32,
    /// Which of its processes.
    pub life: u32,
    /// Which of that process's acquires.
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

/// Something that happened at an instant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Nanoseconds of the boot clock.
    pub at: u64,
    /// What.
    #[serde(flatten)]
    pub event: Event,
}

impl Record {
    /// The instant.
    pub fn at(&self) -> BootInstant {
        BootInstant::from_nanos(self.at)
    }
}

/// What can happen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// An acquire is called.
    Acquire {
        /// Its number.
        op: OpId,
        /// The lock.
        lock: String,
        /// How to hold it.
        mode: Mode,
    },
    /// A place in the queue is asked for.
    Ask {
        /// For which acquire.
        op: OpId,
        /// In which session.
        session: i64,
    },
    /// A place was given.
    Placed {
        /// To which acquire.
        op: OpId,
        /// The token of the entry.
        token: Token,
    },
    /// The lock is ours.
    Granted {
        /// Of which acquire.
        op: OpId,
        /// With which token.
        token: Token,
    },
    /// The acquire answered something else.
    Refused {
        /// Which.
        op: OpId,
        /// What it said.
        why: String,
    },
    /// The acquire was dropped.
    Cancelled {
        /// Which.
        op: OpId,
    },
    /// The hold was asked whether it is valid.
    Shown {
        /// Which.
        op: OpId,
        /// Nanoseconds of the boot clock before the question.
        asked: u64,
        /// The answer.
        valid: bool,
        /// The deadline shown, in nanoseconds of the boot clock.
        until: Option<u64>,
    },
    /// The hold signalled its loss.
    Lost {
        /// Which.
        op: OpId,
        /// Why.
        why: String,
    },
    /// A release is called.
    Release {
        /// Of which hold.
        op: OpId,
    },
    /// The removal of an entry is asked for.
    Remove {
        /// Of which acquire.
        op: OpId,
    },
    /// The removal of an entry succeeded, or found it gone.
    Removed {
        /// Of which acquire.
        op: OpId,
        /// Whether it succeeded.
        did: bool,
    },
    /// The resource was asked for something.
    Access {
        /// By which hold.
        op: OpId,
        /// The lock.
        lock: String,
        /// The token shown.
        token: Token,
        /// Whether it was let in.
        admitted: bool,
    },
    /// A process of a contender has died.
    Died {
        /// Which contender.
        contender: u32,
        /// Which of its lives.
        life: u32,
    },
    /// A fault, from here on.
    Fault {
        /// For how long, in nanoseconds.
        lasted: u64,
        /// Whom it hits.
        target: Target,
        /// What it is.
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
