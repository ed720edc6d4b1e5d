//! The check where the damage would be done.

mod append;
mod error;
mod fence;
mod file;
mod mark;
mod place;
mod replace;
mod token;

pub use error::{Error, ErrorKind};
pub use fence::{Admitted, BUSY_LIMIT, Fence};
pub use file::{Edit, FencedFile, read};
pub use token::{FencingToken, MAX_COORDINATOR_BYTES};
