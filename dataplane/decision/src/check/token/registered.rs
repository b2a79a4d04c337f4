//! The registered claims (RFC 7519 section 4.1): issuer, audience, expiry. Judged at every request.

use std::sync::Arc;

use super::{malformed, shortened};
use crate::{
    claims::{Claims, Json},
    denial::DenialReason,
    time::Timestamp,
    token::{Audiences, Provider},
};

/// Whether a token is of this provider, for us, and valid now. A claim of the wrong type makes the
/// token malformed, and so does a token that never expires.
pub(super) fn judge(
    claims: &Claims,
    provider: &Provider,
    now: Timestamp,
) -> Result<(), DenialReason> {
    judge_issuer(claims, provider)?;
    judge_audience(claims, provider)?;
    judge_time(claims, provider, now)
}

fn judge_issuer(claims: &Claims, provider: &Provider) -> Result<(), DenialReason> {
    let issuer = claims.payload.get("iss");
    let got = issuer.map(|issuer| issuer.as_str().ok_or_else(|| malformed("iss is not a text")));
    let got = got.transpose()?;
    if got == Some(&*provider.issuer) {
        return Ok(());
    }
    let (expected, got) = (Arc::clone(&provider.issuer), got.map(shortened));
    Err(DenialReason::TokenIssuerMismatch { expected, got })
}

fn judge_audience(claims: &Claims, provider: &Provider) -> Result<(), DenialReason> {
    let audience = claims.payload.get("aud");
    let wrong = || malformed("aud is neither a text nor a list of texts");
    let accepted = match &provider.audiences {
        Audiences::Any if audience.is_none_or(|audience| audience.texts().is_some()) => {
            return Ok(());
        }
        Audiences::Any => return Err(wrong()),
        Audiences::OneOf(accepted) => accepted,
    };
    let got = audience.map_or(Some(Vec::new()), Json::texts).ok_or_else(wrong)?;
    if got.iter().any(|got| accepted.iter().any(|accepted| **accepted == **got)) {
        return Ok(());
    }
    let (expected, got) = (accepted.join(", ").into(), shortened(&got.join(", ")));
    Err(DenialReason::TokenAudienceMismatch { expected, got })
}

fn judge_time(claims: &Claims, provider: &Provider, now: Timestamp) -> Result<(), DenialReason> {
    let skew = provider.skew;
    let expiry = claims.payload.get("exp").ok_or_else(|| malformed("no exp claim"))?;
    let expiry = expiry.as_timestamp().ok_or_else(|| malformed("exp is not a time"))?;
    if expiry.plus(skew) <= now {
        return Err(DenialReason::TokenExpired { ago: expiry.until(now), skew });
    }
    let Some(start) = claims.payload.get("nbf") else { return Ok(()) };
    let start = start.as_timestamp().ok_or_else(|| malformed("nbf is not a time"))?;
    if now.plus(skew) < start {
        return Err(DenialReason::TokenNotYetValid { ahead: now.until(start), skew });
    }
    Ok(())
}
