//! What the options of a route add to every answer to its requests, refusals among them.

use std::sync::Arc;

use decision::{canonical::Scheme, decide::Decision, options::Options};
use http::{HeaderMap, header};

/// How a request is answered.
pub(crate) struct Manner {
    options: Arc<Options>,
}

impl Manner {
    /// The manner of a request's route, if its options speak of answers at all.
    pub(crate) fn of(decision: &Decision) -> Option<Self> {
        let options = decision.options()?;
        options.hsts.is_some().then(|| Self { options: Arc::clone(options) })
    }

    /// Writes it into an answer, ours or the upstream's.
    pub(crate) fn finish(&self, scheme: Scheme, headers: &mut HeaderMap) {
        // In plain text anybody on the way could have written it (RFC 6797 section 7.2).
        if let Some(hsts) = self.options.hsts.as_ref().filter(|_| scheme == Scheme::Https) {
            headers.insert(header::STRICT_TRANSPORT_SECURITY, hsts.clone());
        }
    }
}
