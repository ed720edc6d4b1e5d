//! The primitives in terms of those that `loom` sees. Each does what the real one does to memory, and in
//! the same order: the atomics and the waker are loom's own; `OnceLock` is read with Acquire and set
//! with Release, as in the standard library; `Notify` counts the calls of `notify_waiters`, as tokio's.

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use loom::sync::Mutex;
use loom::sync::atomic::{self, AtomicBool, AtomicUsize, Ordering};

/// A bug that `loom` must find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// A compare-and-swap swaps whatever it finds.
    SwapsBlindly,
    /// A fence does nothing.
    NoFences,
}

thread_local! {
    // All threads of a model run on the thread of its test.
    static MUTANT: Cell<Option<Mutant>> = const { Cell::new(None) };
}

/// Explores every execution of a model, and prints their number.
pub(crate) fn explore(name: &str, mutant: Option<Mutant>, model: fn()) {
    thread_local! {
        static EXECUTIONS: Cell<u64> = const { Cell::new(0) };
    }
    MUTANT.set(mutant);
    EXECUTIONS.set(0);
    loom::model(move || {
        EXECUTIONS.set(EXECUTIONS.get() + 1);
        model();
    });
    println!("{name}: {} executions", EXECUTIONS.get());
}

fn is_mutated(mutant: Mutant) -> bool {
    MUTANT.get() == Some(mutant)
}

pub(crate) fn fence(order: Ordering) {
    if !is_mutated(Mutant::NoFences) {
        atomic::fence(order);
    }
}

#[derive(Debug)]
pub(crate) struct AtomicU64(atomic::AtomicU64);

impl AtomicU64 {
    pub(crate) fn new(value: u64) -> Self {
        AtomicU64(atomic::AtomicU64::new(value))
    }

    pub(crate) fn load(&self, order: Ordering) -> u64 {
        self.0.load(order)
    }

    pub(crate) fn compare_exchange(
        &self,
        from: u64,
        to: u64,
        success: Ordering,
        failure: Ordering,
    ) -> Result<u64, u64> {
        match is_mutated(Mutant::SwapsBlindly) {
            true => Ok(self.0.swap(to, success)),
            false => self.0.compare_exchange(from, to, success, failure),
        }
    }
}

#[derive(Debug)]
pub(crate) struct OnceLock<T> {
    is_set: AtomicBool,
    setting: Mutex<()>,
    value: std::sync::OnceLock<T>,
}

impl<T> OnceLock<T> {
    pub(crate) fn new() -> Self {
        OnceLock {
            is_set: AtomicBool::new(false),
            setting: Mutex::new(()),
            value: std::sync::OnceLock::new(),
        }
    }

    pub(crate) fn get(&self) -> Option<&T> {
        let is_set = self.is_set.load(Ordering::Acquire);
        self.value.get().filter(|_| is_set)
    }

    pub(crate) fn get_or_init(&self, make: impl FnOnce() -> T) -> &T {
        if let Some(value) = self.get() {
            return value;
        }
        let _setting = self.setting.lock().expect("no thread panics here");
        let value = self.value.get_or_init(make);
        if !self.is_set.load(Ordering::Relaxed) {
            self.is_set.store(true, Ordering::Release);
        }
        value
    }
}

pub(crate) struct AtomicWaker(loom::future::AtomicWaker);

impl AtomicWaker {
    pub(crate) fn new() -> Self {
        AtomicWaker(loom::future::AtomicWaker::new())
    }

    pub(crate) fn register(&self, waker: &Waker) {
        self.0.register_by_ref(waker);
    }

    pub(crate) fn wake(&self) {
        self.0.wake();
    }
}

impl fmt::Debug for AtomicWaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AtomicWaker")
    }
}

#[derive(Debug, Default)]
pub(crate) struct Notify {
    calls: AtomicUsize,
    waiters: Mutex<Vec<Waker>>,
}

impl Notify {
    pub(crate) fn notified(&self) -> Notified<'_> {
        Notified {
            notify: self,
            seen: self.calls.load(Ordering::SeqCst),
        }
    }

    pub(crate) fn notify_waiters(&self) {
        let mut waiters = self.waiters.lock().expect("no thread panics here");
        self.calls.fetch_add(1, Ordering::SeqCst);
        let woken = std::mem::take(&mut *waiters);
        drop(waiters);
        woken.into_iter().for_each(Waker::wake);
    }
}

/// Resolves once `notify_waiters` was called since this was made.
#[derive(Debug)]
pub(crate) struct Notified<'a> {
    notify: &'a Notify,
    seen: usize,
}

impl Future for Notified<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut waiters = self.notify.waiters.lock().expect("no thread panics here");
        if self.notify.calls.load(Ordering::SeqCst) != self.seen {
            return Poll::Ready(());
        }
        waiters.push(context.waker().clone());
        Poll::Pending
    }
}
