//! The content of a token: JSON read once, with names that occur twice refused.

/// A JSON value.
#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// Any number.
    Number(serde_json::Number),
    /// A text.
    String(Box<str>),
    /// A list.
    Array(Box<[Json]>),
    /// Names and values, each name once.
    Object(Box<[(Box<str>, Json)]>),
}

/// The claims of a token (RFC 7519 section 4), read but not yet judged.
#[derive(Clone, Debug, PartialEq)]
pub struct Claims {
    /// The whole payload; always an object.
    pub payload: Json,
}
