//! The checker, checked: histories made by hand, and another checker that searches.

mod bad;
mod good;
mod scene;
mod search;
