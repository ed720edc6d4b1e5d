//! Gives a second opinion: a search also judges small histories. It shares no code and no idea with
//! the rules. It plays the specification, step by step, in every order that the times allow. A
//! history is good if some order explains it.

use std::collections::HashSet;

use lock_core::Mode;
use proptest::prelude::*;

use super::scene::{Scene, at, op};
use crate::checker::{Rule, check};
use crate::history::{Cause, Deletion, Removal};

/// A hold as its client saw it: when it was asked for, when it was granted, and until when it was
/// believed in (if at all).
#[derive(Debug, Clone)]
struct Hold {
    mode: Mode,
    called: u64,
    reported: u64,
    until: Option<u64>,
}

/// Returns whether some order of joining the queue (in the order of tokens), being granted and
/// ending explains the holds, which are given in the order of their tokens. This is Hazelcast's
/// `FencedMutex`, with a queue and readers.
fn fenced(holds: &[Hold]) -> bool {
    #[derive(Clone, PartialEq, Eq, Hash)]
    struct State {
        now: u64,
        joined: usize,
        granted: Vec<bool>,
        ended: Vec<bool>,
    }
    fn explains(holds: &[Hold], state: State, seen: &mut HashSet<State>) -> bool {
        if state.granted.iter().all(|granted| *granted) {
            return true;
        }
        if !seen.insert(state.clone()) {
            return false;
        }
        let mut next = vec![];
        if let Some(hold) = holds.get(state.joined) {
            let now = state.now.max(hold.called);
            if now <= hold.reported {
                let joined = state.joined + 1;
                next.push(State {
                    now,
                    joined,
                    ..state.clone()
                });
            }
        }
        for (i, hold) in holds.iter().enumerate().take(state.joined) {
            let excluded = (0..i).any(|ahead| {
                let shares = hold.mode == Mode::Shared && holds[ahead].mode == Mode::Shared;
                !shares && !state.ended[ahead]
            });
            if !state.granted[i] && !excluded && state.now <= hold.reported {
                let mut after = state.clone();
                after.granted[i] = true;
                next.push(after);
            }
            if state.granted[i] && !state.ended[i] {
                let mut after = state.clone();
                after.ended[i] = true;
                after.now = after.now.max(hold.until.unwrap_or_default());
                next.push(after);
            }
        }
        next.into_iter().any(|state| explains(holds, state, seen))
    }
    let state = State {
        now: 0,
        joined: 0,
        granted: vec![false; holds.len()],
        ended: vec![false; holds.len()],
    };
    explains(holds, state, &mut HashSet::new())
}

/// An entry of the server, whose acquire may have been granted.
#[derive(Debug, Clone)]
struct Place {
    mode: Mode,
    /// The revisions that made and deleted the entry, as indices into `times`.
    created: usize,
    deleted: usize,
    granted: Option<u64>,
}

/// The bounds of the time of each revision: a request and a reply.
type Times = Vec<(u64, u64)>;

/// Returns whether the grants fit in between the revisions: each grant while its entry exists, and
/// while no entry exists for which it has to wait.
fn served(places: &[Place], times: &Times) -> bool {
    fn explains(places: &[Place], times: &Times, revision: usize, now: u64, granted: u32) -> bool {
        let wants = |i: usize| places[i].granted.is_some() && granted & (1 << i) == 0;
        let left = (0..places.len()).filter(|i| wants(*i));
        if left.clone().next().is_none() {
            return true;
        }
        let exists_at = |place: &Place| place.created < revision && revision <= place.deleted;
        for i in left {
            let place = &places[i];
            let excluded = places.iter().any(|other| {
                let shares = place.mode == Mode::Shared && other.mode == Mode::Shared;
                other.created < place.created && exists_at(other) && !shares
            });
            let in_time = place.granted.is_some_and(|reported| now <= reported);
            if exists_at(place)
                && !excluded
                && in_time
                && explains(places, times, revision, now, granted | (1 << i))
            {
                return true;
            }
        }
        match times.get(revision) {
            Some((asked, answered)) => {
                let now = now.max(*asked);
                now <= *answered && explains(places, times, revision + 1, now, granted)
            }
            None => false,
        }
    }
    explains(places, times, 0, 0, 0)
}

fn mode() -> impl Strategy<Value = Mode> {
    prop_oneof![2 => Just(Mode::Exclusive), 1 => Just(Mode::Shared)]
}

fn hold() -> impl Strategy<Value = Hold> {
    (mode(), 0..40_u64, 1..20_u64, prop::option::of(1..20_u64)).prop_map(
        |(mode, called, took, lasts)| Hold {
            mode,
            called,
            reported: called + took,
            until: lasts.map(|lasts| called + took + lasts),
        },
    )
}

