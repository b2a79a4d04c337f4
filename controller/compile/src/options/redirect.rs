//! Other places for clients.

use decision::{
    host::Host,
    options::{Destination, Redirect},
};
use http::{HeaderValue, StatusCode, Uri};

use super::{
    paths::{PREFIX, REGEX},
    reader::{Reader, Wrong},
};

const REDIRECT: &str = "whygate.dev/redirect";
const HOST: &str = "whygate.dev/redirect-host";
const STATUS: &str = "whygate.dev/redirect-status";

pub(super) const KEYS: [&str; 3] = [REDIRECT, HOST, STATUS];

pub(super) fn redirect(reader: &mut Reader<'_>) -> Option<Redirect> {
    if !reader.has(HOST) {
        reader.only_with(STATUS, REDIRECT);
    }
    for key in [PREFIX, REGEX, HOST] {
        reader.without(key, REDIRECT);
    }
    let status = reader.read(STATUS, status);
    let url = reader.read(REDIRECT, location).map(Destination::Url);
    if url.is_some() {
        let remedy = "Write the whole URL out; `whygate.dev/redirect-host` sends clients to another host with the path and query of their requests.";
        reader.warn_of_variables(REDIRECT, remedy);
    }
    let host = reader.read(HOST, super::host).map(Destination::Host);
    Some(Redirect { to: url.or(host)?, status: status.unwrap_or(StatusCode::FOUND) })
}

fn status(text: &str) -> Result<StatusCode, Wrong> {
    match text {
        "301" => Ok(StatusCode::MOVED_PERMANENTLY),
        "302" => Ok(StatusCode::FOUND),
        "307" => Ok(StatusCode::TEMPORARY_REDIRECT),
        "308" => Ok(StatusCode::PERMANENT_REDIRECT),
        _ => Err(Wrong::new(
            format!("`{text}` is not a status of a redirect"),
            "Write `\"301\"`, `\"302\"`, `\"307\"` or `\"308\"`.",
        )),
    }
}

/// A whole URL: what a browser would take for a place on the host that was asked for, or on one
/// that the client chose, is none.
fn location(text: &str) -> Result<HeaderValue, Wrong> {
    let wrong = || {
        Wrong::new(
            format!("`{text}` is not a URL to redirect to"),
            "Write a whole URL without user and fragment, as in `https://www.example.com/new`.",
        )
    };
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let rest = rest.ok_or_else(wrong)?;
    let printable = |byte: u8| matches!(byte, b'!'..=b'~') && !b"\\#\"<>^`{|}".contains(&byte);
    if text.len() > 2_048 || !text.bytes().all(printable) {
        return Err(wrong());
    }
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    Host::parse_authority(authority).map_err(|_| wrong())?;
    text.parse::<Uri>().map_err(|_| wrong())?;
    HeaderValue::from_str(text).map_err(|_| wrong())
}
