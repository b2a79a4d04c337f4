//! Routes with options of their own: what upstreams and clients get to see, hostile ones among them.

pub(crate) mod compression;
mod cors;
mod headers;
mod limits;
mod paths;
mod redirects;
