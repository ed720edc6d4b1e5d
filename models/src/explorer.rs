//! The explorer: visits every state that a model can reach, breadth first, so that the path to a
//! violation is a shortest one.
//!
//! A state is remembered by a fingerprint of 64 bits and by that of its predecessor. With ten million
//! states, the chance that two of them share a fingerprint is about one in 400,000.

use std::collections::{HashMap, VecDeque};
use std::fmt::Debug;
use std::hash::{BuildHasherDefault, DefaultHasher, Hasher};
use std::time::{Duration, Instant};

/// A protocol with its surroundings: the states, and the steps between them.
pub trait Model: Sized {
    type State: Clone;
    /// What a step does, for the path to a violation.
    type Action: Debug;

    /// What must happen on some path: otherwise the model does not reach what it is about. At most 31.
    const MILESTONES: &'static [&'static str];

    fn initial(&self) -> Self::State;

    /// Forgets what only the step to this state has shown, before another step goes on from it.
    fn forget_last_step(_state: &mut Self::State) {}

    /// Returns every step from this state.
    fn next(&self, state: &Self::State) -> Vec<Step<Self>>;

    /// Checks what must hold after a step.
    ///
    /// # Errors
    /// What does not hold.
    fn check(&self, before: &Self::State, after: &Self::State) -> Result<(), String>;

    /// Checks what must hold in a state from which no step leads on.
    ///
    /// # Errors
    /// What does not hold.
    fn check_end(&self, state: &Self::State) -> Result<(), String>;

    /// Writes all that tells this state apart from others.
    fn hash(&self, state: &Self::State, hasher: &mut DefaultHasher);

    /// Returns the milestones that a step reaches, as a bit for each.
    fn find_milestones(&self, before: &Self::State, after: &Self::State) -> u32;
}

/// A step: what it does, and the state after it, or the property that it violates.
pub type Step<M> = (<M as Model>::Action, Result<<M as Model>::State, String>);

/// The steps from one state, as a model collects them.
pub struct Steps<'a, M: Model> {
    pub model: &'a M,
    pub state: &'a M::State,
    pub found: Vec<Step<M>>,
}

impl<'a, M: Model> Steps<'a, M> {
    pub fn new(model: &'a M, state: &'a M::State) -> Self {
        Steps {
            model,
            state,
            found: Vec::new(),
        }
    }

    /// Adds a step, which makes this change to a copy of the state.
    pub fn add(
        &mut self,
        action: M::Action,
        change: impl FnOnce(&mut M::State) -> Result<(), String>,
    ) {
        let mut after = self.state.clone();
        M::forget_last_step(&mut after);
        let outcome = change(&mut after).map(|()| after);
        self.found.push((action, outcome));
    }
}

/// The result of an exploration.
#[derive(Debug)]
pub struct Exploration {
    pub states: usize,
    pub transitions: u64,
    pub time: Duration,
    /// The milestones that no path reached; complete only without a violation.
    pub missed: Vec<&'static str>,
    pub violation: Option<Violation>,
}

/// A property that does not hold, and a shortest path to where it does not.
#[derive(Debug)]
pub struct Violation {
    pub property: String,
    pub path: Vec<String>,
}

/// The fingerprint of the state before; that of the first state is its own.
type Parents = HashMap<u64, u64, BuildHasherDefault<IdentityHasher>>;

/// Explores until all states are visited or a property is violated.
pub fn explore<M: Model>(model: &M) -> Exploration {
    let began = Instant::now();
    let first = model.initial();
    let print = fingerprint(model, &first);
    let mut missing = (1_u32 << M::MILESTONES.len()) - 1;
    let mut parents = Parents::default();
    parents.insert(print, print);
    let mut frontier = VecDeque::from([(print, first)]);
    let mut transitions = 0;
    let mut violation = None;
    'all: while let Some((from, state)) = frontier.pop_front() {
        let steps = model.next(&state);
        if steps.is_empty()
            && let Err(property) = model.check_end(&state)
        {
            violation = Some((property, from, "no step leads on".to_owned()));
            break;
        }
        for (action, outcome) in steps {
            transitions += 1;
            let checked = outcome.and_then(|after| {
                model.check(&state, &after)?;
                Ok(after)
            });
            let after = match checked {
                Ok(after) => after,
                Err(property) => {
                    violation = Some((property, from, format!("{action:?}")));
                    break 'all;
                }
            };
            if missing != 0 {
                missing &= !model.find_milestones(&state, &after);
            }
            let print = fingerprint(model, &after);
            if let std::collections::hash_map::Entry::Vacant(new) = parents.entry(print) {
                new.insert(from);
                frontier.push_back((print, after));
            }
        }
    }
    let missed = |number: &usize| missing & (1 << number) != 0;
    Exploration {
        states: parents.len(),
        transitions,
        time: began.elapsed(),
        missed: (0..M::MILESTONES.len())
            .filter(missed)
            .map(|number| M::MILESTONES[number])
            .collect(),
        violation: violation.map(|(property, from, last)| {
            let mut path = find_path(model, &parents, from);
            path.push(last);
            Violation { property, path }
        }),
    }
}

