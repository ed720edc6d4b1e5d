//! Checks L1: when all faults are over every client is served, and nothing is left behind.

use super::{Blame, Case, Rule};
use crate::history::{Outcome, Role};

pub fn check(case: &mut Case) {
    let Some(healed) = case.history.end.healed else {
        return;
    };
    let late = healed + case.linger() + super::SLACK;
    for op in &case.history.ops {
        // A place is left to the rules of its entry.
        if op.died.is_some() || op.role == Role::Place {
            continue;
        }
        let wrong = match &op.outcome {
            Outcome::Open => "was never answered".to_owned(),
            Outcome::Granted(_, at) | Outcome::Refused(_, at) if *at > late => {
                format!("was answered {:?} after", at.saturating_since(healed))
            }
            Outcome::Granted(..) if op.over().is_none() => "held for ever".to_owned(),
            _ => continue,
        };
        let what = format!("{} {wrong}, although nothing was wrong any more", op.id);
        case.violate(Rule::L1, Blame::Ours, what, &[op.id]);
    }
    for entry in &case.history.entries {
        if entry.deleted.is_none() {
            let what = format!("{} was left behind", entry.key);
            let ops: Vec<_> = entry.op.into_iter().collect();
            case.violate(Rule::L1, Blame::Ours, what, &ops);
        }
    }
}
