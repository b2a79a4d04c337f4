//! What is kept of an admitted request whose exchange goes on for long, to judge it again.

use std::{cell::RefCell, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderValue, header};

use crate::{
    canonical::{API_KEY, CanonicalRequest, Line},
    check::token::{Stop, bearer},
    claims::Claims,
    subscription::ApiKey,
    time::Timestamp,
    token::{Audiences, Provider},
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
    pub(crate) remembered: Option<Remembered>,
}

/// What is known of the credentials of a request that is judged again.
#[derive(Debug)]
pub struct Remembered {
    pub(crate) key: RememberedKey,
    /// The token, if one came.
    pub(crate) token: Option<RememberedToken>,
}

/// An API key that is gone.
#[derive(Debug)]
pub(crate) enum RememberedKey {
    /// None came.
    None,
    /// What came has another form.
    Unreadable,
    /// Its public id and its digest.
    Key(ApiKey<'static>),
}

/// A token that is gone, and what each provider that was asked found it to be.
#[derive(Debug)]
pub(crate) struct RememberedToken {
    found: Vec<(Identity, Found)>,
    /// When its request was admitted.
    pub(crate) at: Timestamp,
}

type Found = Result<Arc<Claims>, Stop>;

/// A provider by all that its findings depend on.
#[derive(Debug, PartialEq)]
struct Identity {
    issuer: Arc<str>,
    audiences: Audiences,
    skew: Duration,
    /// The generation of the keys and algorithms; none if they are lost.
    keys: Option<u64>,
}

impl Identity {
    fn of(provider: &Provider) -> Self {
        Self {
            issuer: Arc::clone(&provider.issuer),
            audiences: provider.audiences.clone(),
            skew: provider.skew,
            keys: provider.keys.as_ref().ok().map(|keys| keys.generation),
        }
    }
}

impl RememberedToken {
    /// What an equal provider found.
    pub(crate) fn found_by(&self, provider: &Provider) -> Option<&Found> {
        let identity = Identity::of(provider);
        self.found.iter().find(|(known, _)| *known == identity).map(|(_, found)| found)
    }

    /// The claims, if any provider could verify them.
    pub(crate) fn claims(&self) -> Option<&Claims> {
        self.found.iter().find_map(|(_, found)| found.as_deref().ok())
    }
}

/// Notes what tokens are found to be.
#[derive(Debug, Default)]
pub struct Recording(RefCell<Vec<(Identity, Found)>>);

impl Recording {
    pub(crate) fn note(&self, provider: &Provider, found: &Found) {
        // What was left out because it costs says nothing.
        if !matches!(found, Err(Stop::NotJudged)) {
            self.0.borrow_mut().push((Identity::of(provider), found.clone()));
        }
    }
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
        let (found, at) = (recording.0.into_inner(), self.since);
        // What is no bearer token is unmet whatever the provider.
        let token = matches!(bearer(headers), Ok(Some(_)));
        let token = token.then_some(RememberedToken { found, at });
        self.request.forget_headers();
        self.remembered = Some(Remembered { key, token });
    }
}

impl std::fmt::Debug for Standing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Standing").field("since", &self.since).finish_non_exhaustive()
    }
}
