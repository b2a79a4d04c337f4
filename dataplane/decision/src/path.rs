//! Request paths in their one canonical form (RFC 3986 section 6.2.2).

use std::{borrow::Cow, fmt::Write};

/// Which rule of the canonical path a text breaks; the name is what the refusal prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PathProblem {
    /// Does not begin with `/`.
    NotAbsolute,
    /// A backslash, a space, a control character, a byte above ASCII, `"` and the like.
    Character,
    /// `%` not followed by two hexadecimal digits.
    BadEscape,
    /// `%2F`: a slash that some servers read as a separator.
    EncodedSlash,
    /// `%5C`: a backslash that some servers read as a separator.
    EncodedBackslash,
    /// `%00` to `%1F` and `%7F`.
    EncodedControl,
    /// `%25` followed by two digits that somebody who decodes twice would take for an ASCII character.
    DoubleEncoding,
    /// Escapes that are no UTF-8 text.
    InvalidUtf8,
    /// A dot segment with parameters, as in `/a/..;x/b`.
    DotSegmentParameter,
    /// More `..` than there are segments.
    AboveRoot,
}

impl PathProblem {
    /// The name of the rule in refusals.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotAbsolute => "path-not-absolute",
            Self::Character => "path-character",
            Self::BadEscape => "path-bad-escape",
            Self::EncodedSlash => "encoded-slash",
            Self::EncodedBackslash => "encoded-backslash",
            Self::EncodedControl => "encoded-control",
            Self::DoubleEncoding => "double-encoding",
            Self::InvalidUtf8 => "path-invalid-utf8",
            Self::DotSegmentParameter => "dot-segment-parameter",
            Self::AboveRoot => "dot-segment",
        }
    }
}

/// The canonical form of the path of a request target: printable ASCII, no dot segments, no empty
/// segment but a last one, and no escape of a character that may stand for itself.
///
/// Those are the unreserved ones (RFC 3986 section 6.2.2.2) and of the others of `pchar` (section
/// 3.3) all but `;`: servers compare paths after decoding them, so `/%40a` and `/@a` are one path.
/// `%3B` stays, because a server that knows parameters takes `;` for their beginning and `%3B` for
/// a part of the name; [`segments`] cuts at both. `+` is itself, never a space. What must be escaped
/// has its digits in upper case.
///
/// Borrowed if the text is canonical already. The canonical form of a canonical path is itself.
///
/// # Errors
/// The rule that the text breaks; a path that two servers could read differently is refused.
pub fn canonical(text: &str) -> Result<Cow<'_, str>, PathProblem> {
    if !text.starts_with('/') {
        return Err(PathProblem::NotAbsolute);
    }
    if is_plain(text) {
        return Ok(Cow::Borrowed(text));
    }
    normalize(&decode(text)?).map(Cow::Owned)
}

/// The canonical form of a path in a manifest: escapes are decoded as in a request, but nothing is
/// resolved or left out, because a manifest that needs it probably means something else.
///
/// # Errors
/// What its canonical form is, if it has one, so that a remedy can name it.
pub fn written(text: &str) -> Result<Cow<'_, str>, Result<Cow<'_, str>, PathProblem>> {
    match (canonical(text), decode(text)) {
        (Ok(path), Ok(decoded)) if path == decoded && !has_parameters(&path) => Ok(path),
        (other, _) => Err(other),
    }
}

/// The elements between the slashes of a canonical path, parameters (`;x=1`, `%3Bx=1`) left out:
/// what routes and policies match. A trailing slash adds none.
pub fn segments(path: &str) -> impl Iterator<Item = &str> {
    let inner = path.strip_prefix('/').unwrap_or(path);
    let inner = inner.strip_suffix('/').unwrap_or(inner);
    inner
        .split('/')
        .filter(move |_| !inner.is_empty())
        .map(|segment| parameters(segment).map_or(segment, |(name, _)| name))
}

/// Whether some segment of a canonical path has parameters, which are no part of what is matched.
fn has_parameters(path: &str) -> bool {
    parameters(path).is_some()
}

/// A segment's name and its parameters. `%3B` counts as `;`, as it does for a server that decodes a
/// path before it cuts the parameters off.
fn parameters(segment: &str) -> Option<(&str, &str)> {
    // Hardly any has them, and to look for texts costs more than to look for bytes.
    if !segment.bytes().any(|byte| matches!(byte, b';' | b'%')) {
        return None;
    }
    let plain = segment.split_once(';');
    let name = plain.map_or(segment, |(name, _)| name);
    name.split_once("%3B").or(plain)
}

