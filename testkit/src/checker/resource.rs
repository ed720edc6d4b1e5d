//! Checks R1: the resource accepts only tokens that were granted, and they never fall.

use std::collections::HashMap;

use lock_core::{Mode, Token};

use super::{Blame, Case, Rule};
use crate::history::{Access, OpId};

pub fn check(case: &mut Case) {
    let mut highest: HashMap<&str, (Token, OpId)> = HashMap::new();
    for access in &case.history.accesses {
        let before = highest.get(access.lock.as_str()).copied();
        let wrong = find_fault(case, access, before);
        if access.admitted && before.is_none_or(|(token, _)| token <= access.token) {
            highest.insert(&access.lock, (access.token, access.op));
        }
        if let Some(wrong) = wrong {
            let what = format!(
                "{} came to {} with token {}: {wrong}",
                access.op, access.lock, access.token
            );
            let other = before.map(|(_, op)| op);
            let ops: Vec<_> = other.into_iter().chain([access.op]).collect();
            case.violate(Rule::R1, Blame::Ours, what, &ops);
        }
    }
}

fn find_fault(case: &Case, access: &Access, before: Option<(Token, OpId)>) -> Option<String> {
    let stale = before.filter(|(highest, _)| access.token < *highest);
    match (access.admitted, stale) {
        (true, Some((highest, _))) => Some(format!("let in after {highest}")),
        (false, None) => Some("refused although none was higher".to_owned()),
        (false, Some(_)) => None,
        (true, None) => {
            let holds = case.ops.get(&access.op).is_some_and(|op| {
                op.lock == access.lock
                    && op.mode == Mode::Exclusive
                    && op.grant().is_some_and(|(token, _)| token == access.token)
            });
            (!holds).then(|| "let in although it was not granted so".to_owned())
        }
    }
}
