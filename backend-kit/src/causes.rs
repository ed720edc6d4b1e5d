//! The errors behind an error.

use std::error::Error as StdError;
use std::io;

/// Returns the error and its causes, outermost first. Also finds those that an I/O error carries
/// but does not report as its source.
pub fn causes<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |e| {
        match (*e)
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
        {
            Some(inner) => Some(inner as &(dyn StdError + 'static)),
            None => (*e).source(),
        }
    })
}
