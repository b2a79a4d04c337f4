//! What protects one route: its policies, in the order in which their rules are judged.

use std::sync::Arc;

use http::HeaderName;

use crate::{
    denial::DenialReason,
    disclosure::{Disclosure, OnDeny},
    lack::Lack,
    policy::{Attachment, Policy, Refusal, Rule, Section},
    refs::{FieldRef, ResourceRef},
    uncovered::{OpenBy, Uncovered},
};

/// How a route answers. There is no route without one.
#[derive(Clone, Debug)]
pub enum Posture {
    /// Its policies decide.
    ///
    /// Shared by all routes of an Ingress: there may be thousands, with the same long lists.
    Enforce(Arc<Protection>),
    /// It has no policy and the installation says that such routes are open.
    Open(OpenBy),
    /// Something that it needs is not resolved: every request is refused.
    Refuse(Arc<Refusal>),
}

impl Posture {
    /// Every request is refused for `reason`. The client is told no more than the strictest of the
    /// policies allows, and never more than by default.
    pub fn refusing<'a>(
        reason: DenialReason,
        attachments: impl IntoIterator<Item = &'a Attachment>,
    ) -> Self {
        let told = attachments.into_iter().map(|attachment| attachment.on_deny().disclosure).min();
        Self::Refuse(refusal(reason, told.unwrap_or_default()))
    }

    /// The same with the policies that this posture was made of.
    #[must_use]
    pub fn closed(&self, reason: DenialReason) -> Self {
        match self {
            Self::Enforce(protection) => Self::refusing(reason, protection.attachments()),
            Self::Open(_) => Self::refusing(reason, &[]),
            Self::Refuse(before) => Self::Refuse(refusal(reason, before.on_deny.disclosure)),
        }
    }
}

fn refusal(reason: DenialReason, told: Disclosure) -> Arc<Refusal> {
    let disclosure = told.min(Disclosure::default());
    Arc::new(Refusal { reason, on_deny: OnDeny { disclosure, hint: None } })
}

/// `whygate.dev/require-policy`: a policy that must cover each request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Required {
    /// The policy.
    pub policy: ResourceRef,
    /// The annotation that demands it.
    pub field: FieldRef,
    /// What keeps it from covering anything, if that is known: it does not exist, is not accepted.
    pub lack: Arc<Lack>,
}

impl Required {
    pub(crate) fn refusal(&self) -> Refusal {
        let Self { policy, field, lack } = self.clone();
        DenialReason::PolicyMissing { policy, field, lack }.into()
    }
}

/// Policies of a route, demanded policies, and what happens where none covers.
#[derive(Clone, Debug)]
pub struct Protection {
    attachments: Box<[Attachment]>,
    required: Box<[Required]>,
    uncovered: Uncovered,
    withheld: Box<[HeaderName]>,
    sequence: Box<[Place]>,
}

/// One rule in the order of judging.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    class: Class,
    attachment: usize,
    section: Section,
    rule: usize,
}

/// What is judged when: cheap refusals come before those that need a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    DenyByAddress,
    DenyWithoutCredential,
    RequireWithoutCredential,
    DenyByCredential,
    RequireCredential,
}

/// A rule about to be judged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Judged<'a> {
    pub(crate) policy: &'a Policy,
    pub(crate) section: Section,
    pub(crate) rule: &'a Rule,
}

impl Protection {
    /// Puts the rules of all policies into the order of judging: by class, then by the policies'
    /// namespace and name, then by the rules' names. The order of `attachments` has no effect.
    pub fn new(
        mut attachments: Vec<Attachment>,
        required: Vec<Required>,
        uncovered: Uncovered,
    ) -> Self {
        attachments.sort_by_cached_key(rank);
        let mut sequence = Vec::new();
        for (index, attachment) in attachments.iter().enumerate() {
            add_places(index, attachment, &mut sequence);
        }
        // Stable: the rules of one list stay in the order of their names.
        sequence.sort_by_key(|place| (place.class, place.attachment, place.section));
        let policies = attachments.iter().filter_map(|attachment| attachment.policy.as_ref().ok());
        let rules = policies.flat_map(|policy| policy.deny.iter().chain(&policy.require));
        let mut withheld: Vec<HeaderName> = rules
            .flat_map(Rule::checks)
            .flat_map(|check| check.demand.withholds())
            .cloned()
            .collect();
        withheld.sort_by(|one, two| one.as_str().cmp(two.as_str()));
        withheld.dedup();
        let (attachments, required) = (attachments.into(), required.into());
        let (withheld, sequence) = (withheld.into(), sequence.into());
        Self { attachments, required, uncovered, withheld, sequence }
    }

    /// The policies.
    pub fn attachments(&self) -> &[Attachment] {
        &self.attachments
    }

    /// The policies that must cover each request.
    pub fn required(&self) -> &[Required] {
        &self.required
    }

    /// What happens with a request that no policy with an enforced `require` rule covers.
    pub fn uncovered(&self) -> &Uncovered {
        &self.uncovered
    }

    /// Whether any request can be refused because of it; otherwise its policies only count.
    pub fn blocks(&self) -> bool {
        let closed = matches!(self.uncovered, Uncovered::Closed(_)) || !self.required.is_empty();
        let enforces = |attachment: &Attachment| match &attachment.policy {
            Ok(policy) => policy.enforces(&[Section::Deny, Section::Require]),
            Err(_) => true,
        };
        closed || self.attachments.iter().any(enforces)
    }

    /// Headers that no upstream of this route may see, because some rule judges what they say.
    pub(crate) fn withheld(&self) -> &[HeaderName] {
        &self.withheld
    }

    /// The rules of some of the policies, in the order of judging: of those that are `true` at their
    /// place among the attachments.
    pub(crate) fn sequence(&self, matching: &[bool]) -> impl Iterator<Item = Judged<'_>> {
        let matches = |place: &&Place| matching.get(place.attachment) == Some(&true);
        self.sequence.iter().filter(matches).filter_map(|place| {
            let attachment = self.attachments.get(place.attachment)?;
            let policy = attachment.policy.as_ref().ok()?;
            let rule = policy.rules(place.section).get(place.rule)?;
            Some(Judged { policy, section: place.section, rule })
        })
    }
}

/// Policies by namespace and name, behind the refusals: of several the same one always speaks.
fn rank(attachment: &Attachment) -> (Option<ResourceRef>, Option<String>) {
    match &attachment.policy {
        Ok(policy) => (Some(policy.resource.clone()), None),
        Err(refusal) => (None, Some(format!("{refusal:?}"))),
    }
}

/// Adds the rules of a policy, those of each list in the order of their names.
fn add_places(attachment: usize, attached: &Attachment, sequence: &mut Vec<Place>) {
    let Ok(policy) = &attached.policy else { return };
    for section in [Section::Deny, Section::Require] {
        let mut rules: Vec<_> = policy.rules(section).iter().enumerate().collect();
        rules.sort_by(|one, two| one.1.name.cmp(&two.1.name));
        sequence.extend(rules.into_iter().map(|(rule, judged)| {
            let class = class(section, judged);
            Place { class, attachment, section, rule }
        }));
    }
}

fn class(section: Section, rule: &Rule) -> Class {
    match section {
        Section::Deny if rule.is_by_address() => Class::DenyByAddress,
        Section::Deny if rule.needs_credential() => Class::DenyByCredential,
        Section::Deny => Class::DenyWithoutCredential,
        Section::Require if rule.needs_credential() => Class::RequireCredential,
        Section::Require => Class::RequireWithoutCredential,
    }
}
