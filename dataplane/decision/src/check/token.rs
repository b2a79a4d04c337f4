//! `jwt`: a token of a provider is valid and says what is asked.

use std::sync::Arc;

use super::{Facts, Outcome};
use crate::{claims::Json, denial::DenialReason, token::Provider};

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
    /// The names from the payload down to the claim, as written: `realm_access.roles`.
    pub path: Arc<str>,
    /// What it must be.
    pub test: ClaimTest,
}

/// What a claim must be.
#[derive(Clone, Debug, PartialEq)]
pub enum ClaimTest {
    /// Exactly this scalar: a text, a number, `true` or `false`.
    Equals(Json),
    /// A list that holds this text, or a text of words separated by spaces of which this is one.
    Contains(Arc<str>),
    /// One of these texts.
    OneOf(Box<[Arc<str>]>),
}

impl TokenCheck {
    pub(super) fn judge(&self, _facts: Facts<'_>) -> Outcome {
        Outcome::Unmet(Box::new(DenialReason::TokenMissing {
            provider: Arc::clone(&self.provider.name),
        }))
    }
}
