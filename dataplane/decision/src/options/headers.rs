//! Header fields that a route sets, adds and takes away.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::spelling::{ends_here, is_forwarding, remove_where, same_name, starts_as};

/// A header field.
pub type Field = (HeaderName, HeaderValue);

/// What is done to the header fields of a message.
///
/// Its values come from the manifest alone: nothing of a request is put into them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderEdits {
    remove: Box<[HeaderName]>,
    set: Box<[Field]>,
    add: Box<[Field]>,
}

impl HeaderEdits {
    /// `remove`: names that are taken away, in every spelling. `set`: fields in the place of all of
    /// their name, in every spelling. `add`: further fields, beside those of their name.
    ///
    /// What [`Message::keeps`] is left out of all three, and what it [`Message::guards`] out of the
    /// last two: whoever reads the manifest has to tell, and whoever forgets breaks nothing.
    pub fn new(
        message: Message,
        remove: Vec<HeaderName>,
        set: Vec<Field>,
        add: Vec<Field>,
    ) -> Self {
        let free = |name: &HeaderName| !message.keeps(name.as_str());
        let free_field = |(name, _): &Field| free(name) && !message.guards(name.as_str());
        Self {
            remove: remove.into_iter().filter(free).collect(),
            set: set.into_iter().filter(free_field).collect(),
            add: add.into_iter().filter(free_field).collect(),
        }
    }

    /// Names that are taken away.
    pub fn remove(&self) -> &[HeaderName] {
        &self.remove
    }

    /// Fields that take the place of others.
    pub fn set(&self) -> &[Field] {
        &self.set
    }

    /// Fields that stand beside others.
    pub fn add(&self) -> &[Field] {
        &self.add
    }

    /// Takes away, then sets, then adds.
    pub fn apply(&self, headers: &mut HeaderMap) {
        self.take_away(headers);
        for (name, value) in self.set.iter().chain(&self.add) {
            headers.append(name, value.clone());
        }
    }
}

impl HeaderEdits {
    /// Whether [`HeaderEdits::take_away`] does anything.
    pub(crate) fn takes_away(&self) -> bool {
        !self.remove.is_empty() || !self.set.is_empty()
    }

    /// Takes away what is removed, and what others say under the names that are set.
    pub(crate) fn take_away(&self, headers: &mut HeaderMap) {
        for name in self.remove.iter().chain(self.set.iter().map(|(name, _)| name)) {
            // A server that speaks CGI takes `x_team` for `x-team`: a client could speak by it.
            remove_where(headers, |spelled| same_name(spelled, name.as_str()));
        }
    }
}

/// The direction of a message, with the names that no manifest decides about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// From a client to an upstream.
    Request,
    /// From an upstream to a client.
    Response,
}

/// What stands for another method, path or caller than the one that was judged.
const JUDGED: [&str; 8] = [
    "authorization",
    "cookie",
    "x-api-key",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-url",
    "x-rewrite-url",
];

impl Message {
    /// Names that frame a message, end at each hop, or are ours alone (RFC 9110 section 7.6.1).
    pub fn keeps(self, name: &str) -> bool {
        let ours = match self {
            Self::Request => {
                is_forwarding(name) || ["via", "x-request-id"].iter().any(|it| same_name(name, it))
            }
            Self::Response => false,
        };
        ends_here(name) || ours || starts_as(name, "whygate-")
    }

    /// Names that may be taken away and not given a value: of requests what was judged, of responses
    /// what an option of its own writes.
    pub fn guards(self, name: &str) -> bool {
        match self {
            Self::Request => JUDGED.iter().any(|judged| same_name(name, judged)),
            Self::Response => {
                same_name(name, "strict-transport-security") || starts_as(name, "access-control-")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> HeaderName {
        HeaderName::from_bytes(text.as_bytes()).unwrap()
    }

    #[test]
    fn what_is_set_stands_alone_and_no_other_spelling_of_it_is_left() {
        let mut headers = HeaderMap::new();
        for (spelled, value) in
            [("x-team", "a"), ("x_team", "b"), ("x-team", "c"), ("x-other", "d")]
        {
            headers.append(name(spelled), HeaderValue::from_static(value));
        }
        let field = |spelled, value| (name(spelled), HeaderValue::from_static(value));
        let edits = HeaderEdits::new(
            Message::Request,
            vec![name("x-other"), name("host")],
            vec![field("x-team", "shop"), field("content-length", "1"), field("cookie", "a")],
            vec![field("x-team", "too"), field("x-other", "new"), field("via", "x")],
        );
        edits.apply(&mut headers);
        let left: Vec<_> =
            headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        assert_eq!(left, [("x-team", "shop"), ("x-team", "too"), ("x-other", "new")]);
    }

    #[test]
    fn nobody_decides_about_framing_and_forwarding_in_any_spelling() {
        for kept in [
            "host",
            "content-length",
            "content_length",
            "transfer-encoding",
            "connection",
            "te",
            "upgrade",
            "trailer",
            "expect",
            "keep-alive",
            "proxy-authorization",
            "forwarded",
            "x-forwarded-for",
            "x_forwarded_proto",
            "x-real-ip",
            "x-request-id",
            "via",
            "whygate-user",
            "whygate_user",
        ] {
            assert!(Message::Request.keeps(kept), "{kept}");
        }
        for kept in ["content-length", "transfer_encoding", "connection", "whygate-request-id"] {
            assert!(Message::Response.keeps(kept), "{kept}");
        }
        for free in ["x-team", "content-type", "x-forward", "accept", "set-cookie"] {
            assert!(!Message::Request.keeps(free) && !Message::Response.keeps(free), "{free}");
        }
    }

    #[test]
    fn what_was_judged_is_not_said_anew() {
        for guarded in ["authorization", "cookie", "x_api_key", "x-http-method-override"] {
            assert!(Message::Request.guards(guarded), "{guarded}");
        }
        for guarded in ["strict-transport-security", "access-control-allow-origin"] {
            assert!(Message::Response.guards(guarded), "{guarded}");
        }
        assert!(!Message::Request.guards("x-team") && !Message::Response.guards("cookie"));
    }
}
