//! Routes with options of their own: what upstreams and clients get to see, hostile ones among them.

mod cors;
mod headers;
mod limits;
mod paths;
mod redirects;
