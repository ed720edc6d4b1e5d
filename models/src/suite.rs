//! What is explored: each model in several sizes, and each of its mutants in a size that is large
//! enough to show it.

use crate::explorer::{Exploration, Model, explore};
use crate::token_offset::{etcd, zookeeper};
use crate::{gate, handoff};

/// One exploration.
pub struct Case {
    pub model: &'static str,
    /// The bounds, for people.
    pub size: String,
    /// The bug that was put in, for people.
    pub mutant: Option<&'static str>,
    pub explore: Box<dyn Fn() -> Exploration>,
}

/// The names of the models.
pub const MODELS: [&str; 3] = ["handoff", "gate", "token-offset"];

/// Returns all explorations: of small sizes, or of those that take minutes.
pub fn cases(full: bool) -> Vec<Case> {
    let mut cases = handoff_cases(full);
    cases.extend(gate_cases(full));
    cases.extend(etcd_offset_cases(full));
    cases.extend(zookeeper_offset_cases(full));
    cases
}

fn case<M: Model + 'static>(
    model: &'static str,
    size: impl Into<String>,
    mutant: Option<&'static str>,
    build: impl Fn() -> M + 'static,
) -> Case {
    Case {
        model,
        size: size.into(),
        mutant,
        explore: Box::new(move || explore(&build())),
    }
}

fn handoff_cases(full: bool) -> Vec<Case> {
    use handoff::{Handoff, Mutant, Size, Store};
    let size = |contenders, acquires, foreign, evictions, cancels, losses| Size {
        contenders,
        acquires,
        foreign,
        evictions,
        cancels,
        losses,
    };
    let stores = [(Store::Revisions, "etcd"), (Store::Paths, "ZooKeeper")];
    let name = |size: Size, store| {
        let Size {
            contenders,
            acquires,
            foreign,
            evictions,
            cancels,
            losses,
        } = size;
        format!(
            "{store}: {contenders} contenders, {acquires} acquires, {foreign} foreign entries, {evictions} \
             evictions, {cancels} cancels, {losses} losses"
        )
    };
    let sizes = match full {
        false => vec![
            size(3, 3, 1, 0, 1, 0),
            size(3, 3, 1, 1, 0, 0),
            size(4, 4, 0, 0, 0, 0),
        ],
        true => vec![
            size(4, 4, 2, 0, 0, 0),
            size(4, 4, 1, 0, 1, 0),
            size(4, 4, 1, 1, 0, 0),
            size(3, 5, 1, 0, 1, 1),
        ],
    };
    let mut cases = Vec::new();
    for size in sizes {
        for (store, text) in stores {
            let build = move || Handoff::new(size, store, None);
            cases.push(case("handoff", name(size, text), None, build));
        }
    }
    let (store, text) = stores[0];
    for mutant in Mutant::ALL {
        let size = size(3, 3, 1, 1, 1, 0);
        let build = move || Handoff::new(size, store, Some(mutant));
        cases.push(case(
            "handoff",
            name(size, text),
            Some(mutant.describe()),
            build,
        ));
    }
    cases
}

fn gate_cases(full: bool) -> Vec<Case> {
    use gate::{Gate, Mutant, Size};
    let size = |tickets, locks, losses, changes| Size {
        tickets,
        locks,
        losses,
        changes,
        session_ends: false,
        groups: false,
    };
    let ends = |size| Size {
        session_ends: true,
        ..size
    };
    let grouped = |size| Size {
        groups: true,
        ..size
    };
    let name = |size: Size| {
        let Size {
            tickets,
            locks,
            losses,
            changes,
            ..
        } = size;
        let mut name =
            format!("{tickets} tickets, {locks} locks, {losses} losses, {changes} changes");
        if size.session_ends {
            name.push_str(", the session ends");
        }
        if size.groups {
            name.push_str(", sent together");
        }
        name
    };
    let sizes = match full {
        false => vec![
            size(3, 1, 1, 0),
            size(2, 1, 3, 0),
            ends(size(2, 1, 2, 0)),
            grouped(size(3, 2, 1, 0)),
            size(2, 1, 2, 2),
        ],
        true => vec![
            size(3, 1, 3, 0),
            ends(size(3, 1, 2, 0)),
            grouped(size(4, 2, 1, 0)),
            size(2, 1, 3, 2),
            ends(size(1, 1, 3, 3)),
        ],
    };
    let mut cases: Vec<Case> = sizes
        .into_iter()
        .map(|size| case("gate", name(size), None, move || Gate::new(size, None)))
        .collect();
    let mutants = [
        (Mutant::EnqueuesCompareNoEpoch, size(2, 1, 2, 0)),
        (Mutant::SlotsAreAlwaysFree, size(3, 1, 2, 0)),
        (Mutant::DoubtIsForgotten, size(2, 1, 2, 0)),
        (Mutant::ChangesMoveNoEpoch, size(1, 1, 2, 2)),
        (Mutant::ChangesCompareNoEpoch, size(1, 1, 2, 2)),
        (Mutant::ReadsMoveNoEpoch, size(1, 1, 1, 1)),
        (Mutant::EntriesHaveNoLease, ends(size(1, 1, 0, 0))),
        (Mutant::OneLockGoesTogether, grouped(size(2, 1, 0, 0))),
    ];
    for (mutant, size) in mutants {
        let build = move || Gate::new(size, Some(mutant));
        cases.push(case("gate", name(size), Some(mutant.describe()), build));
    }
    cases
}

fn etcd_offset_cases(full: bool) -> Vec<Case> {
    use etcd::{EtcdOffset, Mutant, Size};
    let name = |Size { acquires, losses }| {
        format!("etcd: 2 sessions, {acquires} acquires each, 2 raises, {losses} losses")
    };
    let size = Size {
        acquires: 1 + u8::from(full),
        losses: 1 + u8::from(full),
    };
    let build = move |mutant| move || EtcdOffset::new(size, mutant);
    let mut cases = vec![case("token-offset", name(size), None, build(None))];
    for mutant in Mutant::ALL {
        let bug = Some(mutant.describe());
        cases.push(case("token-offset", name(size), bug, build(Some(mutant))));
    }
    cases
}

fn zookeeper_offset_cases(full: bool) -> Vec<Case> {
    use zookeeper::{Mutant, Size, ZooKeeperOffset};
    let size = Size {
        processes: 2 + u8::from(full),
        sessions: 2,
        entries: 2,
        raises: 2,
        losses: 1,
    };
    let Size {
        processes,
        sessions,
        entries,
        ..
    } = size;
    let name = format!(
        "ZooKeeper: {processes} processes, {sessions} sessions each, {entries} entries each, 2 raises, 1 loss"
    );
    let build = move |mutant| move || ZooKeeperOffset { size, mutant };
    let mut cases = vec![case("token-offset", name.clone(), None, build(None))];
    for mutant in Mutant::ALL {
        let bug = Some(mutant.describe());
        cases.push(case("token-offset", name.clone(), bug, build(Some(mutant))));
    }
    cases
}