fn fingerprint<M: Model>(model: &M, state: &M::State) -> u64 {
    let mut hasher = DefaultHasher::new();
    model.hash(state, &mut hasher);
    hasher.finish()
}

/// Walks from the first state to this one again, by the fingerprints on the way, and returns the
/// actions.
fn find_path<M: Model>(model: &M, parents: &Parents, to: u64) -> Vec<String> {
    let mut prints = vec![to];
    while let Some(&parent) = prints.last().and_then(|print| parents.get(print))
        && Some(&parent) != prints.last()
    {
        prints.push(parent);
    }
    let mut state = model.initial();
    let mut path = Vec::new();
    for print in prints.iter().rev().skip(1) {
        let leads_there = |(action, outcome): Step<M>| {
            let after = outcome.ok()?;
            (fingerprint(model, &after) == *print).then_some((action, after))
        };
        let Some((action, after)) = model.next(&state).into_iter().find_map(leads_there) else {
            path.push(
                "the rest of the path is not found: two states share a fingerprint".to_owned(),
            );
            return path;
        };
        path.push(format!("{action:?}"));
        state = after;
    }
    path
}

/// Passes fingerprints on: they are hashes already.
#[derive(Default)]
struct IdentityHasher(u64);

impl Hasher for IdentityHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

#[cfg(test)]
mod tests {
    use std::hash::Hash;

    use super::*;

    /// Two counters that each rise to a limit; the sum must stay below another one.
    struct Counters {
        limit: u8,
        sum: u8,
    }

    impl Model for Counters {
        type State = (u8, u8);
        type Action = &'static str;
        const MILESTONES: &'static [&'static str] = &["the first is at its limit", "never"];

        fn initial(&self) -> Self::State {
            (0, 0)
        }

        fn next(&self, &(a, b): &Self::State) -> Vec<Step<Self>> {
            let mut steps = Vec::new();
            if a < self.limit {
                steps.push(("first", Ok((a + 1, b))));
            }
            if b < self.limit {
                steps.push(("second", Ok((a, b + 1))));
            }
            steps
        }

        fn check(&self, _: &Self::State, &(a, b): &Self::State) -> Result<(), String> {
            match a + b < self.sum {
                true => Ok(()),
                false => Err(format!("{a} and {b} are too much")),
            }
        }

        fn check_end(&self, state: &Self::State) -> Result<(), String> {
            match *state == (self.limit, self.limit) {
                true => Ok(()),
                false => Err("stuck".to_owned()),
            }
        }

        fn hash(&self, state: &Self::State, hasher: &mut DefaultHasher) {
            state.hash(hasher);
        }

        fn find_milestones(&self, _: &Self::State, after: &Self::State) -> u32 {
            u32::from(after.0 == self.limit)
        }
    }

    #[test]
    fn every_state_is_visited_once() {
        let exploration = explore(&Counters { limit: 9, sum: 100 });
        assert_eq!((exploration.states, exploration.transitions), (100, 180));
        assert_eq!(exploration.missed, ["never"]);
        assert!(exploration.violation.is_none());
    }

    #[test]
    fn the_path_to_a_violation_is_a_shortest_one() {
        let violation = explore(&Counters { limit: 9, sum: 3 }).violation;
        let violation = violation.expect("three steps are too much");
        assert_eq!(violation.path.len(), 3, "{violation:?}");
        assert!(violation.property.contains("too much"));
    }
}
