//! The proxy: accepts, decides, forwards, records. Knows no Kubernetes.
//!
//! [`Dataplane::start`] binds the addresses and starts threads that share the newest inputs and
//! read them; counters, caches and connections to upstreams each thread has for itself, so that on
//! the path of an admitted request they write to nothing in common but the reference count of its
//! route, and of that one's name if the end of the request is told to somebody. [`Inputs`] are replaced while it runs; [`Dataplane::stop`] ends
//! it without losing a request.

mod accept;
mod access;
mod body;
mod clock;
mod compress;
mod denial_key;
mod denials;
mod download;
mod ending;
mod executor;
mod facts;
mod forward;
mod frames;
mod handle;
mod headers;
mod id;
mod inputs;
mod ledger;
mod listen;
mod manner;
mod metrics;
mod offer;
mod ongoing;
mod origin;
mod possession;
mod progress;
mod pulse;
mod quota;
mod received;
mod record;
mod refused;
mod respond;
mod routes;
mod serve;
mod settings;
mod threads;
mod tls;
mod tokens;
mod trace;
mod transfer;
mod transfers;
mod tunnel;
mod upload;
mod upstream;
mod waits;
mod wire;
mod worker;

pub use crate::{
    access::{Access, AccessReader, End, Outcome, Refusal},
    denial_key::DenialKey,
    denials::DenialSample,
    id::RequestId,
    inputs::{EndpointTable, Inputs},
    listen::BindError,
    metrics::Metrics,
    settings::{Limits, Settings},
    threads::{Addresses, Dataplane, StartError, Stopped},
    tls::{Certificate, Certificates},
    trace::{SpanId, Trace, TraceId, TraceSettings, TraceSource},
};
