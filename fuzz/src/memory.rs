//! The memory that an input may take. One that takes more ends the process, and so is found.

use std::alloc::System;

use cap::Cap;

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

/// How much an input may take that has no bytes.
const BASE: usize = 4 << 20;

/// How much it may take for each of its bytes. A vector that grows has room for twice its values, and
/// `[0,0` has a value of JSON in two bytes.
const FOR_EACH_BYTE: usize = 256;

/// Lifts the limit when something panics: to show where takes memory, and must not end otherwise.
pub(crate) fn lift_on_panic() {
    let show = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let _ = ALLOCATOR.set_limit(usize::MAX);
        show(panic);
    }));
}

/// Runs a target on an input. What is allocated meanwhile, by any thread, may take as much as an input
/// of this length explains, and these bytes besides.
pub fn limit<T>(input: &[u8], besides: usize, run: impl FnOnce() -> T) -> T {
    let room = BASE + besides + input.len() * FOR_EACH_BYTE;
    let limit = ALLOCATOR.allocated().saturating_add(room);
    ALLOCATOR
        .set_limit(limit)
        .expect("it is above what is there");
    let done = run();
    ALLOCATOR.set_limit(usize::MAX).expect("it is the highest");
    done
}
