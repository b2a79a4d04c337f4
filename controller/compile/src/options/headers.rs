//! Header fields in annotations: a field or a name a line.

use decision::options::headers::{Field, HeaderEdits, Message};
use http::{HeaderName, HeaderValue};

use super::reader::{Reader, Wrong, Wrongs, all};

/// The three annotations of one direction.
pub(super) struct Keys {
    pub(super) remove: &'static str,
    pub(super) set: &'static str,
    pub(super) add: &'static str,
}

/// Most fields or names of one annotation.
const MOST: usize = 32;

/// Longest value in bytes.
const LONGEST: usize = 4_096;

pub(super) fn edits(reader: &mut Reader<'_>, keys: &Keys, message: Message) -> HeaderEdits {
    let fields = |text: &str| fields(text, message);
    let remove = reader.read(keys.remove, |text| names(text, message)).unwrap_or_default();
    let set = reader.read(keys.set, fields).unwrap_or_default();
    let add = reader.read(keys.add, fields).unwrap_or_default();
    let remedy = "Write the value out; if it is meant as it stands, nothing has to be done.";
    for (key, fields) in [(keys.set, &set), (keys.add, &add)] {
        if !fields.is_empty() {
            reader.warn_of_variables(key, remedy);
        }
    }
    HeaderEdits::new(message, remove, set, add)
}

fn names(text: &str, message: Message) -> Result<Vec<HeaderName>, Wrongs> {
    let remedy = "Write names of header fields, separated by commas or one a line.";
    let names = text.split([',', '\n']).map(str::trim).filter(|name| !name.is_empty());
    bounded(all(names.map(|text| name(text, message)))?, remedy)
}

fn fields(text: &str, message: Message) -> Result<Vec<Field>, Wrongs> {
    let remedy = "Write a field a line, as in `x-team: shop`.";
    let field = |line: &str| {
        let (name, value) = line
            .split_once(':')
            .ok_or_else(|| Wrong::new(format!("`{line}` is not a header field"), remedy))?;
        let name = self::name(name.trim_end_matches(' '), message)?;
        if message.guards(name.as_str()) {
            return Err(guarded(&name, message));
        }
        Ok((name, self::value(value.trim())?))
    };
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    bounded(all(lines.map(field))?, remedy)
}

fn bounded<T>(entries: Vec<T>, remedy: &str) -> Result<Vec<T>, Wrongs> {
    match entries.len() {
        0 => Err(Wrong::new("it names no header field", remedy).into()),
        1..=MOST => Ok(entries),
        count => Err(Wrong::new(
            format!("it has {count} header fields, and at most {MOST} count"),
            format!("Leave {} of them out.", count - MOST),
        )
        .into()),
    }
}

fn name(text: &str, message: Message) -> Result<HeaderName, Wrong> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    let name = HeaderName::from_bytes(text.as_bytes()).ok();
    let name = name.filter(|_| text.len() <= 128 && text.bytes().all(plain)).ok_or_else(|| {
        Wrong::new(
            format!("`{text}` is not the name of a header field"),
            "Write letters, digits and `-`; some servers take `_` for `-`.",
        )
    })?;
    if message.keeps(name.as_str()) {
        return Err(Wrong::new(
            format!("`{name}` frames the message, ends at each hop, or is written by the gateway"),
            format!("Leave `{name}` out."),
        ));
    }
    Ok(name)
}

fn guarded(name: &HeaderName, message: Message) -> Wrong {
    let (problem, remedy) = match message {
        Message::Request => (
            "stands for what was judged, and a route cannot say it anew",
            format!("Leave `{name}` out; it may be removed."),
        ),
        Message::Response => (
            "has annotations of its own",
            "Write `whygate.dev/hsts` or `whygate.dev/cors-origins` instead; it may be removed."
                .to_owned(),
        ),
    };
    Wrong::new(format!("`{name}` {problem}"), remedy)
}

/// Printable ASCII (RFC 9110 section 5.5): no line can end in it.
fn value(text: &str) -> Result<HeaderValue, Wrong> {
    let printable = text.len() <= LONGEST && text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    let value = HeaderValue::from_str(text).ok().filter(|_| printable);
    value.ok_or_else(|| {
        Wrong::new(
            "a value has other characters than printable ASCII, or too many",
            format!("Write printable ASCII, at most {LONGEST} bytes a field."),
        )
    })
}

/// `Strict-Transport-Security` (RFC 6797 section 6.1), each directive once and in its usual spelling.
pub(super) fn hsts(text: &str) -> Result<HeaderValue, Wrong> {
    let remedy = "Write `max-age=SECONDS`, and behind it if wanted `; includeSubDomains` and `; preload`, as in `max-age=31536000; includeSubDomains`.";
    let wrong = || Wrong::new(format!("`{text}` is not a value of HSTS"), remedy);
    let (mut age, mut below, mut preload) = (None, false, false);
    for directive in text.split(';').map(str::trim) {
        let twice = match directive.to_ascii_lowercase().as_str() {
            "includesubdomains" => std::mem::replace(&mut below, true),
            "preload" => std::mem::replace(&mut preload, true),
            other => {
                let seconds = other.strip_prefix("max-age=").ok_or_else(wrong)?;
                let digits = seconds.bytes().all(|byte| byte.is_ascii_digit());
                let seconds: u32 = seconds.parse().ok().filter(|_| digits).ok_or_else(wrong)?;
                age.replace(seconds).is_some()
            }
        };
        if twice {
            return Err(wrong());
        }
    }
    let mut value = format!("max-age={}", age.ok_or_else(wrong)?);
    for (given, directive) in [(below, "; includeSubDomains"), (preload, "; preload")] {
        if given {
            value.push_str(directive);
        }
    }
    HeaderValue::try_from(value).map_err(|_| wrong())
}
