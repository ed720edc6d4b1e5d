//! The token offset: that tokens never fall, whenever it is raised.
//!
//! Tokens are compared as pairs of an offset and the store's own number, which only rises. So a token
//! is higher than those before if its offset is not lower.

pub mod etcd;
pub mod zookeeper;
