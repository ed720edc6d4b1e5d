//! The run of one case on one fixture, and its outcome.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use tokio::time::timeout;

use crate::cases::Case;
use crate::fixture::{Fixture, Skip};
use crate::test_bed::TestBed;

/// The time that a case waits for an event that takes milliseconds on an idle machine.
pub const TIME_LIMIT: Duration = Duration::from_secs(60);

/// The longest run of a whole case, as a multiple of the time limit of an event.
const LONGEST: u32 = 5;

/// The outcome of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The backend keeps the promise.
    Passed,
    /// The backend breaks the promise. The text is the assertion that failed, or the event that did
    /// not come in time.
    Failed(String),
    /// The deployment lacks a hook that the case needs.
    Skipped(Skip),
}

impl Case {
    /// Runs the case on a deployment of its own, and blocks until it ends. Each event that must
    /// come is waited for up to `limit`, which is [`TIME_LIMIT`] unless the machine is known to be
    /// idle. The whole case takes at most five times as long.
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
            // A task that hangs is not waited for.
            runtime.shutdown_background();
            ended.unwrap_or_else(|_| panic!("it hangs: not within {limit:?}"))
        }));
        match outcome {
            Ok(Ok(())) => Outcome::Passed,
            Ok(Err(skip)) => Outcome::Skipped(skip),
            Err(panic) => Outcome::Failed(panic_message(&*panic)),
        }
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "it panicked".to_owned())
}
