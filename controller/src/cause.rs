//! What an error comes down to.

use std::error::Error;

/// The innermost cause, which is what a person can act on.
pub(crate) fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}
