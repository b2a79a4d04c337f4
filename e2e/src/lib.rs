//! Starts the real program against real parts: an API server with its etcd, upstreams, clients,
//! and a proxy that breaks connections on purpose.
//!
//! A test binary either uses the ordinary harness or, if it needs addresses of its own or an API
//! server, [`suite!`], which moves it into private namespaces first.

pub mod api;
pub mod api_server;
pub mod audit;
pub mod burst;
pub mod certificates;
pub mod client;
pub mod cluster;
pub mod corpus;
pub mod dns;
pub mod fault;
pub mod hammer;
pub mod kubernetes;
pub mod manifests;
pub mod namespace;
pub mod process;
pub mod program;
pub mod raw;
pub mod shop;
pub mod strict;
pub mod suite;
pub mod upstream;
pub mod wait;
pub mod whygate;

pub use api_server::ApiServer;
pub use certificates::{Authority, Certificate};
pub use client::{Answer, Client, Connection, Protocol};
pub use cluster::Cluster;
pub use dns::Dns;
pub use fault::FaultProxy;
pub use hammer::Hammer;
pub use namespace::address;
pub use shop::Shop;
pub use strict::StrictUpstream;
pub use upstream::Upstream;
pub use wait::eventually;
pub use whygate::Whygate;

use std::io::Write as _;

/// Says a sentence on standard error, for the person who waits.
pub fn say(sentence: &str) {
    // A closed standard error leaves nobody to tell.
    let _ = writeln!(std::io::stderr(), "{sentence}");
}
