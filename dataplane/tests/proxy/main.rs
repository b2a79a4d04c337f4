//! The proxy, from one socket to the other.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "the helpers of tests are no tests to the linter, and a panic is how they fail"
)]

mod access;
mod balance;
mod certificates;
mod early;
mod faults;
mod http2;
mod lifecycle;
mod options;
mod panics;
mod refusals;
mod requests;
mod secure;
mod shared;
mod slow;
mod support;
mod tunnels;
