//! Trailers: what a message says behind its body, where nobody routes or judges by it any more
//! (RFC 9110 section 6.5).

use std::sync::Arc;

use http::HeaderMap;

use crate::{
    canonical::is_taken_away,
    check::Demand,
    client::AddressSource,
    options::{Options, headers::Message},
    spelling::remove_where,
};

/// What only a head says: how its content is to be read, and what a client is to keep.
const OF_HEADS: [&str; 4] = ["content-encoding", "content-range", "content-type", "set-cookie"];

/// What the trailers of one message lose. Holds nothing of a snapshot but options, and those only if
/// they take something away: a body may last for days.
#[derive(Clone, Debug)]
pub struct TrailerEdits {
    message: Message,
    options: Option<Arc<Options>>,
}

impl TrailerEdits {
    /// For a message of a route with these options.
    pub fn new(message: Message, options: Option<&Arc<Options>>) -> Self {
        let options = options.filter(|options| options.headers(message).takes_away()).cloned();
        Self { message, options }
    }

    /// Takes away whatever a head of the same message may not say or loses on its way, and what only
    /// heads say.
    ///
    /// Nobody is believed here, not even trusted proxies; and no name with `_` is left, since CGI takes
    /// it for another (RFC 3875 section 4.1.18). What some policy judges is taken from all routes.
    pub fn apply(&self, trailers: &mut HeaderMap, source: &AddressSource) {
        let messages = [Message::Request, Message::Response];
        remove_where(trailers, |name| {
            name.contains('_')
                || is_taken_away(name, source, false)
                || messages.iter().any(|message| message.keeps(name) || message.guards(name))
                || Demand::withholds_for_some(name)
                || OF_HEADS.contains(&name)
        });
        if let Some(options) = &self.options {
            options.headers(self.message).take_away(trailers);
        }
    }
}
