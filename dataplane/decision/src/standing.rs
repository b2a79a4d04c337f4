//! What is kept of an admitted request whose exchange goes on for long, to judge it again.

use http::{HeaderMap, HeaderValue, header};

use crate::{
    canonical::{API_KEY, CanonicalRequest, Line},
    check::token::bearer,
    remembered::{Recording, Remembered, RememberedKey, RememberedToken},
    subscription::ApiKey,
    time::Timestamp,
};

/// An admitted request, without its headers.
///
/// Holds nothing of the snapshot that admitted it. Its credentials are references to what was sent
/// until it is judged again for the first time; from then on only their results are left: the
/// digest of a key, the claims of a token.
pub struct Standing {
    pub(crate) request: CanonicalRequest,
    pub(crate) since: Timestamp,
    key: Option<HeaderValue>,
    token: Option<HeaderValue>,
    /// Boxed: few requests last long enough.
    pub(crate) remembered: Option<Box<Remembered>>,
}

impl Standing {
    /// Gives up a request that was admitted at `since` for forwarding, and keeps what judging it
    /// again takes.
    pub fn split(mut request: CanonicalRequest, since: Timestamp) -> (Self, HeaderMap) {
        let key = request.api_key();
        let token = request.headers().get(header::AUTHORIZATION).cloned();
        let (line, headers) = request.into_parts();
        let request = CanonicalRequest::bare(line);
        (Self { request, since, key, token, remembered: None }, headers)
    }

    /// Method, host, target, client.
    pub fn line(&self) -> &Line {
        self.request.line()
    }

    /// Puts the credentials where checks look for them, unless their results are known already.
    pub(crate) fn present(&mut self) {
        let credentials = [(API_KEY, self.key.take()), (header::AUTHORIZATION, self.token.take())];
        for (name, credential) in credentials {
            if let Some(credential) = credential {
                self.request.present(name, credential);
            }
        }
    }

    /// Keeps what judging found out about the credentials, and lets go of them.
    pub(crate) fn remember(&mut self, recording: Recording) {
        if self.remembered.is_some() {
            return;
        }
        let headers = self.request.headers();
        let key = match headers.get(&API_KEY) {
            None => RememberedKey::None,
            Some(key) => ApiKey::parse(key.as_bytes())
                .map_or(RememberedKey::Unreadable, |key| RememberedKey::Key(key.into_owned())),
        };
        let (found, at) = (recording.into_findings(), self.since);
        // What is no bearer token is unmet whatever the provider.
        let token = matches!(bearer(headers), Ok(Some(_)));
        let token = token.then_some(RememberedToken::new(found, at));
        self.request.forget_headers();
        self.remembered = Some(Box::new(Remembered { key, token }));
    }
}

impl std::fmt::Debug for Standing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Standing").field("since", &self.since).finish_non_exhaustive()
    }
}
