//! Handles the signals that end a run before its time.
//!
//! They are blocked and waited for. So their dispositions stay as they were, and one of them can
//! end this process as if it had never been caught.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use nix::sys::signal::{SigSet, Signal, raise};

const CAUGHT: [Signal; 4] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
];

/// The first signal that asks this process to end.
pub struct Interruption {
    caught: SigSet,
    number: Arc<AtomicI32>,
    flag: Arc<AtomicBool>,
}

impl Interruption {
    /// Blocks the signals for this thread and all threads that it starts, and waits for one on a
    /// thread of its own. A signal that this process was started to ignore, by `nohup` for example,
    /// stays ignored.
    pub fn catch() -> Self {
        let interruption = Interruption {
            caught: to_be_caught(&read_ignored_signals()),
            number: Arc::default(),
            flag: Arc::default(),
        };
        let (caught, number) = (interruption.caught, interruption.number.clone());
        let flag = interruption.flag.clone();
        // A valid set cannot be refused.
        let _ = caught.thread_block();
        std::thread::spawn(move || {
            if let Ok(signal) = caught.wait() {
                number.store(signal as i32, Ordering::Release);
                flag.store(true, Ordering::Release);
            }
        });
        interruption
    }

    /// Returns a flag that is set once a signal has come.
    pub fn flag(&self) -> Arc<AtomicBool> {
        self.flag.clone()
    }

    /// Ends this process by the signal that has come. Returns if no signal has come.
    pub fn end_this_process(&self) {
        let number = self.number.load(Ordering::Acquire);
        if let Ok(signal) = Signal::try_from(number) {
            let _ = self.caught.thread_unblock();
            let _ = raise(signal);
        }
    }
}

fn to_be_caught(ignored: &[Signal]) -> SigSet {
    let caught = CAUGHT.into_iter();
    caught.filter(|signal| !ignored.contains(signal)).collect()
}

/// Returns the signals that this process was started to ignore.
fn read_ignored_signals() -> Vec<Signal> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    let is_ignored = |signal: &Signal| mask.unwrap_or(0) >> (*signal as i32 - 1) & 1 == 1;
    CAUGHT.into_iter().filter(is_ignored).collect()
}
