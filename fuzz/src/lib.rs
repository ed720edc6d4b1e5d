//! What the targets share: the pieces of an input, the memory that it may take, a server and a folder
//! to give it to.

pub mod folder;
pub mod memory;
pub mod pieces;
mod seeds;
pub mod server;

/// Prepares a target, whose first inputs this makes if it is asked for them.
///
/// # Panics
/// If there is no room for them.
pub fn begin(make_seeds: impl FnOnce() -> Vec<Vec<u8>>) {
    memory::lift_on_panic();
    seeds::write(make_seeds);
}
