//! The reasons of findings: what is wrong with manifests, rather than with a request.

use compile::finding::Reason;

/// What there is to say about a reason.
pub(super) struct Explained {
    /// What was found.
    pub(super) meaning: &'static str,
    /// What to do about it.
    pub(super) remedy: &'static str,
}

/// Every reason, in the order of the documentation.
pub(super) fn all() -> impl Iterator<Item = Reason> {
    std::iter::successors(Some(Reason::PolicyInvalid), |reason| after(*reason))
}

/// The reason that is documented behind this one. A new one that nobody explains does not compile.
fn after(reason: Reason) -> Option<Reason> {
    Some(match reason {
        Reason::PolicyInvalid => Reason::PolicyMissing,
        Reason::PolicyMissing => Reason::PolicyUnenforceable,
        Reason::PolicyUnenforceable => Reason::TargetNotFound,
        Reason::TargetNotFound => Reason::RouteInvalid,
        Reason::RouteInvalid => Reason::HostConflict,
        Reason::HostConflict => Reason::BackendMissing,
        Reason::BackendMissing => Reason::CertificateInvalid,
        Reason::CertificateInvalid => Reason::PlanInvalid,
        Reason::PlanInvalid => Reason::SubscriptionInvalid,
        Reason::SubscriptionInvalid => Reason::SecretMissing,
        Reason::SecretMissing => Reason::PolicyBypassed,
        Reason::PolicyBypassed => Reason::PolicyWithdrawn,
        Reason::PolicyWithdrawn => Reason::PostureInvalid,
        Reason::PostureInvalid => Reason::ClassConflict,
        Reason::ClassConflict => return None,
    })
}

/// What a reason means and what to do.
pub(super) fn explained(reason: Reason) -> Explained {
    let (meaning, remedy) = match reason {
        Reason::PolicyInvalid => (
            "A field of an AccessPolicy cannot be understood. Everything that the policy covers is refused with 503, because what it would admit is unknown.",
            "Correct the field that the finding names; a misspelt field comes with the nearest known one.",
        ),
        Reason::PolicyMissing => (
            "A policy that `whygate.dev/require-policy` demands does not exist, is not accepted, is in shadow, or does not cover the Ingress. Its requests are refused with 503.",
            "Apply or correct the policy that the finding names, or remove its name from the annotation.",
        ),
        Reason::PolicyUnenforceable => (
            "A manifest asks for protection that cannot be given: an annotation of another controller, an unknown `whygate.dev/` key, or a kind that may not be read. What it would protect is refused with 503.",
            "Write the protection as an AccessPolicy, as the finding says, and remove the annotation; or grant the right that it names.",
        ),
        Reason::TargetNotFound => (
            "`targetRefs` of a policy names an Ingress that does not exist in the policy's namespace, or that has another class. The policy protects nothing there, so a route that was meant may be open.",
            "Correct `spec.targetRefs[].name`, or the class of the Ingress.",
        ),
        Reason::RouteInvalid => (
            "A rule, path or annotation of an Ingress cannot be understood. Its requests are refused with 503 and never fall through to a wider route. A warning of this reason closes nothing: what it names has no effect, or perhaps another one than was meant.",
            "Correct the field that the finding names.",
        ),
        Reason::HostConflict => (
            "The host belongs to another namespace, or an older Ingress has the same host and path. The part of the Ingress that the finding names gets no traffic.",
            "Use another host or path, or let the owner of the host share it by `whygate.dev/share-host-with`; `--host-namespaces` settles who owns a host.",
        ),
        Reason::BackendMissing => (
            "A rule names a Service or a port that does not exist, or a Service that cannot be proxied to; or, in a directory of manifests, no EndpointSlice names the Service. Admitted requests get 503.",
            "Create what the finding names, or correct `backend.service` of the rule.",
        ),
        Reason::CertificateInvalid => (
            "A Secret of `spec.tls` is missing, is not of type `kubernetes.io/tls`, holds no usable pair of certificate and key, or is about to expire. Without an earlier certificate handshakes for its hosts fail.",
            "Create or renew the Secret that the finding names.",
        ),
        Reason::PlanInvalid => (
            "An AccessPlan cannot be understood, or a policy names one that does not exist in its namespace. No subscription to it admits anybody.",
            "Correct the plan, or the name of it in `subscription.plans`.",
        ),
        Reason::SubscriptionInvalid => (
            "An AccessSubscription cannot count: its plan does not exist or does not admit its namespace, or a field is wrong. Its keys are refused; other callers are not concerned.",
            "Correct the field that the finding names.",
        ),
        Reason::SecretMissing => (
            "A Secret that a policy names does not exist, lacks the label `whygate.dev/use`, or holds no readable key set. Tokens that need it cannot be verified.",
            "Create or correct the Secret, and give it the label.",
        ),
        Reason::PolicyBypassed => (
            "A backend that a policy protects can also be reached by a route without it, or a rule can be evaded.",
            "Cover the other route by the policy, too, or remove that route; if both are meant, nothing needs to be done.",
        ),
        Reason::PolicyWithdrawn => (
            "What was enforced while the program ran is enforced no longer: a policy only counts now, or an Ingress is open because what protected it is gone.",
            "Apply the policy again if that was not meant.",
        ),
        Reason::PostureInvalid => (
            "An annotation of an IngressClass or Namespace under `whygate.dev/` is not understood, and counts as `whygate.dev/posture: Closed`.",
            "Write `whygate.dev/posture: Closed` or `Open`.",
        ),
        Reason::ClassConflict => (
            "The IngressClass with the name of `--ingress-class` names another controller in `spec.controller`. Its Ingresses are left to that one.",
            "Start the program with the class or the `--controller-name` that is meant, or create the IngressClass anew: `spec.controller` cannot be changed.",
        ),
    };
    Explained { meaning, remedy }
}
