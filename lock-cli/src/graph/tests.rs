use super::*;
use turnlock::nesting::Nesting;
use turnlock::{EntryId, Incarnation, Metadata};

use Mode::{Exclusive, Shared};

/// Makes an entry of a session, which stands alone in its queue by this token.
fn entry(token: u64, session: i64, mode: Mode, nesting: Nesting) -> Entry {
    let id = EntryId {
        key: token.to_be_bytes()[..].into(),
        incarnation: Incarnation::new(token),
    };
    Entry::new(id, Token(token), mode)
        .with_session(Some(SessionId(session)))
        .with_metadata(Some(Metadata::default().with_nesting(nesting)))
}

fn plain(token: u64, session: i64, mode: Mode) -> Entry {
    entry(token, session, mode, Nesting::default())
}

fn name(text: &str) -> LockName {
    LockName::new(text).expect("valid")
}

fn queue(lock: &str, entries: Vec<Entry>) -> Queue {
    Queue::new(name(lock), entries)
}

/// Makes the two entries of a program that holds one lock and, in a command under it, asks for
/// another: the hold, with the session of its number, and the claim, with a session ten higher.
fn nested(number: i64, outer: &str) -> (Entry, Entry) {
    let key = HoldKey::generate().expect("random bytes");
    let token = number.unsigned_abs();
    let hold = entry(
        token,
        number,
        Exclusive,
        Nesting::default().with_key(key.public().0),
    );
    let claim = OuterHold::new(name(outer), Token(token), SessionId(number));
    let claim = claim.with_proof(key.sign(SessionId(number + 10)));
    let wait = entry(
        token + 10,
        number + 10,
        Exclusive,
        Nesting::default().with_outer(claim),
    );
    (hold, wait)
}

fn cycles(graph: &Graph, worst: Tie) -> Vec<Cycle> {
    find_cycles(graph, graph.nodes(), worst)
}

fn tokens(graph: &Graph, cycle: &Cycle) -> Vec<u64> {
    let steps = cycle.steps.iter();
    steps.map(|step| graph.entry(step.node).token.0).collect()
}

#[test]
fn two_nested_programs_deadlock() {
    let ((hold_a, wait_b), (hold_b, wait_a)) = (nested(1, "a"), nested(2, "b"));
    let graph = Graph::new(vec![
        queue("a", vec![hold_a, wait_a]),
        queue("b", vec![hold_b, wait_b]),
    ]);
    let found = cycles(&graph, Tie::Proven);
    assert_eq!(found.len(), 1);
    assert_eq!(tokens(&graph, &found[0]), [1, 11, 2, 12]);
    assert_eq!(found[0].worst_tie(), Tie::Proven);
}

#[test]
fn a_claim_of_another_session_or_without_a_proof_is_only_claimed() {
    let ((hold_a, wait_b), (hold_b, wait_a)) = (nested(1, "a"), nested(2, "b"));
    // Eve copies what the waiter for `b` says of itself into an entry of her own.
    let mut copied = wait_b.clone();
    copied.session = Some(SessionId(99));
    // And here she names the hold without any proof.
    let claim = OuterHold::new(name("a"), Token(1), SessionId(1));
    let bare = entry(11, 99, Exclusive, Nesting::default().with_outer(claim));
    for stranger in [copied, bare] {
        let graph = Graph::new(vec![
            queue("a", vec![hold_a.clone(), wait_a.clone()]),
            queue("b", vec![hold_b.clone(), stranger]),
        ]);
        assert_eq!(cycles(&graph, Tie::Session), []);
        let found = cycles(&graph, Tie::Claimed);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].worst_tie(), Tie::Claimed);
    }
}

#[test]
fn a_claim_to_work_under_a_hold_that_is_over_ties_nothing() {
    let (_, wait_b) = nested(1, "a");
    let graph = Graph::new(vec![
        queue("a", vec![plain(5, 5, Exclusive)]),
        queue("b", vec![plain(6, 6, Exclusive), wait_b]),
    ]);
    for node in graph.holders(0) {
        assert_eq!(graph.edges(node), []);
    }
}

#[test]
fn a_session_that_holds_and_waits_makes_a_cycle_of_its_own_kind() {
    let graph = Graph::new(vec![
        queue("a", vec![plain(1, 7, Exclusive), plain(4, 8, Exclusive)]),
        queue("b", vec![plain(2, 8, Exclusive), plain(3, 7, Exclusive)]),
    ]);
    assert_eq!(cycles(&graph, Tie::Proven), []);
    let found = cycles(&graph, Tie::Session);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].worst_tie(), Tie::Session);
}

#[test]
fn waits_that_meet_are_no_cycle() {
    // Sessions 1 and 2 hold `a` and `b` and wait for `c`, which nobody keeps from ending.
    let graph = Graph::new(vec![
        queue("a", vec![plain(1, 1, Exclusive), plain(6, 6, Exclusive)]),
        queue("b", vec![plain(2, 2, Exclusive), plain(7, 6, Exclusive)]),
        queue(
            "c",
            vec![
                plain(3, 3, Shared),
                plain(4, 1, Exclusive),
                plain(5, 2, Exclusive),
            ],
        ),
    ]);
    assert_eq!(cycles(&graph, Tie::Claimed), []);
}

#[test]
fn any_of_several_shared_holders_closes_a_cycle() {
    let graph = Graph::new(vec![
        queue(
            "a",
            vec![
                plain(1, 1, Shared),
                plain(2, 2, Shared),
                plain(3, 3, Shared),
                plain(4, 9, Exclusive),
            ],
        ),
        queue("b", vec![plain(5, 9, Exclusive), plain(6, 1, Shared)]),
    ]);
    let found = cycles(&graph, Tie::Session);
    assert_eq!(found.len(), 1, "the first of the holders waits for `b`");
    assert_eq!(tokens(&graph, &found[0]), [1, 6, 5, 4]);
}

#[test]
fn those_who_only_stand_between_are_left_out_of_a_cycle() {
    let between = (20..40).map(|n| plain(n, n as i64, Exclusive));
    let mut a = vec![plain(1, 7, Exclusive)];
    a.extend(between);
    a.push(plain(50, 8, Exclusive));
    let graph = Graph::new(vec![
        queue("a", a),
        queue("b", vec![plain(2, 8, Exclusive), plain(3, 7, Exclusive)]),
    ]);
    let found = cycles(&graph, Tie::Session);
    assert_eq!(found.len(), 1);
    let mut shown = tokens(&graph, &found[0]);
    shown.sort_unstable();
    assert_eq!(shown, [1, 2, 3, 50]);
}

#[test]
fn a_long_chain_needs_no_stack() {
    let many: Vec<Entry> = (1..100_000)
        .map(|n| plain(n, n as i64, Exclusive))
        .collect();
    let graph = Graph::new(vec![queue("a", many)]);
    assert_eq!(cycles(&graph, Tie::Claimed), []);
}
