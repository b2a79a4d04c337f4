//! Route options: what annotations of an Ingress ask for beyond routing and protection.
//!
//! A value that is not understood closes the Ingress, whatever it is about: some options protect,
//! and a list of those that do not would be one more thing to know by heart.

mod cors;
mod headers;
mod paths;
mod quantity;
mod reader;
mod redirect;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use decision::{
    host::Host,
    options::{Affinity, BodyLimit, Options, Timeouts, compression::Coding, headers::Message},
    refs::ResourceRef,
};
use http::HeaderName;

pub(crate) use paths::trap;

use crate::{
    finding::Problem,
    options::{
        cors::cors,
        headers::{Keys, edits, hsts},
        paths::rewrite,
        quantity::{bytes, duration},
        reader::{Reader, Wrong},
        redirect::redirect,
    },
};

const CONNECT_TIMEOUT: &str = "whygate.dev/connect-timeout";
const FIRST_BYTE_TIMEOUT: &str = "whygate.dev/first-byte-timeout";
const IDLE_TIMEOUT: &str = "whygate.dev/idle-timeout";
const BODY_LIMIT: &str = "whygate.dev/body-limit";
const UPSTREAM_HOST: &str = "whygate.dev/upstream-host";
const COMPRESS: &str = "whygate.dev/compress";
const AFFINITY: &str = "whygate.dev/affinity";

const HSTS: &str = "whygate.dev/hsts";
const REQUEST_HEADERS: Keys = Keys {
    remove: "whygate.dev/request-headers-remove",
    set: "whygate.dev/request-headers-set",
    add: "whygate.dev/request-headers-add",
};
const RESPONSE_HEADERS: Keys = Keys {
    remove: "whygate.dev/response-headers-remove",
    set: "whygate.dev/response-headers-set",
    add: "whygate.dev/response-headers-add",
};

/// Every annotation that is an option.
pub(crate) fn keys() -> impl Iterator<Item = &'static &'static str> {
    [KEYS, &paths::KEYS, &redirect::KEYS, &cors::KEYS].into_iter().flatten()
}

const KEYS: &[&str] = &[
    CONNECT_TIMEOUT,
    FIRST_BYTE_TIMEOUT,
    IDLE_TIMEOUT,
    BODY_LIMIT,
    REQUEST_HEADERS.remove,
    REQUEST_HEADERS.set,
    REQUEST_HEADERS.add,
    RESPONSE_HEADERS.remove,
    RESPONSE_HEADERS.set,
    RESPONSE_HEADERS.add,
    HSTS,
    COMPRESS,
    AFFINITY,
    UPSTREAM_HOST,
];

/// The options of an Ingress.
#[derive(Default)]
pub(crate) struct Read {
    /// `None` if it has none.
    pub(crate) options: Option<Arc<Options>>,
    /// What cannot be read, and closes it.
    pub(crate) problems: Vec<Problem>,
    /// What is read, and probably not meant like that.
    pub(crate) warnings: Vec<Problem>,
}

/// Reads the options of an Ingress.
pub(crate) fn read(resource: &ResourceRef, annotations: &BTreeMap<String, String>) -> Read {
    if !annotations.keys().any(|key| keys().any(|option| option == key)) {
        return Read::default();
    }
    let mut reader = Reader::new(resource, annotations);
    let options = Options {
        timeouts: timeouts(&mut reader),
        body_limit: body_limit(&mut reader),
        request_headers: edits(&mut reader, &REQUEST_HEADERS, Message::Request),
        response_headers: edits(&mut reader, &RESPONSE_HEADERS, Message::Response),
        hsts: reader.read(HSTS, hsts),
        rewrite: rewrite(&mut reader),
        redirect: redirect(&mut reader),
        cors: cors(&mut reader),
        compress: reader.read(COMPRESS, compress),
        affinity: reader.read(AFFINITY, affinity),
        upstream_host: reader.read(UPSTREAM_HOST, host),
    };
    let (problems, warnings) = reader.into_problems();
    Read { options: Some(Arc::new(options)), problems, warnings }
}

fn timeouts(reader: &mut Reader<'_>) -> Timeouts {
    let (tenth, second) = (Duration::from_millis(100), Duration::from_secs(1));
    let (hour, day) = (Duration::from_hours(1), Duration::from_hours(24));
    let minutes = Duration::from_mins(5);
    Timeouts {
        connect: reader.read(CONNECT_TIMEOUT, |text| duration(text, tenth..=minutes)),
        first_byte: reader.read(FIRST_BYTE_TIMEOUT, |text| duration(text, tenth..=hour)),
        idle: reader.read(IDLE_TIMEOUT, |text| duration(text, second..=day)),
    }
}

fn compress(text: &str) -> Result<Coding, Wrong> {
    Coding::parse(text).ok_or_else(|| {
        let message = format!("`{text}` is nothing that answers can be compressed with");
        Wrong::new(message, "Write `gzip`, or remove the annotation.")
    })
}

fn affinity(text: &str) -> Result<Affinity, Wrong> {
    let header = |text: &str| HeaderName::try_from(text.strip_prefix("header:")?).ok();
    match text {
        "cookie" => Ok(Affinity::Cookie),
        "address" => Ok(Affinity::Address),
        _ => header(text).map(Affinity::Header).ok_or_else(|| {
            let remedy = "Write `cookie`, `address` or `header:NAME`.";
            Wrong::new(format!("`{text}` is nothing to tell clients by"), remedy)
        }),
    }
}

fn host(text: &str) -> Result<Host, Wrong> {
    Host::parse(text).map_err(|_| {
        let remedy = "Write a name without a port, as in `api.example.com`.";
        Wrong::new(format!("`{text}` is not a host"), remedy)
    })
}

fn body_limit(reader: &mut Reader<'_>) -> Option<BodyLimit> {
    let bytes = reader.read(BODY_LIMIT, bytes)?;
    Some(BodyLimit { bytes, field: reader.field(BODY_LIMIT) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_is_documented() {
        let page = include_str!("../../docs/options.md");
        for key in keys() {
            assert!(page.contains(&format!("`{key}")), "{key}");
        }
    }
}
