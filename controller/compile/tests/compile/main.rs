//! What manifests come to: requests judged by the compiled snapshot, findings, statuses.

#![expect(clippy::expect_used, reason = "a test that cannot go on has failed")]

mod bounds;
mod bypasses;
mod caps;
mod certificates;
mod challenges;
mod client_certificates;
mod closed;
mod endpoints;
mod hostile;
mod hosts;
mod ingresses;
mod keys;
mod laws;
mod manifests;
mod options;
mod policies;
mod statuses;
mod subscriptions;
mod transports;
mod unreadable;
mod withdrawn;
mod world;