/// Whether `path` lies at or below `prefix`, element by element: `/v1` holds `/v1/x`, not `/v10`.
pub fn is_within(path: &str, prefix: &str) -> bool {
    let mut path = segments(path);
    segments(prefix).all(|segment| path.next() == Some(segment))
}

/// The common case, already canonical: letters, digits, `-_~` and slashes that stand alone, and
/// dots that cannot form a dot segment.
fn is_plain(text: &str) -> bool {
    let mut previous = 0;
    text.bytes().all(|byte| {
        let fine = match byte {
            b'/' => previous != b'/',
            b'.' => previous != b'/' && previous != b'.',
            _ => byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'~'),
        };
        previous = byte;
        fine
    })
}

/// Decodes escapes of characters that may stand for themselves, puts the others in upper case,
/// refuses the rest.
fn decode(text: &str) -> Result<Cow<'_, str>, PathProblem> {
    if !text.bytes().all(is_path_byte) {
        return Err(PathProblem::Character);
    }
    if !text.contains('%') {
        return Ok(Cow::Borrowed(text));
    }
    check_utf8(text)?;
    let mut decoded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        decoded.push_str(before);
        let (byte, tail) = escape(after)?;
        push_escaped(&mut decoded, byte)?;
        rest = tail;
    }
    decoded.push_str(rest);
    if is_encoded_twice(&decoded) {
        return Err(PathProblem::DoubleEncoding);
    }
    Ok(Cow::Owned(decoded))
}

/// `pchar` and `/` of RFC 3986 section 3.3, with `%` for escapes.
fn is_path_byte(byte: u8) -> bool {
    stands_for_itself(byte) || matches!(byte, b';' | b'/' | b'%')
}

/// `pchar` without `;` and `%`: the same character with and without escape.
fn stands_for_itself(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,=:@".contains(&byte)
}

fn escape(after: &str) -> Result<(u8, &str), PathProblem> {
    let (digits, tail) = after.split_at_checked(2).ok_or(PathProblem::BadEscape)?;
    if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(PathProblem::BadEscape);
    }
    let byte = u8::from_str_radix(digits, 16).map_err(|_| PathProblem::BadEscape)?;
    Ok((byte, tail))
}

fn push_escaped(decoded: &mut String, byte: u8) -> Result<(), PathProblem> {
    match byte {
        b'/' => Err(PathProblem::EncodedSlash),
        b'\\' => Err(PathProblem::EncodedBackslash),
        0..=0x1f | 0x7f => Err(PathProblem::EncodedControl),
        _ if stands_for_itself(byte) => {
            decoded.push(char::from(byte));
            Ok(())
        }
        other => {
            // Writing to a String cannot fail.
            let _ = write!(decoded, "%{other:02X}");
            Ok(())
        }
    }
}

/// Whether a decoded text holds a `%25` that would become another ASCII character, and so perhaps
/// another path, if somebody decoded once more.
fn is_encoded_twice(decoded: &str) -> bool {
    decoded.split("%25").skip(1).any(|tail| escape(tail).is_ok_and(|(byte, _)| byte.is_ascii()))
}

fn check_utf8(text: &str) -> Result<(), PathProblem> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        bytes.extend_from_slice(before.as_bytes());
        let (byte, tail) = escape(after)?;
        bytes.push(byte);
        rest = tail;
    }
    std::str::from_utf8(&bytes).map(|_| ()).map_err(|_| PathProblem::InvalidUtf8)
}

/// Removes dot segments and merges slashes (RFC 3986 section 5.2.4).
fn normalize(text: &str) -> Result<String, PathProblem> {
    let mut kept: Vec<&str> = Vec::new();
    let mut directory = true;
    for segment in text.split('/') {
        directory = matches!(segment, "" | "." | "..");
        match segment {
            "" | "." => {}
            ".." => {
                kept.pop().ok_or(PathProblem::AboveRoot)?;
            }
            _ if is_dot_with_parameter(segment) => return Err(PathProblem::DotSegmentParameter),
            _ => kept.push(segment),
        }
    }
    let mut path = String::with_capacity(text.len());
    for segment in &kept {
        path.push('/');
        path.push_str(segment);
    }
    if directory || kept.is_empty() {
        path.push('/');
    }
    Ok(path)
}

