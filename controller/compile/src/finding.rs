//! Problems in manifests: which field, what is wrong, what to do, and what it costs until then.

use std::{
    collections::HashSet,
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use decision::{
    escape::printable,
    refs::{FieldRef, ResourceRef},
};

use crate::map::{Map, Set};

/// A problem in one field of one object.
///
/// Prints as `AccessPolicy shop/office at spec.require[0].ip.cidrs[3]: …`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Finding {
    /// Where.
    pub field: FieldRef,
    /// What kind of problem; the `reason` of an Event.
    pub reason: Reason,
    /// What is wrong: lower case, without a final period.
    pub message: String,
    /// What to do about it; may be pasted.
    pub remedy: String,
    /// What it costs until then.
    pub effect: Effect,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} {}", self.field, sentence(&self.message), self.remedy)
    }
}

/// What a problem costs, the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Effect {
    /// Requests are refused that would have been judged otherwise.
    Closes,
    /// The part of the manifest has no effect; nothing is opened by that.
    Rejects,
    /// Nothing changes, but it is probably not what was meant.
    Warns,
}

/// The kind of a problem, in the spelling of Events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// A policy cannot be enforced as written.
    PolicyInvalid,
    /// A policy that a route requires is missing, not accepted, or not for this route.
    PolicyMissing,
    /// A protection cannot be enforced: an annotation of another controller or of a misspelt name,
    /// or a kind that may not be read.
    PolicyUnenforceable,
    /// A policy names an Ingress that does not exist or is not ours.
    TargetNotFound,
    /// A rule, path or annotation of an Ingress is invalid.
    RouteInvalid,
    /// The host belongs to another namespace, or an older Ingress has the same host and path.
    HostConflict,
    /// There is no Service or port to forward to.
    BackendMissing,
    /// A certificate is missing or cannot be used.
    CertificateInvalid,
    /// A plan is invalid, or a policy names one that does not exist.
    PlanInvalid,
    /// A subscription opens nothing.
    SubscriptionInvalid,
    /// A Secret that a policy names is missing or cannot be used.
    SecretMissing,
    /// A protected backend can be reached in another way, or a rule can be evaded.
    PolicyBypassed,
    /// The class that is to be ours names another controller.
    ClassConflict,
    /// What was enforced while the program ran is not enforced any more.
    PolicyWithdrawn,
    /// A posture annotation is not understood.
    PostureInvalid,
}

impl Reason {
    /// The one spelling.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PolicyInvalid => "PolicyInvalid",
            Self::PolicyMissing => "PolicyMissing",
            Self::PolicyUnenforceable => "PolicyUnenforceable",
            Self::TargetNotFound => "TargetNotFound",
            Self::RouteInvalid => "RouteInvalid",
            Self::HostConflict => "HostConflict",
            Self::BackendMissing => "BackendMissing",
            Self::CertificateInvalid => "CertificateInvalid",
            Self::PlanInvalid => "PlanInvalid",
            Self::SubscriptionInvalid => "SubscriptionInvalid",
            Self::SecretMissing => "SecretMissing",
            Self::PolicyBypassed => "PolicyBypassed",
            Self::ClassConflict => "ClassConflict",
            Self::PolicyWithdrawn => "PolicyWithdrawn",
            Self::PostureInvalid => "PostureInvalid",
        }
    }
}

/// How many findings an object has of its own; one more says how many are left out. An object of a
/// few hundred kilobytes could have tens of thousands, and each becomes an Event and a line.
const TOLD: usize = 20;

/// Collects findings while compiling.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    objects: Map<ResourceRef, Told>,
    muted: Set<ResourceRef>,
}

/// What is told of one object.
#[derive(Debug, Default)]
struct Told {
    /// The worst of it, then in the order of fields, each once; at most [`TOLD`].
    worst: Vec<(Effect, Finding)>,
    /// Digests of the others: the same problem may be found twice.
    others: HashSet<u64>,
    /// What the worst of the others costs.
    next: Option<(Effect, Reason)>,
}

impl Told {
    fn add(&mut self, finding: Finding) {
        let ranked = (finding.effect, finding);
        let Err(place) = self.worst.binary_search(&ranked) else { return };
        self.worst.insert(place, ranked);
        if self.worst.len() > TOLD
            && let Some((effect, other)) = self.worst.pop()
        {
            let mut digest = DefaultHasher::new();
            other.hash(&mut digest);
            self.others.insert(digest.finish());
            let rank = (effect, other.reason);
            self.next = Some(self.next.map_or(rank, |next| next.min(rank)));
        }
    }

    fn into_findings(self, resource: ResourceRef) -> impl Iterator<Item = Finding> {
        let count = self.others.len();
        let others = self.next.map(|(effect, reason)| {
            let problems = if count == 1 { "problem" } else { "problems" };
            Finding {
                field: FieldRef::new(resource, "metadata.name"),
                reason,
                message: format!(
                    "{count} more {problems} of it, none of them worse, are not listed"
                ),
                remedy: "Correct what is listed; the others are listed then.".to_owned(),
                effect,
            }
        });
        self.worst.into_iter().map(|(_, finding)| finding).chain(others)
    }
}

/// A problem whose object is known from its surroundings.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    pub(crate) path: String,
    pub(crate) message: String,
    pub(crate) remedy: String,
}

impl Problem {
    /// A problem; what a stranger wrote into the manifest cannot break the line that tells of it.
    pub(crate) fn new(
        path: impl Into<String>,
        message: impl AsRef<str>,
        remedy: impl AsRef<str>,
    ) -> Self {
        let shown = |text: &str| printable(text).to_string();
        Self { path: path.into(), message: shown(message.as_ref()), remedy: shown(remedy.as_ref()) }
    }

    /// The remedy, if it is not to correct the field: nothing is wrong with what an object is called,
    /// but with the object as a whole.
    pub(crate) fn remedy_of_object(&self) -> Option<Arc<str>> {
        self.path.starts_with("metadata.name").then(|| self.remedy.as_str().into())
    }

    pub(crate) fn field(&self, resource: &ResourceRef) -> FieldRef {
        FieldRef::new(resource.clone(), self.path.as_str())
    }
}

impl Findings {
    /// From now on nothing more is told about an object.
    pub(crate) fn mute(&mut self, resource: ResourceRef) {
        self.muted.insert(resource);
    }

    pub(crate) fn add(
        &mut self,
        resource: &ResourceRef,
        reason: Reason,
        effect: Effect,
        problem: Problem,
    ) {
        if !self.muted.is_empty() && self.muted.contains(resource) {
            return;
        }
        let field = problem.field(resource);
        let Problem { message, remedy, .. } = problem;
        let finding = Finding { field, reason, message, remedy, effect };
        self.objects.entry(resource.clone()).or_default().add(finding);
    }

    /// All findings in the order of objects and fields, each once; of an object with very many the
    /// worst.
    pub(crate) fn into_sorted(self) -> Vec<Finding> {
        let objects = self.objects.into_iter();
        let mut all: Vec<_> =
            objects.flat_map(|(resource, told)| told.into_findings(resource)).collect();
        all.sort();
        all
    }
}

/// The text with the period that ends it, unless it is a question.
pub fn sentence(text: &str) -> impl fmt::Display + '_ {
    let end = if text.ends_with(['?', '.']) { "" } else { "." };
    fmt::from_fn(move |f| write!(f, "{text}{end}"))
}

/// The text as the beginning of a sentence.
pub(crate) fn capitalised(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters.next().map(|first| first.to_uppercase().to_string());
    first.unwrap_or_default() + characters.as_str()
}
