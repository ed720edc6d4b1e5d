//! A third backend: a small one that keeps its queues in the memory of one process. The page
//! `docs/adding-a-backend.md` explains it.

pub mod client;
pub mod session;
pub mod store;
