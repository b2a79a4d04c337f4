//! CORS in annotations: whose pages may call, and what they may send and see.

use std::time::Duration;

use decision::options::cors::{Cors, Origin, Origins};
use http::{HeaderName, HeaderValue, Method};

use super::{
    quantity::duration,
    reader::{Reader, Wrong, Wrongs, all},
};

const ORIGINS: &str = "whygate.dev/cors-origins";
const METHODS: &str = "whygate.dev/cors-methods";
const HEADERS: &str = "whygate.dev/cors-headers";
const EXPOSE: &str = "whygate.dev/cors-expose-headers";
const CREDENTIALS: &str = "whygate.dev/cors-credentials";
const MAX_AGE: &str = "whygate.dev/cors-max-age";

pub(super) const KEYS: [&str; 6] = [ORIGINS, METHODS, HEADERS, EXPOSE, CREDENTIALS, MAX_AGE];

/// Most entries of one list.
const MOST: usize = 64;

/// What a page may always see: the name of a refusal and of its request.
const OURS: &str = "whygate-denial-code, whygate-request-id";

pub(super) fn cors(reader: &mut Reader<'_>) -> Option<Cors> {
    for key in [METHODS, HEADERS, EXPOSE, CREDENTIALS, MAX_AGE] {
        reader.only_with(key, ORIGINS);
    }
    let credentials = reader.read(CREDENTIALS, credentials).unwrap_or_default();
    let methods = reader.read(METHODS, |text| list(text, credentials, method));
    let headers = reader.read(HEADERS, |text| list(text, credentials, name));
    let expose = reader.read(EXPOSE, |text| list(text, credentials, name));
    let max_age = reader.read(MAX_AGE, max_age);
    let origins = reader.read(ORIGINS, |text| origins(text, credentials))?;
    let expose = expose.map_or_else(|| OURS.to_owned(), |expose| format!("{expose}, {OURS}"));
    Some(Cors {
        field: reader.field(ORIGINS),
        origins,
        methods: value(&methods.unwrap_or_else(|| "GET, HEAD, POST".to_owned())),
        headers: headers.as_deref().map(value),
        expose: value(&expose),
        credentials,
        max_age,
    })
}

/// Names and methods are tokens, so the fallback is never taken.
fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""))
}

fn credentials(text: &str) -> Result<bool, Wrong> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(Wrong::new(
            format!("`{text}` is not a value of `{CREDENTIALS}`"),
            "Write `\"true\"` or `\"false\"`.",
        )),
    }
}

fn max_age(text: &str) -> Result<HeaderValue, Wrong> {
    let age = duration(text, Duration::ZERO..=Duration::from_hours(24))?;
    Ok(HeaderValue::from(age.as_secs()))
}

fn entries(text: &str) -> Result<Vec<&str>, Wrong> {
    let entries = text.split([',', '\n']).map(str::trim).filter(|entry| !entry.is_empty());
    let entries: Vec<_> = entries.collect();
    match entries.len() {
        0 => Err(Wrong::new("it lists nothing", "List something, or remove the annotation.")),
        1..=MOST => Ok(entries),
        count => Err(Wrong::new(
            format!("it has {count} entries, and at most {MOST} count"),
            format!("Leave {} of them out.", count - MOST),
        )),
    }
}

/// `*` is everything to a browser only as long as no credentials are sent along (WHATWG Fetch,
/// section 3.2.5), and with them it would be an invitation to every page.
fn everything(entries: &[&str], credentials: bool) -> Result<bool, Wrong> {
    let remedy = || "List what is meant instead of `*`.";
    match (entries.contains(&"*"), entries.len()) {
        (false, _) => Ok(false),
        (true, _) if credentials => {
            Err(Wrong::new(format!("`*` cannot stand beside `{CREDENTIALS}: \"true\"`"), remedy()))
        }
        (true, 1) => Ok(true),
        (true, _) => Err(Wrong::new("`*` stands beside other entries", remedy())),
    }
}

fn origins(text: &str, credentials: bool) -> Result<Origins, Wrongs> {
    let entries = entries(text)?;
    if everything(&entries, credentials)? {
        return Ok(Origins::Any);
    }
    let origin = |text: &&str| {
        Origin::parse(text).ok_or_else(|| {
            Wrong::new(
                format!("`{text}` is not an origin"),
                "Write it as browsers do, in lower case, without path and default port: `https://www.example.com`, `https://*.example.com` for one label, or `*`.",
            )
        })
    };
    all(entries.iter().map(origin)).map(|origins| Origins::Listed(origins.into()))
}

fn list(
    text: &str,
    credentials: bool,
    entry: impl Fn(&str) -> Result<String, Wrong>,
) -> Result<String, Wrongs> {
    let entries = entries(text)?;
    if everything(&entries, credentials)? {
        return Ok("*".to_owned());
    }
    Ok(all(entries.into_iter().map(entry))?.join(", "))
}

fn method(text: &str) -> Result<String, Wrong> {
    let method = Method::from_bytes(text.as_bytes()).ok();
    let known = method.filter(|method| {
        method.as_str().bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-')
            && !matches!(*method, Method::CONNECT | Method::TRACE)
    });
    known.map(|method| method.to_string()).ok_or_else(|| {
        Wrong::new(
            format!("`{text}` is not a method that pages can use"),
            "Write methods in upper case, separated by commas, as in `GET, PUT, DELETE`.",
        )
    })
}

fn name(text: &str) -> Result<String, Wrong> {
    let name = HeaderName::from_bytes(text.as_bytes()).ok().filter(|_| text.len() <= 128);
    name.map(|name| name.as_str().to_owned()).ok_or_else(|| {
        Wrong::new(
            format!("`{text}` is not the name of a header field"),
            "Write names of header fields, separated by commas, as in `content-type, x-team`.",
        )
    })
}
