//! Sentences about the evaluator that must stay true, whatever is configured and asked.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests: a panic is the failure of the test"
)]

mod attacks;
mod certificates;
mod codings;
mod combination;
mod evaluation;
mod forms;
mod key_sets;
mod preflights;
mod requests;
mod routing;
mod signer;
mod spellings;
mod standing;
mod tokens;
mod world;
