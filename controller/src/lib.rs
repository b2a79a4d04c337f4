//! The program `whygate` as a library, so that its lines can be tried in one process.
//!
//! [`pipeline`] is the line of a configuration change, [`denials`] that of a refusal; [`gateway`]
//! puts them around a data plane.

pub mod access_log;
pub mod admin;
mod backend;
mod cause;
pub mod cli;
pub mod denials;
pub mod expiry;
pub mod following;
pub mod gateway;
pub mod inspect;
pub mod leader;
pub mod log;
pub mod names;
pub mod output;
pub mod pages;
pub mod pipeline;
mod port;
pub mod pulse;
pub mod ready_file;
pub mod settings;
pub mod source;
#[cfg(feature = "otlp")]
mod spans;
pub mod status;
pub mod supervise;
