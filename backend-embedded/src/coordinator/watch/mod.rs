//! Watches: recent history, and the queue of each watch.

mod history;
mod hub;
mod index;
mod watcher;

pub(super) use hub::Hub;
pub use watcher::{WatchBatch, Watcher};
