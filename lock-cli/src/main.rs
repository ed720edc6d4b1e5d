//! The `turnlock` command; see the crate's library.

use std::process::ExitCode;

/// Every message of a request takes buffers of eight kilobytes, with which glibc's allocator spends
/// a seventh of the coordinator's time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    lock_cli::main()
}
