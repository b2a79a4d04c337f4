//! What a rule asks of a verified token: scopes, then claims.

use super::{ClaimDemand, ClaimTest, TokenCheck, malformed, shortened};
use crate::{
    claims::{Claims, Json},
    denial::DenialReason,
};

/// Whether the token has the scopes and the claims that the rule asks for.
pub(super) fn judge(claims: &Claims, check: &TokenCheck) -> Result<(), DenialReason> {
    judge_scopes(claims, check)?;
    check
        .claims
        .iter()
        .enumerate()
        .try_for_each(|(entry, demand)| judge_claim(claims, demand, entry))
}

fn judge_scopes(claims: &Claims, check: &TokenCheck) -> Result<(), DenialReason> {
    if check.scopes_all.is_empty() && check.scopes_any.is_empty() {
        return Ok(());
    }
    let had = scopes(claims)?;
    let has = |scope: &str| had.contains(&scope);
    let lacking: Vec<_> =
        check.scopes_all.iter().map(|scope| &**scope).filter(|scope| !has(scope)).collect();
    let asked = if !lacking.is_empty() {
        lacking.join(", ")
    } else if check.scopes_any.is_empty() || check.scopes_any.iter().any(|scope| has(scope)) {
        return Ok(());
    } else {
        format!("one of {}", check.scopes_any.join(", "))
    };
    Err(DenialReason::TokenScopeMissing { asked: asked.into(), had: shortened(&had.join(" ")) })
}

/// `scope`, words separated by spaces (RFC 8693 section 4.2), or else `scp`, a list or such words.
fn scopes(claims: &Claims) -> Result<Vec<&str>, DenialReason> {
    if let Some(scope) = claims.payload.get("scope") {
        let scope = scope.as_str().ok_or_else(|| malformed("scope is not a text"))?;
        return Ok(scope.split(' ').filter(|word| !word.is_empty()).collect());
    }
    let Some(scp) = claims.payload.get("scp") else { return Ok(Vec::new()) };
    if let Some(words) = scp.as_str() {
        return Ok(words.split(' ').filter(|word| !word.is_empty()).collect());
    }
    scp.texts().ok_or_else(|| malformed("scp is neither a text nor a list of texts"))
}

fn judge_claim(claims: &Claims, demand: &ClaimDemand, entry: usize) -> Result<(), DenialReason> {
    let found = match claims.find(&demand.path) {
        None => "absent",
        Some(claim) => match test(claim, &demand.test) {
            Tested::Passed => return Ok(()),
            Tested::OtherType => "of another type",
            Tested::OtherValue => "of another value",
        },
    };
    let (path, asked) = (demand.path.clone(), asked(&demand.test).into());
    Err(DenialReason::TokenClaimMismatch { path, asked, found, entry })
}

enum Tested {
    Passed,
    OtherType,
    OtherValue,
}

/// No claim is converted to another type: `"1"` is not `1`, and `1.0` is not `1`.
fn test(claim: &Json, test: &ClaimTest) -> Tested {
    let found = match (test, claim) {
        (ClaimTest::Equals(wanted), claim) => {
            if std::mem::discriminant(wanted) != std::mem::discriminant(claim) {
                return Tested::OtherType;
            }
            wanted == claim
        }
        (ClaimTest::Contains(wanted), Json::Array(elements)) => {
            elements.iter().any(|element| element.as_str() == Some(wanted))
        }
        (ClaimTest::Contains(wanted), Json::String(found)) => **wanted == **found,
        (ClaimTest::OneOf(wanted), Json::String(found)) => {
            wanted.iter().any(|wanted| **wanted == **found)
        }
        (ClaimTest::Contains(_) | ClaimTest::OneOf(_), _) => return Tested::OtherType,
    };
    if found { Tested::Passed } else { Tested::OtherValue }
}

fn asked(test: &ClaimTest) -> String {
    match test {
        ClaimTest::Equals(wanted) => format!("equal to {}", scalar(wanted)),
        ClaimTest::Contains(wanted) => format!("a list with {wanted}, or {wanted} itself"),
        ClaimTest::OneOf(wanted) => format!("one of {}", wanted.join(", ")),
    }
}

fn scalar(wanted: &Json) -> String {
    match wanted {
        Json::Null => "null".into(),
        Json::Bool(value) => value.to_string(),
        Json::Number(number) => number.to_string(),
        Json::String(text) => text.to_string(),
        Json::Array(_) | Json::Object(_) => "a scalar".into(),
    }
}
