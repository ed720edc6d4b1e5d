//! The decisions of the page for authors that a failing group of cases points to.

/// The headings of `docs/adding-a-backend.md`, "Decisions that go wrong", from number 1 on.
const DECISIONS: [&str; 13] = [
    "The token from the wrong counter",
    "Removal by name",
    "A retry that makes a second entry",
    "A late enqueue",
    "View and entry from two instants",
    "A view that shows too little",
    "The deadline counted from the reply",
    "A lost session that comes back",
    "A missed wake-up",
    "Names as paths",
    "I/O on the user's executor",
    "Waiters returned too freely",
    "`IfFree` taken for a promise",
];

/// Returns the numbers of the decisions that a failure of this group suggests.
fn suggested(group: &str) -> &'static [usize] {
    match group {
        "exclusion" => &[5, 7, 12],
        "order" => &[5, 9, 12],
        "tokens" => &[1],
        "sharing" => &[6],
        "names" | "security" => &[10],
        "cancel" => &[4, 13],
        "liveness" => &[7, 8, 11],
        "loss" => &[7, 8, 9],
        "evict" => &[2],
        "lost_replies" => &[2, 3, 4, 9],
        _ => &[],
    }
}

/// Returns where the author of a backend reads on after a failure of this group.
pub(crate) fn advise(group: &str) -> Option<String> {
    let decisions = suggested(group).iter().map(|number| {
        let heading = DECISIONS[number - 1];
        format!("  decision {number}: {heading}")
    });
    let decisions: Vec<_> = decisions.collect();
    (!decisions.is_empty()).then(|| {
        format!(
            "see docs/adding-a-backend.md, \"Decisions that go wrong\":\n{}",
            decisions.join("\n")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases;

    #[test]
    fn every_decision_is_suggested_by_a_group() {
        let groups = cases::ALL.iter().map(|case| case.group());
        let mut numbers: Vec<_> = groups.flat_map(suggested).copied().collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert!(numbers.into_iter().eq(1..=DECISIONS.len()));
    }
}
