//! An answer, without the parts that no two servers have in common.

use prost_reflect::{DynamicMessage, Kind, ReflectMessage, Value};
use tonic::{Code, Status};

/// All that came for one step.
#[derive(Debug, PartialEq)]
pub struct Answer {
    messages: Vec<DynamicMessage>,
    refusal: Option<(Code, String)>,
}

impl Answer {
    /// Makes an answer comparable. Revisions are counted from `base`. If only the `shape` counts,
    /// numbers and texts are all the same.
    pub fn new(
        mut messages: Vec<DynamicMessage>,
        refusal: Option<Status>,
        base: i64,
        shape: bool,
    ) -> Self {
        for message in &mut messages {
            strip(message, base, shape);
        }
        let text = |status: Status| (status.code(), status.message().to_owned());
        Answer {
            messages,
            refusal: refusal.map(text),
        }
    }

    /// Returns whether less came than was waited for.
    pub fn is_cut_short(&self) -> bool {
        (self.refusal.as_ref()).is_some_and(|(code, _)| *code == Code::DeadlineExceeded)
    }

    pub fn is_unimplemented(&self) -> bool {
        (self.refusal.as_ref()).is_some_and(|(code, _)| *code == Code::Unimplemented)
    }
}

/// The fields that differ between any two servers.
const IDENTITY: [&str; 4] = ["cluster_id", "member_id", "raft_term", "memberID"];

/// The fields whose numbers are revisions.
const REVISIONS: [&str; 5] = [
    "revision",
    "create_revision",
    "mod_revision",
    "compact_revision",
    "rev",
];

/// Leaves nothing of a value but its kind.
fn blank(value: &mut Value) {
    match value {
        Value::String(text) => "any".clone_into(text),
        Value::I64(number) => *number = 1,
        Value::U64(number) => *number = 1,
        Value::List(values) => {
            values.truncate(1);
            values.iter_mut().for_each(blank);
        }
        _ => {}
    }
}

fn strip(message: &mut DynamicMessage, base: i64, shape: bool) {
    let descriptor = message.descriptor();
    for field in descriptor.fields() {
        if !message.has_field(&field) {
            continue;
        }
        let name = field.name().to_owned();
        if IDENTITY.contains(&name.as_str()) {
            message.clear_field(&field);
            continue;
        }
        let is_message = matches!(field.kind(), Kind::Message(_));
        match message.get_field_mut(&field) {
            Value::Message(inner) => strip(inner, base, shape),
            value if shape && !is_message => blank(value),
            // etcd keeps the keys of a lease in no order.
            Value::List(values) if name == "keys" => {
                values.sort_by_key(|key| key.as_bytes().cloned());
            }
            Value::List(values) => {
                for value in values {
                    if let Value::Message(inner) = value {
                        strip(inner, base, shape);
                    }
                }
            }
            Value::I64(number) if REVISIONS.contains(&name.as_str()) => *number -= base,
            // Time has passed, or the server chose.
            Value::I64(number) if name == "TTL" || name == "ID" => *number = number.signum(),
            _ => {}
        }
    }
}
