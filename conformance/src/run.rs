//! One case on one fixture, and what came of it.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use tokio::time::timeout;

use crate::cases::Case;
use crate::fixture::{Fixture, Skip};
use crate::test_bed::TestBed;

/// How long a case waits for something that takes milliseconds on an idle machine.
pub const TIME_LIMIT: Duration = Duration::from_secs(60);

/// A whole case takes this many times as long at most.
const LONGEST: u32 = 5;

/// What came of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The backend does what the case asks for.
    Passed,
    /// It does not: the assertion that failed, or what was waited for in vain.
    Failed(String),
    /// The deployment lacks what the case needs.
    Skipped(Skip),
}

impl Case {
    /// Runs the case on a deployment of its own. What must come is waited for this long,
    /// [`TIME_LIMIT`] unless the machine is known to be idle, and the whole case takes five times as
    /// long at most.
    pub fn run(&self, fixture: &dyn Fixture, limit: Duration) -> Outcome {
        let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .expect("a runtime for the case");
            let bed = TestBed::new(fixture.start(), limit);
            let limit = LONGEST * limit;
            let ended = runtime.block_on(async { timeout(limit, self.on(bed)).await });
            // Whatever hangs is not waited for.
            runtime.shutdown_background();
            ended.unwrap_or_else(|_| panic!("it hangs: not within {limit:?}"))
        }));
        match outcome {
            Ok(Ok(())) => Outcome::Passed,
            Ok(Err(skip)) => Outcome::Skipped(skip),
            Err(panic) => Outcome::Failed(message(&*panic)),
        }
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "it panicked".to_owned())
}