/// Draws places whose revisions come in a random order at random times, and grants at any time.
fn queue() -> impl Strategy<Value = (Vec<Place>, Times)> {
    let place = (mode(), prop::option::weighted(0.7, 0..60_u64));
    prop::collection::vec(place, 1..5).prop_flat_map(|places| {
        let count = places.len() * 2;
        let order = Just((0..count).collect::<Vec<_>>()).prop_shuffle();
        let steps = prop::collection::vec((0..8_u64, 0..5_u64, 0..5_u64), count);
        (Just(places), order, steps).prop_map(|(places, order, steps)| {
            let mut now = 0;
            let times = steps.iter().map(|(step, early, late)| {
                now += step;
                (now.saturating_sub(*early), now + late)
            });
            let times: Times = times.collect();
            let places = places.iter().enumerate().map(|(i, (mode, granted))| {
                let pair = [order[2 * i], order[2 * i + 1]];
                Place {
                    mode: *mode,
                    created: pair[0].min(pair[1]),
                    deleted: pair[0].max(pair[1]),
                    granted: *granted,
                }
            });
            (places.collect(), times)
        })
    })
}

fn number(i: usize) -> u32 {
    u32::try_from(i).expect("few")
}

/// Makes a history from the clients' view alone.
fn scene_of_holds(holds: &[Hold]) -> Scene {
    let mut scene = Scene::new();
    for (i, hold) in holds.iter().enumerate() {
        let id = scene.queue(op(number(i), 1), hold.mode, hold.called, i as u64 + 1);
        let (token, _) = scene.op(id).placed.take().expect("placed");
        scene.op(id).outcome = crate::history::Outcome::Granted(token, at(hold.reported));
        if let Some(until) = hold.until {
            scene.show(id, hold.reported, Some(until));
        }
        // Nothing is known about the end of the entry.
        scene.entry(id).deleted = Some(Deletion {
            from: 0,
            to: u64::MAX,
            cause: Cause::Unknown,
            decided: None,
        });
    }
    scene
}

/// Makes a history from the server's view. Of the clients it has only the times of requests and
/// replies.
fn scene_of_places(places: &[Place], times: &Times) -> Scene {
    let mut scene = Scene::new();
    for (i, place) in places.iter().enumerate() {
        let (asked, answered) = times[place.created];
        let (remove, removed) = times[place.deleted];
        let id = scene.queue(
            op(number(i), 1),
            place.mode,
            asked,
            place.created as u64 + 1,
        );
        let (token, _) = scene.op(id).placed.expect("placed");
        scene.op(id).placed = Some((token, at(answered)));
        let cause = Cause::Request(scene.entry(id).session);
        scene.delete(id, place.deleted as u64 + 1, cause);
        scene.op(id).removals = vec![Removal {
            called: at(remove),
            answered: Some(at(removed)),
            did: true,
        }];
        if let Some(reported) = place.granted {
            scene.op(id).outcome = crate::history::Outcome::Granted(token, at(reported));
        }
    }
    scene
}

fn finds(scene: &Scene, rules: &[Rule]) -> bool {
    let mut violations = check(&scene.0).into_iter();
    violations.any(|violation| rules.contains(&violation.rule))
}

proptest! {
    #![proptest_config(ProptestConfig {
        // Or as many as `PROPTEST_CASES` says, if those are more.
        cases: ProptestConfig::default().cases.max(3_000),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn rules_and_search_agree_on_the_beliefs_of_clients(
        holds in prop::collection::vec(hold(), 1..5),
    ) {
        let scene = scene_of_holds(&holds);
        let found = finds(&scene, &[Rule::S2, Rule::B1]);
        prop_assert_eq!(!found, fenced(&holds), "{:#?}", check(&scene.0));
    }

    #[test]
    fn rules_and_search_agree_on_the_grants_of_the_server((places, times) in queue()) {
        let scene = scene_of_places(&places, &times);
        let found = finds(&scene, &[Rule::S1, Rule::S5]);
        prop_assert_eq!(!found, served(&places, &times), "{:#?}", check(&scene.0));
    }
}

#[test]
fn the_search_knows_good_from_bad() {
    let exclusive = |called, reported, until| Hold {
        mode: Mode::Exclusive,
        called,
        reported,
        until: Some(until),
    };
    assert!(fenced(&[exclusive(0, 1, 5), exclusive(2, 6, 9)]));
    assert!(!fenced(&[exclusive(0, 1, 7), exclusive(2, 6, 9)]));
    assert!(
        !fenced(&[exclusive(6, 7, 8), exclusive(0, 1, 5)]),
        "tokens fall"
    );
    let place = |created, deleted, granted| Place {
        mode: Mode::Exclusive,
        created,
        deleted,
        granted,
    };
    let times = vec![(0, 1), (2, 3), (10, 11), (20, 21)];
    assert!(served(
        &[place(0, 2, Some(1)), place(1, 3, Some(10))],
        &times
    ));
    assert!(!served(
        &[place(0, 2, Some(1)), place(1, 3, Some(9))],
        &times
    ));
}
