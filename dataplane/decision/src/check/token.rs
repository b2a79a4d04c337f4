//! `jwt`: a token of a provider is valid and says what is asked.

mod content;
mod registered;

use std::sync::Arc;

use http::{HeaderMap, header};

use super::{Evidence, Facts, Outcome, unavailable};
use crate::{
    claims::{Claims, Json},
    denial::DenialReason,
    remembered::{RememberedToken, Stop},
    token::{
        Algorithm, KeySet, Provider, TOKEN_LIMIT, VerificationKey, algorithm, algorithm_name,
        compact::Unverified,
    },
};

/// `jwt` of a rule.
#[derive(Debug)]
pub struct TokenCheck {
    /// Who issues the token.
    pub provider: Arc<Provider>,
    /// Scopes that must all be there.
    pub scopes_all: Box<[Arc<str>]>,
    /// Scopes of which one must be there; empty asks for none.
    pub scopes_any: Box<[Arc<str>]>,
    /// What claims must say.
    pub claims: Box<[ClaimDemand]>,
}

/// An entry of `claims`.
#[derive(Clone, Debug, PartialEq)]
pub struct ClaimDemand {
    /// The names from the payload down to the claim, as written: `realm_access.roles`. What counts
    /// where names hold dots themselves is said at [`Claims::find`].
    pub path: Arc<str>,
    /// What it must be.
    pub test: ClaimTest,
}

/// What a claim must be.
#[derive(Clone, Debug, PartialEq)]
pub enum ClaimTest {
    /// Exactly this scalar: a text, a number, `true` or `false`.
    Equals(Json),
    /// A list that holds this text, or this very text.
    Contains(Arc<str>),
    /// One of these texts.
    OneOf(Box<[Arc<str>]>),
}

impl TokenCheck {
    pub(super) fn judge(&self, facts: Facts<'_>) -> Outcome {
        match self.try_judge(facts) {
            Ok(()) => Outcome::Met(Evidence::Token),
            Err(Stop::Unmet(reason)) => Outcome::Unmet(Box::new(reason)),
            Err(Stop::Unknown(reason)) => Outcome::Unknown(Box::new(reason)),
            Err(Stop::NotJudged) => Outcome::NotJudged,
        }
    }

    fn try_judge(&self, facts: Facts<'_>) -> Result<(), Stop> {
        let claims = self.claims(facts)?;
        Ok(content::judge(&claims, self)?)
    }

    /// The claims of a token that was verified, and is good for this provider now.
    fn claims(&self, facts: Facts<'_>) -> Result<Arc<Claims>, Stop> {
        let provider = &*self.provider;
        let missing =
            || DenialReason::TokenMissing { provider: Arc::clone(&provider.name), or_key: false };
        if let Some(remembered) = facts.remembered {
            let token = remembered.token.as_ref().ok_or_else(missing)?;
            return claims_again(token, provider);
        }
        let token = bearer(facts.request.headers())?.ok_or_else(missing)?;
        let claims = verified(token, provider, facts);
        if let Some(recording) = facts.recording {
            recording.note(provider, &claims);
        }
        claims
    }
}

/// What a token that is gone was found to be when its request began. Its time is that of then: an
/// exchange may outlive its token.
fn claims_again(token: &RememberedToken, provider: &Provider) -> Result<Arc<Claims>, Stop> {
    if let Some(found) = token.found_by(provider) {
        return found.clone();
    }
    // One token has the same claims whoever verified it.
    if let Some(claims) = token.claims() {
        registered::judge(claims, provider, token.at)?;
    }
    let keys = provider
        .keys
        .as_ref()
        .map_err(|(resource, lack)| Stop::Unknown(unavailable(resource, lack)))?;
    Err(Stop::Unknown(DenialReason::TokenKeyUnknown { key_id: None, keys: keys.keys.len() }))
}

