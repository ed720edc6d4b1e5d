//! The runs that have failed before.

use crate::setup::Setup;

const TEXT: &str = include_str!("../corpus.txt");

/// Returns the runs of the corpus.
///
/// # Errors
/// A line that names no run.
pub fn read() -> Result<Vec<Setup>, String> {
    let lines = TEXT.lines().map(|line| line.split('#').next());
    let named = lines.flatten().filter(|line| !line.trim().is_empty());
    named.map(str::parse).collect()
}
