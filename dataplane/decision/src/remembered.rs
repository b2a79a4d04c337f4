//! What is known of credentials that are gone: judging again needs no more than that.

use std::{cell::RefCell, sync::Arc, time::Duration};

use crate::{
    claims::Claims,
    denial::DenialReason,
    subscription::ApiKey,
    time::Timestamp,
    token::{Audiences, Provider},
};

/// How judging ended before the token was found to be good.
#[derive(Clone, Debug)]
pub(crate) enum Stop {
    Unmet(DenialReason),
    Unknown(DenialReason),
    NotJudged,
}

impl From<DenialReason> for Stop {
    fn from(reason: DenialReason) -> Self {
        Self::Unmet(reason)
    }
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
    pub(crate) fn new(findings: Findings, at: Timestamp) -> Self {
        Self { found: findings.0, at }
    }

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

/// What providers found one token to be.
pub(crate) struct Findings(Vec<(Identity, Found)>);

impl Recording {
    pub(crate) fn into_findings(self) -> Findings {
        Findings(self.0.into_inner())
    }

    pub(crate) fn note(&self, provider: &Provider, found: &Found) {
        // What was left out because it costs says nothing.
        if !matches!(found, Err(Stop::NotJudged)) {
            self.0.borrow_mut().push((Identity::of(provider), found.clone()));
        }
    }
}