fn verified(token: &str, provider: &Provider, facts: Facts<'_>) -> Result<Arc<Claims>, Stop> {
    if let Ok(keys) = &provider.keys
        && token.len() <= TOKEN_LIMIT
        && let Some(claims) = facts.tokens.get(keys.generation, token)
    {
        // Only the signature is remembered: everything else is judged at every request.
        registered::judge(&claims, provider, facts.now)?;
        return Ok(claims);
    }
    verify(token, provider, facts)
}

/// The token of a request; none if there is no `authorization`, or one of another scheme.
///
/// There is at most one `authorization`: a second one is refused when the request is read.
pub(crate) fn bearer(headers: &HeaderMap) -> Result<Option<&str>, DenialReason> {
    let Some(value) = headers.get(header::AUTHORIZATION) else { return Ok(None) };
    let value = value.as_bytes();
    let end = value.iter().position(|byte| *byte == b' ').unwrap_or(value.len());
    let (scheme, token) = value.split_at(end);
    let token = token.trim_ascii();
    if !scheme.eq_ignore_ascii_case(b"bearer") || token.is_empty() {
        return Ok(None);
    }
    let token = std::str::from_utf8(token);
    token.map(Some).map_err(|_| malformed("it has bytes above ASCII"))
}

/// Verifies a token that nobody remembers: what costs nothing first, the signature last.
fn verify(token: &str, provider: &Provider, facts: Facts<'_>) -> Result<Arc<Claims>, Stop> {
    let unverified = Unverified::read(token).map_err(malformed)?;
    let algorithm = accepted(&unverified.algorithm, provider)?;
    registered::judge(&unverified.claims, provider, facts.now)?;
    let keys = provider
        .keys
        .as_ref()
        .map_err(|(resource, lack)| Stop::Unknown(unavailable(resource, lack)))?;
    let key_id = || unverified.key_id.as_deref().map(shortened);
    let key = select(keys, unverified.key_id.as_deref(), algorithm)
        .ok_or_else(|| DenialReason::TokenKeyUnknown { key_id: key_id(), keys: keys.keys.len() })?;
    if facts.refused {
        return Err(Stop::NotJudged);
    }
    if !unverified.is_signed_by(key, algorithm) {
        let issuer = Arc::clone(&provider.issuer);
        return Err(DenialReason::TokenSignatureInvalid { key_id: key_id(), issuer }.into());
    }
    let claims = Arc::new(unverified.claims);
    facts.tokens.insert(keys.generation, token, &claims);
    Ok(claims)
}

/// The algorithm that the token names, if the provider accepts it. `none` and HMAC have no name here.
fn accepted(name: &str, provider: &Provider) -> Result<Algorithm, DenialReason> {
    let accepted = algorithm(name).filter(|algorithm| provider.algorithms.contains(algorithm));
    accepted.ok_or_else(|| {
        let allowed: Vec<_> = provider.algorithms.iter().copied().map(algorithm_name).collect();
        let (algorithm, allowed) = (shortened(name), allowed.join(", ").into());
        DenialReason::TokenAlgorithmNotAllowed { algorithm, allowed }
    })
}

/// The key that the token names; if it names none, the one key that fits the algorithm.
fn select<'a>(
    keys: &'a KeySet,
    key_id: Option<&str>,
    algorithm: Algorithm,
) -> Option<&'a VerificationKey> {
    let mut fitting = keys.keys.iter().filter(|key| {
        key.algorithms.contains(&algorithm)
            && key_id.is_none_or(|key_id| key.id.as_deref() == Some(key_id))
    });
    let key = fitting.next();
    key.filter(|_| key_id.is_some() || fitting.next().is_none())
}

fn malformed(problem: &'static str) -> DenialReason {
    DenialReason::TokenMalformed { problem }
}

/// A text that a stranger wrote, cut to what a refusal may hold.
fn shortened(text: &str) -> Box<str> {
    text.chars().take(128).collect::<String>().into()
}
