//! What contenders do with the values that they keep in the coordinator, and with the token offset.

use lock_core::clock::BootInstant;
use serde::{Deserialize, Serialize};

use super::OpId;

/// A request for a value, sent under a hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataAccess {
    /// The key of the value.
    pub key: String,
    /// What was asked for.
    pub request: DataRequest,
    /// The instant of the call.
    pub called: BootInstant,
    /// The answer.
    pub answer: DataAnswer,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DataRequest {
    /// To read the value.
    Get,
    /// To set this value, which no other request sets.
    Put(String),
    /// To remove the value.
    Delete,
}

/// The answer to a request for a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DataAnswer {
    /// None, or an error that leaves it open whether the request was carried out.
    InDoubt,
    /// It was carried out. Holds the value that was read, if there was one.
    Done(Option<String>),
    /// It was certainly not carried out.
    Failed,
}

/// A request to raise the token offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Raise {
    /// The id, which is that of no acquire.
    pub id: OpId,
    /// The offset that was asked for.
    pub offset: u64,
    /// The instant of the call.
    pub called: BootInstant,
    /// The offset from then on, and the instant of the answer. `None` if nothing was raised because
    /// the namespace was in use, or if that is not known.
    pub raised: Option<(u64, BootInstant)>,
}

impl DataRequest {
    /// Returns the value that this request leaves, or `None` if it changes nothing.
    pub fn leaves(&self) -> Option<Option<&str>> {
        match self {
            DataRequest::Get => None,
            DataRequest::Put(value) => Some(Some(value)),
            DataRequest::Delete => Some(None),
        }
    }
}
