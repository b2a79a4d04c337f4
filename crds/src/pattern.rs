//! The forms that texts in a manifest must have, each with the words that explain it.

/// A name of one DNS label (RFC 1123), as rules, providers and namespaces have.
pub(crate) const LABEL: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";

/// A name of an object (RFC 1123 subdomain).
pub(crate) const OBJECT_NAME: &str =
    r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";

/// An exact host, or a wildcard that stands for its first label.
pub(crate) const HOST: &str =
    r"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";

/// The beginning of a path.
pub(crate) const PATH: &str = "^/";

/// A request method: a token of upper-case letters.
pub(crate) const METHOD: &str = "^[A-Z]+(-[A-Z]+)*$";

/// Names of nested claims, separated by dots.
pub(crate) const CLAIM_PATH: &str = r"^[^.]+(\.[^.]+)*$";

/// A key in the data of a Secret.
pub(crate) const SECRET_KEY: &str = r"^[-._a-zA-Z0-9]+$";

/// The public part of an API key.
pub(crate) const KEY_ID: &str = "^[a-z0-9]{8}$";

/// A SHA-256 digest.
pub(crate) const SHA256: &str = "^[0-9a-f]{64}$";

/// A duration: numbers, each with a unit.
pub(crate) const DURATION: &str = "^([0-9]{1,9}(h|m|s|ms))+$";

const FORMS: [(&str, &str); 10] = [
    (LABEL, "lower-case letters, digits and `-`, with a letter or digit at both ends"),
    (OBJECT_NAME, "lower-case letters, digits, `-` and `.`, with a letter or digit at both ends"),
    (HOST, "a lower-case host such as `api.example.com`, or `*.example.com` for one label"),
    (PATH, "a path that begins with `/`"),
    (METHOD, "a method in upper-case letters, such as `GET`"),
    (CLAIM_PATH, "names separated by single dots, such as `realm_access.roles`"),
    (SECRET_KEY, "letters, digits, `-`, `_` and `.`"),
    (KEY_ID, "8 lower-case letters or digits, as `whygate key new` prints them"),
    (SHA256, "64 lower-case hexadecimal digits, as `whygate key new` prints them"),
    (DURATION, "a duration such as `30s` or `1m30s`"),
];

/// What a text of this pattern looks like, in words; the pattern itself if it is
/// not one of this file's.
pub(crate) fn form(pattern: &str) -> &str {
    FORMS.iter().find(|(known, _)| *known == pattern).map_or(pattern, |(_, form)| form)
}
