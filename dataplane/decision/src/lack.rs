//! What an object lacks, for refusals and findings that point at it.

use std::sync::Arc;

/// What keeps an object from being used to judge by, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lack {
    /// What is wrong with it: `it does not exist`.
    pub problem: Arc<str>,
    /// What to do about it: whole sentences.
    pub remedy: Arc<str>,
}