fn is_dot_with_parameter(segment: &str) -> bool {
    parameters(segment).is_some_and(|(name, _)| matches!(name, "" | "." | ".."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&str, PathProblem>) {
        assert_eq!(canonical(text).as_deref().map_err(|problem| *problem), expected, "{text}");
    }

    #[test]
    fn one_resource_has_one_spelling() {
        for text in
            ["/a/b", "//a///b", "/a/./b", "/a/x/../b", "/%61/b", "/a/%62", "/./a/b", "/a/%2e/b"]
        {
            check(text, Ok("/a/b"));
        }
        check("/a/b/", Ok("/a/b/"));
        check("/a/b/.", Ok("/a/b/"));
        check("/a/b/..", Ok("/a/"));
        check("/", Ok("/"));
        check("/%c3%a9", Ok("/%C3%A9"));
        check("/a%20b", Ok("/a%20b"));
        check("/a.b..c", Ok("/a.b..c"));
        check("/%40admin", Ok("/@admin"));
        check("/api%3Av1/bob%2bx/%21%24%26%27%28%29%2A%2c%3D", Ok("/api:v1/bob+x/!$&'()*,="));
        check("/a+b%20c", Ok("/a+b%20c"));
        check("/a%3bb%3f%23%5b%7C", Ok("/a%3Bb%3F%23%5B%7C"));
    }

    #[test]
    fn a_path_that_can_be_read_two_ways_is_refused() {
        check("a", Err(PathProblem::NotAbsolute));
        check("/a\\b", Err(PathProblem::Character));
        check("/a b", Err(PathProblem::Character));
        check("/é", Err(PathProblem::Character));
        check("/%", Err(PathProblem::BadEscape));
        check("/%2", Err(PathProblem::BadEscape));
        check("/%zz", Err(PathProblem::BadEscape));
        check("/%+1", Err(PathProblem::BadEscape));
        check("/a%2fb", Err(PathProblem::EncodedSlash));
        check("/a%5Cb", Err(PathProblem::EncodedBackslash));
        check("/a%00", Err(PathProblem::EncodedControl));
        check("/%252e%252e/a", Err(PathProblem::DoubleEncoding));
        check("/%252fa", Err(PathProblem::DoubleEncoding));
        check("/%2561dmin", Err(PathProblem::DoubleEncoding));
        check("/100%25", Ok("/100%25"));
        check("/%25C3", Ok("/%25C3"));
        check("/%25%32%65", Err(PathProblem::DoubleEncoding));
        check("/%ff", Err(PathProblem::InvalidUtf8));
        check("/a/..;x/b", Err(PathProblem::DotSegmentParameter));
        check("/a/;x/b", Err(PathProblem::DotSegmentParameter));
        check("/a/..%3bx/b", Err(PathProblem::DotSegmentParameter));
        check("/a/.%3Bx;y/b", Err(PathProblem::DotSegmentParameter));
        check("/..", Err(PathProblem::AboveRoot));
        check("/%2e%2e/a", Err(PathProblem::AboveRoot));
    }

    #[test]
    fn a_manifest_may_escape_but_not_leave_a_path_to_be_worked_out() {
        let check = |text, expected: Result<&str, Result<&str, PathProblem>>| {
            let found = written(text).map(Cow::into_owned);
            let found = found.map_err(|canonical| canonical.map(Cow::into_owned));
            let expected = expected.map(String::from);
            assert_eq!(found, expected.map_err(|path| path.map(String::from)), "{text}");
        };
        for text in ["/@admin", "/%40admin", "/%40%61dmin"] {
            check(text, Ok("/@admin"));
        }
        check("/%c3%a9/", Ok("/%C3%A9/"));
        check("//a", Err(Ok("/a")));
        check("/a/%2e%2E/b", Err(Ok("/b")));
        check("/a;x", Err(Ok("/a;x")));
        check("/a%3bx", Err(Ok("/a%3Bx")));
        check("/a%2fb", Err(Err(PathProblem::EncodedSlash)));
        check("a", Err(Err(PathProblem::NotAbsolute)));
    }

    #[test]
    fn prefixes_hold_whole_elements() {
        let within = |path, prefix| is_within(&canonical(path).unwrap(), prefix);
        assert!(within("/v1", "/v1") && within("/v1/", "/v1") && within("/v1/x", "/v1/"));
        assert!(within("/v1;x=1/y", "/v1"));
        assert!(within("/v1%3bx=1;y/y", "/v1") && within("/v1;y%3B/y", "/v1"));
        assert!(within("/anything", "/"));
        assert!(!within("/v10", "/v1") && !within("/v", "/v1"));
    }
}
