//! Checks D1: a read under a hold returns what the last change left.

use std::collections::BTreeMap;

use super::{Blame, Case, Rule};
use crate::history::{DataAccess, DataAnswer, Op, OpId};

/// What a key may have.
struct Possible<'a> {
    /// The values, one of which is there. `None` stands for no value.
    values: Vec<Option<&'a str>>,
    /// The hold that changed it last.
    changed_by: Option<OpId>,
}

/// Plays all requests in the order of the tokens, and those of one hold in the order of the calls.
/// The store carries out a request only while the hold's entry exists, and never after a later request
/// of the same hold has an answer. So none comes later than its place in this order.
pub fn check(case: &mut Case) {
    let history = case.history;
    let mut holds: Vec<&Op> = history.ops.iter().collect();
    holds.retain(|op| !op.data.is_empty());
    holds.sort_by_key(|op| op.grant());
    let mut keys: BTreeMap<&str, Possible> = BTreeMap::new();
    for op in holds {
        for access in &op.data {
            let possible = keys.entry(&access.key).or_insert_with(|| Possible {
                values: vec![None],
                changed_by: None,
            });
            play(case, op, access, possible);
        }
    }
}

fn play<'a>(case: &mut Case, op: &Op, access: &'a DataAccess, possible: &mut Possible<'a>) {
    match (&access.answer, access.request.leaves()) {
        (DataAnswer::Failed, _) | (DataAnswer::InDoubt, None) => {}
        (DataAnswer::InDoubt, Some(left)) => {
            possible.values.push(left);
            possible.changed_by = Some(op.id);
        }
        (DataAnswer::Done(_), Some(left)) => {
            possible.values = vec![left];
            possible.changed_by = Some(op.id);
        }
        (DataAnswer::Done(read), None) => {
            let read = read.as_deref();
            if !possible.values.contains(&read) {
                report(case, op, access, possible, read);
            }
            // What was in doubt is settled now.
            possible.values = vec![read];
        }
    }
}

fn report(case: &mut Case, op: &Op, access: &DataAccess, possible: &Possible, read: Option<&str>) {
    let what = format!(
        "{} read {read:?} at {}, which can only have been one of {:?}",
        op.id, access.key, possible.values
    );
    let ops: Vec<_> = possible.changed_by.into_iter().chain([op.id]).collect();
    case.violate(Rule::D1, Blame::Ours, what, &ops);
}
