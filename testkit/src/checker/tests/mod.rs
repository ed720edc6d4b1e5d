//! Tests the checker with histories made by hand, and with another checker that searches.

mod bad;
mod good;
mod scene;
mod search;
