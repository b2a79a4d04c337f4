//! Which kinds are read, and what is probably meant where none of them is named.

use decision::refs::Kind;

/// The API group of our own kinds.
pub(super) const GROUP: &str = "whygate.dev/";

/// The kinds that are read, with their only version.
const KINDS: [(&str, Kind); 10] = [
    ("networking.k8s.io/v1", Kind::Ingress),
    ("networking.k8s.io/v1", Kind::IngressClass),
    ("whygate.dev/v1alpha1", Kind::AccessPolicy),
    ("whygate.dev/v1alpha1", Kind::AccessPlan),
    ("whygate.dev/v1alpha1", Kind::AccessSubscription),
    ("v1", Kind::Service),
    ("v1", Kind::Secret),
    ("v1", Kind::ConfigMap),
    ("v1", Kind::Namespace),
    ("discovery.k8s.io/v1", Kind::EndpointSlice),
];

/// What the kind of a document is.
pub(super) enum Known {
    /// A kind that is read.
    Kind(Kind),
    /// A kind that this program has no use for.
    Unused,
    /// None, but it may have been meant as one.
    Problem { message: String, remedy: String },
}

/// The kind that a document names.
pub(super) fn known(version: &str, kind: &str) -> Known {
    if version.is_empty() || kind.is_empty() {
        let message = "not a manifest: `apiVersion` or `kind` is missing".to_owned();
        return Known::Problem { message, remedy: "Give both, as texts.".to_owned() };
    }
    let same_kind = KINDS.iter().find(|(_, known)| known.as_str().eq_ignore_ascii_case(kind));
    match same_kind {
        Some((served, known)) if known.as_str() != kind && near(group(version), group(served)) => {
            Known::Problem {
                message: format!("`{kind}` is not a kind"),
                remedy: format!("Write `kind: {known}`."),
            }
        }
        Some((served, known)) if *served == version => Known::Kind(*known),
        // An unknown version of ours is decoded, and refused with what it names.
        Some((served, known)) if version.starts_with(GROUP) && served.starts_with(GROUP) => {
            Known::Kind(*known)
        }
        Some((served, _)) if near(group(version), group(served)) => Known::Problem {
            message: format!("`{kind}` of version `{version}` is not read"),
            remedy: format!("Write `apiVersion: {served}`."),
        },
        None if version.starts_with(GROUP) => {
            let ours: Vec<_> = KINDS
                .iter()
                .filter(|(served, _)| served.starts_with(GROUP))
                .map(|(_, kind)| kind.as_str())
                .collect();
            let otherwise = format!("The kinds of this group are `{}`.", ours.join("`, `"));
            Known::Problem {
                message: format!("`{kind}` is not a kind of whygate.dev"),
                remedy: match crds::nearest(kind, &ours) {
                    Some(nearest) => format!("Write `{nearest}`. {otherwise}"),
                    None => otherwise,
                },
            }
        }
        Some(_) | None => Known::Unused,
    }
}

/// The group of an `apiVersion`; empty for the core group.
fn group(version: &str) -> &str {
    version.rsplit_once('/').map_or("", |(group, _)| group)
}

/// Whether a group was probably meant to be another: a typing error, the core group, or the group
/// that Ingress had once.
fn near(written: &str, meant: &str) -> bool {
    let typing_error = || !meant.is_empty() && strsim::osa_distance(written, meant) <= 4;
    written.is_empty() || written == "extensions" || typing_error()
}

/// Whether an object of an unknown kind may have been meant as a policy.
pub(super) fn is_like_a_policy(kind: &str) -> bool {
    if kind.is_empty() {
        return true;
    }
    let other = [Kind::AccessPlan, Kind::AccessSubscription].map(Kind::as_str);
    let distance = |known: &str| strsim::osa_distance(&kind.to_lowercase(), &known.to_lowercase());
    let policy = distance(Kind::AccessPolicy.as_str());
    other.into_iter().all(|known| policy <= distance(known))
}

/// Whether objects of a kind live in a namespace.
pub(super) fn is_namespaced(kind: Kind) -> bool {
    match kind {
        Kind::IngressClass | Kind::Namespace => false,
        Kind::Ingress
        | Kind::AccessPolicy
        | Kind::AccessPlan
        | Kind::AccessSubscription
        | Kind::Service
        | Kind::Secret
        | Kind::ConfigMap
        | Kind::EndpointSlice => true,
    }
}
