//! The observer of a client, if it has one.

use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{Event, Observer, TraceContext};
use crate::error::Error;
use crate::operation::Operation;

/// The observer that a client's events go to, if it has one. A clone goes to the same observer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Observed(Option<Arc<Target>>);

/// Stands for the observer where there is none.
static NOBODY: Observed = Observed(None);

#[derive(Debug)]
struct Target {
    observer: Arc<dyn Observer>,
    has_panicked: AtomicBool,
}

impl Observed {
    pub(crate) fn new(observer: Option<Arc<dyn Observer>>) -> Self {
        Observed(observer.map(|observer| {
            Arc::new(Target {
                observer,
                has_panicked: AtomicBool::new(false),
            })
        }))
    }

    /// Returns what has no observer.
    pub(crate) fn nobody() -> &'static Self {
        &NOBODY
    }

    /// Returns the observer as that of the retries of one operation.
    pub(crate) fn of_retries(&self, operation: Operation) -> ObservedRetries<'_> {
        ObservedRetries {
            observed: self,
            operation,
        }
    }

    /// Returns whether there is an observer.
    pub(crate) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Gives the observer an event, which is made only if there is one. To be called without any
    /// mutex locked.
    pub(crate) fn emit<'a>(&self, event: impl FnOnce() -> Event<'a>) {
        if let Some(target) = &self.0 {
            target.call(|observer| observer.observe(&event()));
        }
    }

    /// Returns the trace that the calling task works for.
    pub(crate) fn trace_context(&self) -> Option<TraceContext> {
        self.0.as_ref()?.call(|observer| observer.trace_context())?
    }
}

/// The observer of the retries of one operation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ObservedRetries<'a> {
    observed: &'a Observed,
    operation: Operation,
}

impl ObservedRetries<'_> {
    /// Tells that a request failed and is tried again after this pause.
    pub(crate) fn tell(self, error: &Error, pause: Duration) {
        self.observed.emit(|| Event::Retried {
            operation: self.operation,
            error,
            pause,
        });
    }
}

impl Target {
    /// Calls the observer. A panic of it must end neither the caller's work nor the renewals.
    fn call<T>(&self, call: impl FnOnce(&dyn Observer) -> T) -> Option<T> {
        let called = panic::catch_unwind(AssertUnwindSafe(|| call(&*self.observer)));
        // Nothing else depends on the flag, so the order of other memory is no matter.
        if called.is_err() && !self.has_panicked.swap(true, Ordering::Relaxed) {
            let observer = &self.observer;
            tracing::error!(
                ?observer,
                "an observer of locks panicked; this is logged once"
            );
        }
        called.ok()
    }
}
