//! The effect of signals on the programs that tests start.

use std::sync::Once;

use tokio::signal::unix::{SignalKind, signal};

/// Gives signals that this process inherited as ignored their default effect on the programs that it
/// starts. The background of a shell ignores INT and QUIT, and `nohup` ignores HUP; a `turnlock` that
/// inherits that ignores them too, as it should.
pub fn undo_ignored() {
    static DONE: Once = Once::new();
    DONE.call_once(|| {
        let status = std::fs::read_to_string("/proc/self/status").expect("Linux has it");
        let ignored = status
            .lines()
            .find_map(|line| line.strip_prefix("SigIgn:"))
            .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
            .expect("a mask in hexadecimal");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("the operating system gives an event queue");
        let entered = runtime.enter();
        for kind in [
            SignalKind::hangup(),
            SignalKind::interrupt(),
            SignalKind::quit(),
        ] {
            if ignored & 1 << (kind.as_raw_value() - 1) != 0 {
                // A program that is started does not inherit a handler, but the default effect.
                drop(signal(kind).expect("a handler"));
            }
        }
        drop(entered);
        // The caller may be in a runtime of its own, where dropping this one would panic.
        runtime.shutdown_background();
    });
}
