//! Tests the checker with histories made by hand, and with another checker that searches.

mod bad;
mod data;
mod good;
mod offset;
mod recalls;
mod scene;
mod search;
