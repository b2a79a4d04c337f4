//! What the options of a route add to every answer to its requests, refusals among them.

use std::sync::Arc;

use decision::{canonical::Scheme, decide::Decision, options::Options};
use http::{HeaderMap, HeaderValue, header};

/// How a request is answered.
pub(crate) struct Manner {
    options: Arc<Options>,
    /// The origin whose pages may read the answer, as the request names it.
    origin: Option<HeaderValue>,
}

impl Manner {
    /// The manner of a request's route, if its options speak of answers at all.
    pub(crate) fn of(decision: &Decision) -> Option<Self> {
        let options = decision.options()?;
        if options.hsts.is_none() && options.cors.is_none() {
            return None;
        }
        let origin = options.cors.as_ref();
        let origin = origin.and_then(|cors| cors.allowed(decision.request().headers()));
        Some(Self { options: Arc::clone(options), origin })
    }

    /// Writes it into an answer, ours or the upstream's.
    pub(crate) fn finish(&self, scheme: Scheme, headers: &mut HeaderMap) {
        // In plain text anybody on the way could have written it (RFC 6797 section 7.2).
        if let Some(hsts) = self.options.hsts.as_ref().filter(|_| scheme == Scheme::Https) {
            headers.insert(header::STRICT_TRANSPORT_SECURITY, hsts.clone());
        }
        if let Some(cors) = &self.options.cors {
            cors.tell(self.origin.as_ref(), headers);
        }
    }
}
