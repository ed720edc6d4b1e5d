//! The pure state machine.

pub mod op;
