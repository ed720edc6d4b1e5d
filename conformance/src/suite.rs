//! The suite as the tests of a test program.

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Completion, Trial};

use crate::cases::{self, Case};
use crate::decisions;
use crate::fixture::{Fixture, Skip};
use crate::run::{Outcome, TIME_LIMIT};

/// All cases on one fixture, and the list of those that the fixture skips.
pub struct Suite {
    fixture: Arc<dyn Fixture>,
    skips: &'static [&'static str],
}

impl Suite {
    /// Returns all cases on this fixture, none of which may be skipped.
    pub fn new(fixture: impl Fixture + 'static) -> Self {
        Suite {
            fixture: Arc::new(fixture),
            skips: &[],
        }
    }

    /// Sets the cases that this fixture skips, as `group::case`. Each of them must be skipped, and
    /// no other.
    ///
    /// # Panics
    /// If a name is not that of a case.
    #[must_use]
    pub fn skips(mut self, skips: &'static [&'static str]) -> Self {
        for skip in skips {
            let is_case = cases::ALL.iter().any(|case| case.name() == *skip);
            assert!(is_case, "{skip} is expected to be skipped, and is no case");
        }
        self.skips = skips;
        self
    }

    fn trials(self) -> impl Iterator<Item = Trial> {
        cases::ALL.iter().map(move |case| {
            let (fixture, expected) = (self.fixture.clone(), self.skips.contains(&case.name()));
            let name = format!("{}::{}", fixture.name(), case.name());
            Trial::ignorable_test(name, move || {
                match judge(case, case.run(&*fixture, TIME_LIMIT), expected)? {
                    None => Ok(Completion::Completed),
                    Some(skip) => Ok(Completion::ignored_with(skip)),
                }
            })
        })
    }
}

/// Judges the outcome of a case. Returns the skip if the case was skipped as expected, and the
/// reason if it failed.
fn judge(case: &Case, outcome: Outcome, skip_expected: bool) -> Result<Option<Skip>, String> {
    let name = case.name();
    match (outcome, skip_expected) {
        (Outcome::Passed, false) => Ok(None),
        (Outcome::Skipped(skip), true) => Ok(Some(skip)),
        (Outcome::Failed(message), _) => Err(match decisions::advise(case.group()) {
            Some(advice) => format!("{message}\n{advice}"),
            None => message,
        }),
        (Outcome::Passed, true) => Err(format!(
            "{name} ran: take it off the list of expected skips"
        )),
        (Outcome::Skipped(skip), false) => Err(format!(
            "skipped ({skip}), and {name} is not on the list of expected skips"
        )),
    }
}

/// Runs the cases of these suites that the arguments of the test program choose. It is the `main`
/// of a backend's test file, which needs `harness = false` in its `Cargo.toml`.
pub fn main(suites: impl IntoIterator<Item = Suite>) -> ExitCode {
    let arguments = Arguments::from_args();
    let trials = suites.into_iter().flat_map(Suite::trials).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_skip_counts_only_if_it_is_expected_and_an_expected_one_must_come() {
        let judged = |outcome, expected| judge(&cases::ALL[0], outcome, expected);
        let skip = Skip::because("no network");
        let skipped = || Outcome::Skipped(skip.clone());
        assert_eq!(judged(Outcome::Passed, false), Ok(None));
        assert_eq!(judged(skipped(), true), Ok(Some(skip.clone())));
        let unexpected = judged(skipped(), false).expect_err("not on the list");
        assert!(unexpected.contains("no network") && unexpected.contains("not on the list"));
        let ran = judged(Outcome::Passed, true).expect_err("on the list");
        assert!(ran.contains("take it off the list"));
        for expected in [false, true] {
            let failed = Outcome::Failed("two holders".into());
            let error = judged(failed, expected).expect_err("a failure");
            assert!(error.starts_with("two holders\n"), "{error}");
            assert!(error.contains("decision 5"), "{error}");
        }
    }

    #[test]
    #[should_panic(expected = "is no case")]
    fn an_expected_skip_of_no_case_is_refused() {
        struct Nothing;
        impl Fixture for Nothing {
            fn name(&self) -> &'static str {
                "nothing"
            }
            fn start(&self) -> Box<dyn crate::Deployment> {
                unreachable!("no case runs")
            }
        }
        let _ = Suite::new(Nothing).skips(&["order::no_such_case"]);
    }
}
