//! What a simulation reaches in addition: the disk of a coordinator, and a coordinator whose threads
//! are tasks.

pub use crate::store::disk::Disk;
