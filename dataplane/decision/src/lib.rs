//! Routing, authorization and explanation: pure functions over one immutable snapshot.
//!
//! [`decide::decide`] takes a [`snapshot::Snapshot`] and a [`canonical::CanonicalRequest`] and says how the
//! request ends. Nothing here opens a socket or a file, asks for the time or remembers anything.

pub mod address;
pub mod canonical;
pub mod certificate;
pub mod check;
pub mod claims;
pub mod client;
pub mod code;
pub mod decide;
pub mod denial;
pub mod disclosure;
pub mod endpoint;
pub mod escape;
mod handshake;
mod headline;
pub mod host;
pub mod lack;
pub mod options;
pub mod path;
pub mod policy;
pub mod protection;
pub mod refs;
pub mod remembered;
pub mod route;
pub mod snapshot;
pub mod spelling;
pub mod standing;
pub mod subscription;
pub mod time;
pub mod token;
pub mod trailers;
pub mod transport;
pub mod uncovered;
