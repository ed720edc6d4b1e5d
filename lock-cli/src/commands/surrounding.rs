//! The hold of the `turnlock run` that we run inside.

use turnlock::fence::FencingToken;

use crate::exit::{Exit, Failure};

/// Where `run` tells its command the portable form of its token.
pub const VARIABLE: &str = "TURNLOCK_FENCING_TOKEN";

/// The token of the innermost hold around us, if there is one.
pub fn token() -> Result<Option<FencingToken>, Failure> {
    let Some(text) = std::env::var_os(VARIABLE).filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let parsed = text.to_string_lossy().parse();
    parsed.map(Some).map_err(|error: turnlock::fence::Error| {
        Failure::new(Exit::Configuration, format!("{VARIABLE}: {error}"))
            .hint("`turnlock run` sets it; leave it as it is, or unset it")
    })
}
