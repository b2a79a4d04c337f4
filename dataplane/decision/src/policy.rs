//! What a policy is: named rules of checks, how it narrows to requests, and what it discloses.

use std::sync::Arc;

use crate::{
    canonical::CanonicalRequest,
    check::Check,
    denial::DenialReason,
    disclosure::OnDeny,
    host::HostPattern,
    path::is_within,
    refs::{ResourceRef, Site},
};

/// One `AccessPolicy`, compiled.
#[derive(Debug)]
pub struct Policy {
    /// Which object it is.
    pub resource: ResourceRef,
    /// Every rule of `deny`, in the order of the manifest.
    pub deny: Box<[Rule]>,
    /// Every rule of `require`, in the order of the manifest.
    pub require: Box<[Rule]>,
    /// What a refused client is told.
    pub on_deny: OnDeny,
}

/// Whether a rule blocks or only counts what it would have blocked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Enforcement {
    /// It blocks.
    Enforce,
    /// It counts and never blocks.
    Shadow,
}

/// The list of a policy that a rule stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Section {
    /// A match refuses.
    Deny,
    /// It must be met.
    Require,
}

/// A named entry of `deny` or `require`.
#[derive(Debug)]
pub struct Rule {
    /// Unique in its policy; the name is the explanation.
    pub name: Arc<str>,
    /// Its own, or the policy's.
    pub enforcement: Enforcement,
    /// The entries of `anyOf`, or the one conjunction of a rule without it. Never empty.
    pub alternatives: Box<[Alternative]>,
    /// The rule's own hint, which goes before the policy's.
    pub hint: Option<Arc<str>>,
}

/// Checks that must all hold. Never empty; those that cost least come first.
#[derive(Debug)]
pub struct Alternative {
    /// Where it stands: `spec.require[1].anyOf[0]`, or the rule itself.
    pub site: Arc<Site>,
    checks: Box<[Check]>,
}

impl Alternative {
    /// A conjunction; the checks are put into the order of judging.
    pub fn new(site: Arc<Site>, mut checks: Vec<Check>) -> Self {
        checks.sort_by_key(|check| check.demand.rank());
        Self { site, checks: checks.into() }
    }

    /// The checks in the order of judging.
    pub fn checks(&self) -> &[Check] {
        &self.checks
    }
}

impl Policy {
    /// Whether some rule of one of these lists blocks.
    pub(crate) fn enforces(&self, sections: &[Section]) -> bool {
        let blocks = |rule: &Rule| rule.enforcement == Enforcement::Enforce;
        sections.iter().any(|section| self.rules(*section).iter().any(blocks))
    }

    /// The rules of one list.
    pub fn rules(&self, section: Section) -> &[Rule] {
        match section {
            Section::Deny => &self.deny,
            Section::Require => &self.require,
        }
    }
}

impl Rule {
    /// Whether some check of the rule looks at a credential.
    pub fn needs_credential(&self) -> bool {
        self.checks().any(|check| check.demand.needs_credential())
    }

    /// Whether the rule looks at nothing but the client's address.
    pub fn is_by_address(&self) -> bool {
        self.checks().all(|check| check.demand.is_address())
    }

    /// Every check of every alternative.
    pub fn checks(&self) -> impl Iterator<Item = &Check> {
        self.alternatives.iter().flat_map(|alternative| alternative.checks().iter())
    }
}

/// `hosts` and `paths` of a target reference: which requests of the Ingress a policy speaks of.
/// Empty lists, the default, mean all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Narrowing {
    /// The request's host must match one of these.
    pub hosts: Box<[HostPattern]>,
    /// The request's path must lie within one of these, element by element.
    pub paths: Box<[Arc<str>]>,
}

impl Narrowing {
    /// Whether the policy speaks of this request.
    pub fn matches(&self, request: &CanonicalRequest) -> bool {
        let host = &request.line().host;
        let path = request.path();
        (self.hosts.is_empty() || self.hosts.iter().any(|pattern| pattern.matches(host)))
            && (self.paths.is_empty() || self.paths.iter().any(|prefix| is_within(path, prefix)))
    }
}

/// A policy as it applies to one route.
#[derive(Clone, Debug)]
pub struct Attachment {
    /// Which requests of the route; one entry of `targetRefs` each, any of which suffices.
    pub narrowings: Box<[Narrowing]>,
    /// The policy, or why its requests are refused.
    pub policy: Result<Arc<Policy>, Arc<Refusal>>,
}

impl Attachment {
    /// What refused clients are told.
    pub fn on_deny(&self) -> &OnDeny {
        match &self.policy {
            Ok(policy) => &policy.on_deny,
            Err(refusal) => &refusal.on_deny,
        }
    }

    /// Whether the policy speaks of this request.
    pub fn matches(&self, request: &CanonicalRequest) -> bool {
        self.narrowings.is_empty()
            || self.narrowings.iter().any(|narrowing| narrowing.matches(request))
    }
}

/// Why requests are refused before anything else about them is judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Always a reason that is our fault: invalid, missing, unenforceable.
    pub reason: DenialReason,
    /// What the refused client is told.
    pub on_deny: OnDeny,
}

impl From<DenialReason> for Refusal {
    fn from(reason: DenialReason) -> Self {
        Self { reason, on_deny: OnDeny::default() }
    }
}
