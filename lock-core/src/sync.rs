//! The primitives of the code that `loom` explores: the real ones, except in its tests.

#[cfg(not(all(test, loom)))]
pub(crate) use {
    futures_util::task::AtomicWaker,
    std::sync::OnceLock,
    std::sync::atomic::{AtomicU64, fence},
    tokio::sync::Notify,
};

#[cfg(all(test, loom))]
pub(crate) mod modelled;
#[cfg(all(test, loom))]
pub(crate) use modelled::{AtomicU64, AtomicWaker, Notify, OnceLock, fence};
